//! The adapters against independent emulators of their providers, and against a real llama.cpp server.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod aimock;
mod llamacpp;
mod llmock;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::StreamExt;
use polyphony_devstack::{Emulators, Guarded, ports::Port, random};
use polyphony_domain::content::{Conversation, Message, Part, Role, Tool, ToolCall};
use polyphony_providers::{
    Adapter, AdapterEvent, ErrorKind, Options, ProviderError, ProviderKey, Usage,
    anthropic::Anthropic,
    compatible::{Compatible, preset},
    gemini::Gemini,
    openai::OpenAi,
};
use url::Url;

/// An emulator on a port of its own; stopped when dropped.
struct Peer {
    process: Guarded,
    port: Port,
    folder: PathBuf,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Peer {
    /// Starts one, and waits until it answers. `None` where there is none for this machine, which was said then.
    async fn start(
        start: impl FnOnce(&Emulators, &std::path::Path, u16) -> anyhow::Result<Option<Guarded>> + Send + 'static,
    ) -> Option<Self> {
        let started = tokio::task::spawn_blocking(move || -> anyhow::Result<Option<Self>> {
            let emulators = Emulators::install()?;
            let folder = std::env::temp_dir().join(format!("polyphony-peer-{}", random::hex(6)?));
            std::fs::create_dir_all(&folder)?;
            let port = Port::free()?;
            let Some(process) = start(&emulators, &folder, port.number())? else { return Ok(None) };
            Ok(Some(Self { process, port, folder }))
        });
        let mut peer = started.await.unwrap().unwrap_or_else(|error| panic!("{error:#}"))?;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
        while tokio::net::TcpStream::connect(("127.0.0.1", peer.port.number())).await.is_err() {
            let gone = peer.process.exited().unwrap();
            assert!(gone.is_none() && tokio::time::Instant::now() < deadline, "{}", peer.process.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(peer)
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}{path}", self.port.number())).unwrap()
    }
}

fn client() -> reqwest::Client {
    polyphony_platform::http::install_crypto_provider();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

fn openai(url: &Url) -> Arc<dyn Adapter> {
    Arc::new(OpenAi::new("openai", url, preset("openai").unwrap().quirks, client()))
}

fn compatible(name: &str, url: &Url) -> Arc<dyn Adapter> {
    Arc::new(Compatible::new(name, url, preset(name).unwrap().quirks, client()))
}

fn anthropic(url: &Url) -> Arc<dyn Adapter> {
    Arc::new(Anthropic::new("anthropic", url, client()))
}

fn gemini(url: &Url) -> Arc<dyn Adapter> {
    Arc::new(Gemini::new("gemini", url, client()))
}

fn options(model: &str) -> Options {
    Options { model: model.to_owned(), ..Options::default() }
}

fn asked(text: &str) -> Conversation {
    Conversation { system: Some("Be brief.".into()), messages: vec![Message::text(Role::User, text)] }
}

fn weather() -> Tool {
    let parameters = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#.into();
    Tool { name: "get_weather".into(), description: Some("The weather of a city.".into()), parameters, strict: None }
}

/// A whole answer.
#[derive(Debug, Default)]
struct Answer {
    text: String,
    reasoning: String,
    parts: Vec<Part>,
    usage: Option<Usage>,
    finish: String,
    limits: bool,
}

impl Answer {
    fn call(&self) -> &ToolCall {
        let mut calls =
            self.parts.iter().filter_map(|part| if let Part::ToolCall(call) = part { Some(call) } else { None });
        calls.next_back().unwrap()
    }

    /// As it's kept.
    fn message(&self, adapter: &dyn Adapter) -> Message {
        let provider = Some(adapter.provider().to_owned());
        let mut parts = self.parts.clone();
        if !self.text.is_empty() {
            parts.push(Part::text(self.text.clone()));
        }
        Message { role: Role::Assistant, parts, message_id: None, provider }
    }
}

async fn ask(adapter: &dyn Adapter, conversation: &Conversation, options: &Options) -> Result<Answer, ProviderError> {
    let rendered = adapter.render(conversation, options);
    let mut stream = adapter.stream(rendered, Some(&ProviderKey::new(b"sk-test".to_vec()))).await?;
    let mut answer = Answer::default();
    while let Some(event) = stream.next().await {
        match event? {
            AdapterEvent::Text(text) => answer.text += &text,
            AdapterEvent::Reasoning(text) => answer.reasoning += &text,
            AdapterEvent::Part(part) => answer.parts.push(part),
            AdapterEvent::Usage(usage) => answer.usage = Some(usage),
            AdapterEvent::Finish(reason) => answer.finish = reason.as_str().to_owned(),
            AdapterEvent::Limits(_) => answer.limits = true,
        }
    }
    Ok(answer)
}

/// Asks as the worker does: again where the error says that it may help, after the wait that the provider named.
async fn ask_patiently(
    adapter: &dyn Adapter,
    conversation: &Conversation,
    options: &Options,
) -> Result<Answer, ProviderError> {
    let mut pause = Duration::from_millis(120);
    for _ in 0..5 {
        match ask(adapter, conversation, options).await {
            Err(error) if error.retryable() => {
                tokio::time::sleep(error.retry_after.unwrap_or(pause)).await;
                pause = pause * 2 + Duration::from_millis(30);
            }
            other => return other,
        }
    }
    panic!("five failures")
}

fn kind(result: Result<Answer, ProviderError>) -> ErrorKind {
    result.map(|answer| panic!("{answer:?}")).unwrap_err().kind
}
