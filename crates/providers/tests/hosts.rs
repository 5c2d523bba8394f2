//! What the adapters send over the wire: paths, keys and headers, as each provider wants them.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, Uri},
};
use futures::StreamExt;
use polyphony_domain::content::{Conversation, Message, Role};
use polyphony_providers::{
    Adapter, AdapterEvent, ErrorKind, Options, ProviderKey, anthropic::Anthropic, compatible::preset, gemini::Gemini,
    openai::OpenAi,
};
use serde_json::Value;
use tokio::net::TcpListener;
use url::Url;

/// What was asked: method, path with query, headers, body.
type Asked = Arc<Mutex<Vec<(Method, String, HeaderMap, Bytes)>>>;

async fn note(
    State(asked): State<Asked>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> ([(&'static str, &'static str); 2], String) {
    let path = uri.to_string();
    let answer =
        if path.contains("count") { r#"{"input_tokens":42,"totalTokens":42}"# } else { r#"{"data":[{"id":"m"}]}"# };
    asked.lock().unwrap().push((method, path, headers, body));
    ([("content-type", "application/json"), ("x-ratelimit-remaining-requests", "7")], answer.to_owned())
}

async fn serve() -> (Url, Asked) {
    let asked = Asked::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(axum::serve(listener, Router::new().fallback(note).with_state(asked.clone())).into_future());
    (url, asked)
}

fn client() -> reqwest::Client {
    polyphony_platform::http::install_crypto_provider();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn key() -> ProviderKey {
    ProviderKey::new(b" sk-secret\n".to_vec())
}

fn conversation() -> Conversation {
    Conversation { system: None, messages: vec![Message::text(Role::User, "hi")] }
}

fn options(model: &str) -> Options {
    Options { model: model.to_owned(), ..Options::default() }
}

/// Asks for an answer, the models, a check of the key and a count; the paths that were asked, and the last headers.
async fn exercise(adapter: &dyn Adapter, model: &str, asked: &Asked) -> (Vec<String>, HeaderMap) {
    let rendered = adapter.render(&conversation(), &options(model));
    let mut stream = adapter.stream(rendered, Some(&key())).await.unwrap();
    // What the provider still allows comes first; then, that this was no answer.
    assert!(
        matches!(stream.next().await, Some(Ok(AdapterEvent::Limits(limits))) if limits.requests.unwrap().remaining == 7)
    );
    assert_eq!(stream.next().await.unwrap().unwrap_err().kind, ErrorKind::Protocol);
    assert_eq!(adapter.list_models(Some(&key())).await.unwrap()[0].name, "m");
    adapter.validate_key(&key()).await.unwrap();
    let counted = adapter.count_tokens(&conversation(), &options(model), Some(&key())).await.unwrap();
    assert_eq!(counted.is_some(), adapter.capabilities().count_tokens);
    assert!(counted.is_none_or(|tokens| tokens == 42));
    let mut asked = asked.lock().unwrap();
    let headers = asked.last().unwrap().2.clone();
    (asked.drain(..).map(|(method, path, ..)| format!("{method} {path}")).collect(), headers)
}

#[tokio::test]
async fn every_provider_is_asked_at_its_paths_with_its_key() {
    let (url, asked) = serve().await;
    let with_version = url.join("/v1").unwrap();
    let openai = OpenAi::new("openai", &with_version, preset("openai").unwrap().quirks, client());
    let (paths, headers) = exercise(&openai, "gpt-4o", &asked).await;
    assert_eq!(paths, ["POST /v1/chat/completions", "GET /v1/models", "GET /v1/models"]);
    assert_eq!(headers["authorization"], "Bearer sk-secret");
    assert_eq!(exercise(&openai, "o3", &asked).await.0[0], "POST /v1/responses");
    // With or without the version path that its own SDK leaves out.
    for base in [&url, &with_version] {
        let (paths, headers) =
            exercise(&Anthropic::new("anthropic", base, client()), "claude-sonnet-4-5", &asked).await;
        let expected = [
            "POST /v1/messages",
            "GET /v1/models?limit=1000",
            "GET /v1/models?limit=1",
            "POST /v1/messages/count_tokens",
        ];
        assert_eq!(paths, expected);
        assert_eq!(
            (&headers["x-api-key"], &headers["anthropic-version"]),
            (&"sk-secret".parse().unwrap(), &"2023-06-01".parse().unwrap())
        );
        assert!(headers.get("authorization").is_none());
    }
    let (paths, headers) = exercise(&Gemini::new("gemini", &url, client()), "models/gemini-2.5-flash", &asked).await;
    let expected = [
        "POST /v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        "GET /v1beta/models?pageSize=1000",
        "GET /v1beta/models?pageSize=1",
        "POST /v1beta/models/gemini-2.5-flash:countTokens",
    ];
    assert_eq!(paths, expected);
    assert_eq!(headers["x-goog-api-key"], "sk-secret");
}

#[tokio::test]
async fn a_models_name_stays_within_its_path() {
    let (url, asked) = serve().await;
    let gemini = Gemini::new("gemini", &url, client());
    let rendered = gemini.render(&conversation(), &options("../../v1/files?key=x#"));
    let _ = gemini.stream(rendered, None).await.unwrap().next().await;
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0].1, "/v1beta/models/..%2F..%2Fv1%2Ffiles%3Fkey%3Dx%23:streamGenerateContent?alt=sse");
}

#[tokio::test]
async fn a_count_carries_the_prompt_and_nothing_of_the_answer() {
    let (url, asked) = serve().await;
    let anthropic = Anthropic::new("anthropic", &url, client());
    anthropic.count_tokens(&conversation(), &options("claude-sonnet-4-5"), None).await.unwrap();
    let body: Value = serde_json::from_slice(&asked.lock().unwrap()[0].3).unwrap();
    let fields: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["messages", "model"]);
}
