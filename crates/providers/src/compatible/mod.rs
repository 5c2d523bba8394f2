//! Every OpenAI-shaped host: hosted ones, and Ollama, llama.cpp or vLLM on one's own machine. Their differences are
//! data ([`Quirks`]), not code.

mod convert;
mod hosts;
mod messages;
mod request;
mod think;
mod tools;
mod usage;
mod wire;

use async_trait::async_trait;
use polyphony_domain::content::Conversation;
use reqwest::Client;
use url::Url;

pub use self::hosts::{Effort, Preset, Quirks, preset, presets};
pub(crate) use self::{convert::Chat, request::render};
use crate::{
    Adapter, AdapterStream, Capabilities, ModelInfo, Options, ProviderError, ProviderKey, Rendered,
    answer::Converter,
    http::{Host, KeyHeader, Timeouts},
};

/// Turns one answer of a host into events.
pub fn converter(quirks: &Quirks) -> Converter {
    Converter::new(Chat::new(quirks))
}

/// The adapter of one host.
pub struct Compatible {
    provider: String,
    quirks: Quirks,
    host: Host,
}

impl Compatible {
    /// An adapter for the host at `base_url`, as the provider's own SDK would take it (with its `/v1`).
    pub fn new(provider: &str, base_url: &Url, quirks: Quirks, client: Client) -> Self {
        Self { provider: provider.to_owned(), quirks, host: Host::new(base_url, KeyHeader::BEARER, client) }
    }

    /// With other waits.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.host.timeouts = timeouts;
        self
    }
}

/// What the chat dialect carries to a host.
pub(crate) fn capabilities(quirks: &Quirks) -> Capabilities {
    Capabilities {
        images: quirks.images,
        files: quirks.pdf,
        tools: true,
        reasoning_effort: quirks.effort != Effort::No,
        response_format: true,
        count_tokens: false,
    }
}

#[async_trait]
impl Adapter for Compatible {
    fn provider(&self) -> &str {
        &self.provider
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(&self.quirks)
    }

    fn render(&self, conversation: &Conversation, options: &Options) -> Rendered {
        render(&self.quirks, &self.provider, conversation, options)
    }

    async fn stream(&self, rendered: Rendered, key: Option<&ProviderKey>) -> Result<AdapterStream, ProviderError> {
        self.host.stream(rendered, key, converter(&self.quirks)).await
    }

    async fn validate_key(&self, key: &ProviderKey) -> Result<(), ProviderError> {
        self.host.get(self.quirks.key_check_path, Some(key)).await.map(drop)
    }

    async fn list_models(&self, key: Option<&ProviderKey>) -> Result<Vec<ModelInfo>, ProviderError> {
        self.host.models("models", key).await
    }
}
