//! Model servers on this very machine: a local Ollama or llama.cpp that answers is served as if it had been configured.
//!
//! Only their own ports on 127.0.0.1 are asked, once, when the process starts, and only if the operator hasn't configured
//! or forbidden it. What answers must say what it is: other things listen on these ports too.

use std::time::Duration;

use futures::future::join_all;
use polyphony_platform::config::{Config, ProviderConfig};
use reqwest::{Client, redirect};
use serde_json::Value;
use url::Url;

use crate::listing;

/// How long a server on this machine may take to say what it is.
const PATIENCE: Duration = Duration::from_millis(500);
/// Most models that are taken over.
const MOST_MODELS: usize = 100;

/// Where a server usually listens.
struct Place {
    provider: &'static str,
    port: u16,
}

const PLACES: [Place; 3] = [
    Place { provider: "ollama", port: 11434 },
    Place { provider: "llamacpp", port: 8081 },
    Place { provider: "llamacpp", port: 8080 },
];

/// Adds what answers to the configuration, with its models. Does nothing where the operator turned it off.
pub async fn discover(config: &mut Config) {
    if !config.egress.discover_local {
        return;
    }
    // Never through a proxy, never elsewhere.
    let client = Client::builder().redirect(redirect::Policy::none()).no_proxy().timeout(PATIENCE).build();
    let Ok(client) = client else { return };
    let asked = PLACES.iter().filter(|place| !config.providers.contains_key(place.provider));
    let found = join_all(asked.map(|place| ask(&client, place.provider, place.port))).await;
    for (provider, found) in found.into_iter().flatten() {
        tracing::info!(provider, models = found.models, "found a model server on this machine");
        config.providers.entry(provider.to_owned()).or_insert(found);
    }
}

/// Asks one place; `None` where nothing answers, or something else.
async fn ask(client: &Client, provider: &'static str, port: u16) -> Option<(&'static str, ProviderConfig)> {
    let base_url = Url::parse(&format!("http://127.0.0.1:{port}/v1")).ok()?;
    let answer = client.get(format!("{base_url}/models")).send().await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    let body = answer.bytes().await.ok()?;
    let names = models(provider, &body)?;
    let found = ProviderConfig { base_url: Some(base_url), models: names.join(","), ..ProviderConfig::default() };
    Some((provider, found))
}

/// The names in the list of a server that is what it should be.
fn models(provider: &str, body: &[u8]) -> Option<Vec<String>> {
    let list: Value = serde_json::from_slice(body).ok()?;
    let entries = list.get("data")?.as_array()?;
    let owner = |entry: &Value| entry.get("owned_by").and_then(Value::as_str).map(str::to_owned);
    let is_it = entries.iter().all(|entry| match provider {
        "llamacpp" => owner(entry).as_deref() == Some("llamacpp"),
        // Ollama names the library that a model came from.
        _ => owner(entry).is_some(),
    });
    let names = listing::models(body)?.into_iter().map(|model| model.name);
    // A comma would be two names.
    let names: Vec<String> = names.filter(|name| !name.contains(',')).take(MOST_MODELS).collect();
    (is_it && !names.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_is_what_it_should_be_is_taken() {
        let llamacpp = br#"{"data":[{"id":"tiny","owned_by":"llamacpp"}]}"#;
        assert_eq!(models("llamacpp", llamacpp), Some(vec!["tiny".to_owned()]));
        let other = br#"{"data":[{"id":"gpt-4o","owned_by":"openai"}]}"#;
        assert_eq!(models("llamacpp", other), None);
        let ollama =
            br#"{"object":"list","data":[{"id":"qwen3:0.6b","owned_by":"library"},{"id":"a,b","owned_by":"me"}]}"#;
        assert_eq!(models("ollama", ollama), Some(vec!["qwen3:0.6b".to_owned()]));
        for nothing in [&b"<html>"[..], b"{}", br#"{"data":[]}"#, br#"{"error":{"code":"UNAUTHORIZED"}}"#] {
            assert_eq!(models("ollama", nothing), None);
        }
    }
}
