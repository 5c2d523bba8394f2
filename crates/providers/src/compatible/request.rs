//! What is sent to the host, and its answers to short questions.

use bytes::Bytes;
use polyphony_domain::content::{Conversation, Role};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Quirks;
use crate::{Loss, Options, Rendered};

/// Writes the request of an answer.
pub(super) fn render(quirks: &Quirks, conversation: &Conversation, options: &Options) -> Rendered {
    let mut losses = Vec::new();
    let mut messages = Vec::with_capacity(conversation.messages.len() + 1);
    if let Some(system) = &conversation.system {
        messages.push(json!({"role": quirks.system_role, "content": system.as_str()}));
    }
    for message in &conversation.messages {
        let role = match message.role {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => quirks.system_role,
        };
        let text: String = message.texts().collect();
        messages.push(json!({"role": role, "content": text}));
    }
    let mut body = json!({"model": options.model, "messages": messages, "stream": true});
    if quirks.usage_on_request {
        body["stream_options"] = json!({"include_usage": true});
    }
    if let Some(most) = options.params.max_tokens {
        body[quirks.max_tokens_field] = most.into();
    }
    let fixed = quirks.fixed_sampling.iter().any(|beginning| options.model.starts_with(beginning));
    for (name, value) in [("temperature", options.params.temperature), ("top_p", options.params.top_p)] {
        let Some(value) = value else { continue };
        if fixed {
            losses.push(Loss { what: format!("{name}: this model takes none") });
        } else {
            // Through text: the nearest double of 0.7_f32 is not 0.7.
            body[name] = serde_json::from_str(&value.to_string()).unwrap_or(Value::Null);
        }
    }
    Rendered { body: Bytes::from(body.to_string()), losses }
}

/// Reads a list of models: `{data: [{id}]}`, `{models: [{name}]}`, or the bare array.
pub(super) fn models(body: &[u8]) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum List {
        Data { data: Vec<Entry> },
        Models { models: Vec<Entry> },
        Bare(Vec<Entry>),
    }
    #[derive(Deserialize)]
    struct Entry {
        id: Option<String>,
        name: Option<String>,
    }
    let (List::Data { data: list } | List::Models { models: list } | List::Bare(list)) =
        serde_json::from_slice(body).ok()?;
    Some(list.into_iter().filter_map(|entry| entry.id.or(entry.name)).collect())
}

#[cfg(test)]
mod tests {
    use polyphony_domain::{content::Message, turn::Params};

    use super::*;
    use crate::compatible::preset;

    fn body(quirks: &Quirks, model: &str) -> (Value, Vec<Loss>) {
        let conversation = Conversation {
            system: Some("Be brief.".into()),
            messages: vec![
                Message::text(Role::User, "你好"),
                Message::text(Role::Assistant, "Hello."),
                Message::text(Role::User, "Why?"),
            ],
        };
        let params = Params { temperature: Some(0.7), top_p: Some(0.9), max_tokens: Some(9), ..Params::default() };
        let options = Options { model: model.to_owned(), params, ..Options::default() };
        let rendered = render(quirks, &conversation, &options);
        (serde_json::from_slice(&rendered.body).unwrap(), rendered.losses)
    }

    #[test]
    fn the_common_dialect_is_written() {
        let (body, losses) = body(&Quirks::COMMON, "m");
        let expected = json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 9,
            "temperature": 0.7, "top_p": 0.9, "messages": [{"role": "system", "content": "Be brief."},
            {"role": "user", "content": "你好"}, {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Why?"}]});
        assert_eq!((body, losses), (expected, vec![]));
    }

    #[test]
    fn what_a_host_refuses_is_not_sent_and_the_loss_is_said() {
        let (mistral, _) = body(&preset("mistral").unwrap().quirks, "mistral-large");
        assert!(mistral.get("stream_options").is_none());
        let (openai, losses) = body(&preset("openai").unwrap().quirks, "gpt-5-mini");
        assert!(openai.get("temperature").is_none() && openai.get("max_tokens").is_none());
        assert_eq!((openai["max_completion_tokens"].as_u64(), losses.len()), (Some(9), 2));
        assert!(body(&preset("openai").unwrap().quirks, "gpt-4o").1.is_empty());
    }

    #[test]
    fn lists_of_models_are_read_in_every_form() {
        let forms = [
            r#"{"object":"list","data":[{"id":"a"},{"id":"b"}]}"#,
            r#"{"models":[{"name":"a"},{"name":"b"}]}"#,
            r#"[{"id":"a"},{"id":"b"}]"#,
        ];
        for form in forms {
            assert_eq!(models(form.as_bytes()).unwrap(), ["a", "b"]);
        }
        assert_eq!(models(b"<html>"), None);
    }
}
