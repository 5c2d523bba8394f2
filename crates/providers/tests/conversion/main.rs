//! Conversations on their way from one provider to another, and what each of them takes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod going_on;
mod matrix;
mod pairs;
mod repair;
mod valid;

use std::sync::Arc;

use polyphony_domain::content::{Conversation, Message, Part};
use polyphony_providers::{
    Adapter, AdapterEvent, Converter, Events, Options,
    anthropic::{self, Anthropic},
    compatible::{self, Compatible, preset},
    demo::Demo,
    gemini::{self, Gemini},
    openai::{self, Api, OpenAi},
};
use serde_json::Value;
use url::Url;

/// A dialect to speak: an adapter with one of its models.
struct Side {
    name: &'static str,
    model: &'static str,
    adapter: Arc<dyn Adapter>,
    /// Reads an answer; none for the demo, which has no wire.
    converter: Option<fn() -> Converter>,
}

impl Side {
    fn options(&self) -> Options {
        Options { model: self.model.to_owned(), ..Options::default() }
    }

    fn body(&self, conversation: &Conversation, options: &Options) -> Value {
        serde_json::from_slice(&self.adapter.render(conversation, options).body).unwrap()
    }
}

fn host(name: &'static str, model: &'static str) -> Side {
    let (url, client) = (Url::parse("http://127.0.0.1:9/v1").unwrap(), reqwest::Client::new());
    let adapter = Arc::new(Compatible::new(name, &url, preset(name).unwrap().quirks, client));
    Side { name, model, adapter, converter: Some(|| compatible::converter(&preset("deepseek").unwrap().quirks)) }
}

/// All of them.
fn sides() -> Vec<Side> {
    polyphony_platform::http::install_crypto_provider();
    let url = Url::parse("http://127.0.0.1:9").unwrap();
    let client = reqwest::Client::new();
    let quirks = preset("openai").unwrap().quirks;
    let openai: Arc<dyn Adapter> = Arc::new(OpenAi::new("openai", &url, quirks, client.clone()));
    vec![
        Side {
            name: "openai (chat)",
            model: "gpt-4o",
            adapter: openai.clone(),
            converter: Some(|| openai::converter(Api::Chat, &preset("openai").unwrap().quirks)),
        },
        Side {
            name: "openai (responses)",
            model: "gpt-5",
            adapter: openai,
            converter: Some(|| openai::converter(Api::Responses, &preset("openai").unwrap().quirks)),
        },
        Side {
            name: "anthropic",
            model: "claude-sonnet-4-5",
            adapter: Arc::new(Anthropic::new("anthropic", &url, client.clone())),
            converter: Some(anthropic::converter),
        },
        Side {
            name: "gemini",
            model: "gemini-3-pro",
            adapter: Arc::new(Gemini::new("gemini", &url, client)),
            converter: Some(gemini::converter),
        },
        host("deepseek", "deepseek-reasoner"),
        host("mistral", "mistral-large"),
        host("ollama", "qwen3"),
        Side { name: "demo", model: "demo", adapter: Arc::new(Demo), converter: None },
    ]
}

/// The message that an answer leaves, as it is stored: the shown reasoning and text, then what came besides.
fn message(side: &Side, answer: &str) -> Message {
    let mut converter = side.converter.unwrap()();
    let mut events = Events::new();
    converter.feed(answer.as_bytes(), &mut events);
    converter.finish(&mut events);
    let (mut reasoning, mut text, mut parts) = (String::new(), String::new(), Vec::new());
    for event in events {
        match event.unwrap_or_else(|error| panic!("{}: {error}", side.name)) {
            AdapterEvent::Text(piece) => text += &piece,
            AdapterEvent::Reasoning(piece) => reasoning += &piece,
            AdapterEvent::Part(part) => parts.push(part),
            _ => {}
        }
    }
    if !text.is_empty() {
        parts.insert(0, Part::text(text));
    }
    if !reasoning.is_empty() {
        parts.insert(0, Part::Reasoning { text: reasoning.into(), opaque: None });
    }
    let provider = Some(side.adapter.provider().to_owned());
    Message {
        role: polyphony_domain::content::Role::Assistant,
        parts,
        message_id: Some(uuid::Uuid::now_v7()),
        provider,
    }
}
