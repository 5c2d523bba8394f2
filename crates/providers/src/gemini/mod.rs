//! Google's Gemini API.

mod contents;
mod convert;
mod models;
mod partial_args;
mod request;
mod usage;

use async_trait::async_trait;
use polyphony_domain::content::Conversation;
use reqwest::Client;
use url::Url;

use crate::{
    Adapter, AdapterStream, Capabilities, ModelInfo, Options, ProviderError, ProviderKey, Rendered,
    answer::Converter,
    http::{Host, KeyHeader, Timeouts},
};

/// Base URL of the provider's documentation.
pub const BASE_URL: &str = "https://generativelanguage.googleapis.com";

/// Turns one answer into events.
pub fn converter() -> Converter {
    Converter::new(convert::Chunks::default())
}

/// The adapter.
pub struct Gemini {
    provider: String,
    host: Host,
}

impl Gemini {
    /// An adapter for the host at `base_url`, without a version path.
    pub fn new(provider: &str, base_url: &Url, client: Client) -> Self {
        let host = Host::new(base_url, KeyHeader { name: "x-goog-api-key", prefix: "" }, client);
        Self { provider: provider.to_owned(), host }
    }

    /// With other waits.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.host.timeouts = timeouts;
        self
    }
}

#[async_trait]
impl Adapter for Gemini {
    fn provider(&self) -> &str {
        &self.provider
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn render(&self, conversation: &Conversation, options: &Options) -> Rendered {
        request::render(&self.provider, conversation, options)
    }

    async fn stream(&self, rendered: Rendered, key: Option<&ProviderKey>) -> Result<AdapterStream, ProviderError> {
        self.host.stream(rendered, key, converter()).await
    }

    async fn validate_key(&self, key: &ProviderKey) -> Result<(), ProviderError> {
        self.host.get("v1beta/models?pageSize=1", Some(key)).await.map(drop)
    }

    async fn list_models(&self, key: Option<&ProviderKey>) -> Result<Vec<ModelInfo>, ProviderError> {
        self.host.models("v1beta/models?pageSize=1000", key).await
    }

    async fn count_tokens(
        &self,
        conversation: &Conversation,
        options: &Options,
        key: Option<&ProviderKey>,
    ) -> Result<Option<u64>, ProviderError> {
        let body = request::counted(&options.model, &self.render(conversation, options));
        let endpoint = format!("{}:countTokens", request::path(&options.model));
        let counted = self.host.post(&endpoint, &body, key).await?;
        Ok(counted["totalTokens"].as_u64())
    }
}
