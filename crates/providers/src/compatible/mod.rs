//! Every OpenAI-shaped host: hosted ones, and Ollama, llama.cpp or vLLM on one's own machine. Their differences are
//! data ([`Quirks`]), not code.

mod convert;
mod presets;
mod wire;

use std::{collections::VecDeque, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::{Client, Response, header};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use url::Url;

pub use self::{
    convert::Converter,
    presets::{Preset, Quirks, preset, presets},
};
use crate::{
    Adapter, AdapterEvent, AdapterStream, Conversation, ErrorKind, Options, Part, ProviderError, ProviderKey, Rendered,
    Role,
};

/// Most bytes of an error body that are read.
const LONGEST_ERROR: usize = 64 * 1024;
/// Most bytes of an answer that comes as one JSON object although a stream was asked for.
const LONGEST_JSON: usize = 8 << 20;

/// How long to wait. There is no limit on a whole answer: a healthy one may take many minutes.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the request to the head of the answer.
    pub head: Duration,
    /// Between two reads of any bytes.
    pub idle: Duration,
    /// Between two pieces of content: comments and pings alone don't keep an answer alive.
    pub content: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { head: Duration::from_secs(90), idle: Duration::from_secs(60), content: Duration::from_secs(180) }
    }
}

/// The adapter of one host.
pub struct Compatible {
    provider: String,
    endpoint: Url,
    quirks: Quirks,
    timeouts: Timeouts,
    client: Client,
}

impl Compatible {
    /// An adapter for the host at `base_url`, as the provider's own SDK would take it (with its `/v1`).
    pub fn new(provider: &str, base_url: &Url, quirks: Quirks, client: Client) -> Self {
        let mut endpoint = base_url.clone();
        let path = format!("{}/chat/completions", base_url.path().trim_end_matches('/'));
        endpoint.set_path(&path);
        Self { provider: provider.to_owned(), endpoint, quirks, timeouts: Timeouts::default(), client }
    }

    /// With other waits.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    async fn send(&self, rendered: Rendered, key: Option<&ProviderKey>) -> Result<Response, ProviderError> {
        let mut request = self
            .client
            .post(self.endpoint.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "text/event-stream")
            .body(rendered.body);
        if let Some(key) = key {
            let bearer = key.bearer().ok_or_else(|| {
                ProviderError::new(ErrorKind::InvalidKey, "the key has characters that no key can have")
            })?;
            request = request.header(header::AUTHORIZATION, bearer);
        }
        timeout(self.timeouts.head, request.send())
            .await
            .map_err(|_| ProviderError::of(ErrorKind::Timeout))?
            .map_err(|error| ProviderError::transport(&error))
    }
}

/// Reads a body up to `limit` bytes.
async fn bounded(mut response: Response, limit: usize, wait: Duration) -> Result<Vec<u8>, ProviderError> {
    let mut body = Vec::new();
    while body.len() <= limit {
        let chunk = timeout(wait, response.chunk()).await.map_err(|_| ProviderError::of(ErrorKind::Timeout))?;
        match chunk.map_err(|error| ProviderError::transport(&error))? {
            Some(bytes) => body.extend_from_slice(&bytes),
            None => return Ok(body),
        }
    }
    Err(ProviderError::of(ErrorKind::ResponseTooLarge))
}

#[async_trait]
impl Adapter for Compatible {
    fn provider(&self) -> &str {
        &self.provider
    }

    fn render(&self, conversation: &Conversation, options: &Options) -> Rendered {
        let mut messages = Vec::with_capacity(conversation.messages.len() + 1);
        if let Some(system) = &conversation.system {
            messages.push(json!({"role": self.quirks.system_role, "content": system}));
        }
        for message in &conversation.messages {
            let role = match message.role {
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            let text: String = message.parts.iter().map(|Part::Text(text)| text.as_str()).collect();
            messages.push(json!({"role": role, "content": text}));
        }
        let mut body = json!({"model": options.model, "messages": messages, "stream": true});
        if self.quirks.usage_on_request {
            body["stream_options"] = json!({"include_usage": true});
        }
        if let Some(most) = options.max_tokens {
            body[self.quirks.max_tokens_field] = most.into();
        }
        // Through text: the nearest double of 0.7_f32 is not 0.7.
        for (name, value) in [("temperature", options.temperature), ("top_p", options.top_p)] {
            if let Some(value) = value {
                body[name] = serde_json::from_str(&value.to_string()).unwrap_or(Value::Null);
            }
        }
        Rendered { body: Bytes::from(body.to_string()), losses: vec![] }
    }

    async fn stream(&self, rendered: Rendered, key: Option<&ProviderKey>) -> Result<AdapterStream, ProviderError> {
        let response = self.send(rendered, key).await?;
        let status = response.status();
        if !status.is_success() {
            let headers = response.headers().clone();
            let body = bounded(response, LONGEST_ERROR, self.timeouts.idle).await.unwrap_or_default();
            return Err(ProviderError::http(status, &headers, &body));
        }
        let is_json = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("application/json"));
        let mut converter = Converter::new(self.quirks);
        if is_json {
            let body = bounded(response, LONGEST_JSON, self.timeouts.content).await?;
            let mut events = Vec::new();
            converter.whole(&body, &mut events);
            return Ok(stream::iter(events).boxed());
        }
        let reading = Reading {
            response,
            converter,
            ready: VecDeque::new(),
            ended: false,
            timeouts: self.timeouts,
            content: Instant::now(),
        };
        Ok(stream::unfold(reading, Reading::next).boxed())
    }
}

/// An answer that is being read.
struct Reading {
    response: Response,
    converter: Converter,
    ready: VecDeque<Result<AdapterEvent, ProviderError>>,
    ended: bool,
    timeouts: Timeouts,
    /// When content came last.
    content: Instant,
}

impl Reading {
    async fn next(mut self) -> Option<(Result<AdapterEvent, ProviderError>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                // Nothing that comes after an error counts.
                if event.is_err() {
                    self.ended = true;
                    self.ready.clear();
                }
                return Some((event, self));
            }
            if self.ended {
                return None;
            }
            self.read().await;
        }
    }

    async fn read(&mut self) {
        let wait = self.timeouts.idle.min(self.timeouts.content.saturating_sub(self.content.elapsed()));
        let mut events = Vec::new();
        match timeout(wait, self.response.chunk()).await {
            Err(_) => events.push(Err(ProviderError::of(ErrorKind::Timeout))),
            Ok(Err(error)) => {
                // A connection that breaks after the end marker was read has nothing left to say.
                if !self.converter.is_finished() {
                    events
                        .push(Err(ProviderError { kind: ErrorKind::Interrupted, ..ProviderError::transport(&error) }));
                } else {
                    self.converter.finish(&mut events);
                }
                self.ended = true;
            }
            Ok(Ok(Some(bytes))) => self.converter.feed(&bytes, &mut events),
            Ok(Ok(None)) => {
                self.converter.finish(&mut events);
                self.ended = true;
            }
        }
        if self.converter.is_done() {
            self.converter.finish(&mut events);
            self.ended = true;
        }
        if !events.is_empty() {
            self.content = Instant::now();
        }
        self.ready.extend(events);
    }
}
