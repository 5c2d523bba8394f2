//! Every OpenAI-shaped host: hosted ones, and Ollama, llama.cpp or vLLM on one's own machine. Their differences are
//! data ([`Quirks`]), not code.

mod convert;
mod output;
mod presets;
mod reading;
mod request;
mod think;
mod tools;
mod usage;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use polyphony_platform::patience;
use reqwest::{Client, RequestBuilder, Response, header};
use tokio::time::timeout;
use url::Url;

pub use self::{
    convert::Converter,
    presets::{Preset, Quirks, preset, presets},
};
use crate::{Adapter, AdapterStream, ErrorKind, Options, ProviderError, ProviderKey, Rendered};
use polyphony_domain::content::Conversation;

/// Most bytes of an error body that are read.
const LONGEST_ERROR: usize = 64 * 1024;
/// Most bytes of a list of models.
const LONGEST_LIST: usize = 8 << 20;

/// How long to wait. There is no limit on a whole answer: a healthy one may take many minutes.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the request to the head of the answer.
    pub head: Duration,
    /// Between two reads of any bytes.
    pub idle: Duration,
    /// Between two pieces of content: comments and pings alone don't keep an answer alive.
    pub content: Duration,
    /// From the finish reason to the end marker. An answer whose end marker doesn't come is complete without it.
    pub trailer: Duration,
    /// From the end marker to the end of the body. A body read to its end leaves a connection that can be used again.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: patience!("provider.head", Duration::from_secs(90)),
            idle: patience!("provider.idle", Duration::from_secs(60)),
            content: patience!("provider.content", Duration::from_secs(180)),
            trailer: patience!("provider.trailer", Duration::from_secs(10)),
            drain: Duration::from_millis(250),
        }
    }
}

/// The adapter of one host.
pub struct Compatible {
    provider: String,
    base_url: Url,
    quirks: Quirks,
    timeouts: Timeouts,
    client: Client,
}

impl Compatible {
    /// An adapter for the host at `base_url`, as the provider's own SDK would take it (with its `/v1`).
    pub fn new(provider: &str, base_url: &Url, quirks: Quirks, client: Client) -> Self {
        let (provider, base_url) = (provider.to_owned(), base_url.clone());
        Self { provider, base_url, quirks, timeouts: Timeouts::default(), client }
    }

    /// With other waits.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// The URL of an endpoint; a query of the base URL (an API version) stays.
    fn endpoint(&self, path: &str) -> Url {
        let mut endpoint = self.base_url.clone();
        endpoint.set_path(&format!("{}/{path}", self.base_url.path().trim_end_matches('/')));
        endpoint
    }

    /// Sends a request and waits for the head of a good answer.
    async fn send(&self, request: RequestBuilder, key: Option<&ProviderKey>) -> Result<Response, ProviderError> {
        let request = match key {
            None => request,
            Some(key) => request.header(
                header::AUTHORIZATION,
                key.bearer().ok_or_else(|| {
                    ProviderError::new(ErrorKind::InvalidKey, "the key has characters that no key can have")
                })?,
            ),
        };
        let response = timeout(self.timeouts.head, request.send())
            .await
            .map_err(|_| ProviderError::of(ErrorKind::Timeout))?
            .map_err(|error| ProviderError::transport(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let headers = response.headers().clone();
        // The status says most already, so an error body that breaks off or is too long is left.
        let body = bounded(response, LONGEST_ERROR, self.timeouts.idle).await.unwrap_or_default();
        Err(ProviderError::http(status, &headers, &body))
    }

    /// Asks a short question.
    async fn get(&self, path: &str, key: Option<&ProviderKey>) -> Result<Vec<u8>, ProviderError> {
        let response = self.send(self.client.get(self.endpoint(path)), key).await?;
        bounded(response, LONGEST_LIST, self.timeouts.idle).await
    }
}

/// Reads a body up to `limit` bytes, in `wait` at most.
async fn bounded(mut response: Response, limit: usize, wait: Duration) -> Result<Vec<u8>, ProviderError> {
    let read = async {
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(|error| ProviderError::transport(&error))? {
            body.extend_from_slice(&bytes);
            if body.len() > limit {
                return Err(ProviderError::of(ErrorKind::ResponseTooLarge));
            }
        }
        Ok(body)
    };
    timeout(wait, read).await.unwrap_or_else(|_| Err(ProviderError::of(ErrorKind::Timeout)))
}

#[async_trait]
impl Adapter for Compatible {
    fn provider(&self) -> &str {
        &self.provider
    }

    fn render(&self, conversation: &Conversation, options: &Options) -> Rendered {
        request::render(&self.quirks, conversation, options)
    }

    async fn stream(&self, rendered: Rendered, key: Option<&ProviderKey>) -> Result<AdapterStream, ProviderError> {
        let request = self
            .client
            .post(self.endpoint("chat/completions"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "text/event-stream")
            .body(rendered.body);
        let response = self.send(request, key).await?;
        Ok(reading::read(response, Converter::new(self.quirks), self.timeouts))
    }

    async fn validate_key(&self, key: &ProviderKey) -> Result<(), ProviderError> {
        self.get(self.quirks.key_check_path, Some(key)).await.map(drop)
    }

    async fn list_models(&self, key: Option<&ProviderKey>) -> Result<Vec<String>, ProviderError> {
        request::models(&self.get("models", key).await?).ok_or_else(|| ProviderError::of(ErrorKind::Protocol))
    }
}
