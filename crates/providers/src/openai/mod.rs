//! OpenAI: one adapter for both of its dialects, Chat Completions and Responses. Which one a model is asked in is data.

mod models;
mod responses;

use async_trait::async_trait;
use polyphony_domain::content::Conversation;
use reqwest::Client;
use url::Url;

pub use self::models::{Api, api};
use crate::{
    Adapter, AdapterStream, Capabilities, ModelInfo, Options, ProviderError, ProviderKey, Rendered,
    answer::Converter,
    compatible::{self, Quirks},
    http::{Host, KeyHeader, Timeouts},
};

/// Turns one answer in a dialect into events.
pub fn converter(api: Api, quirks: &Quirks) -> Converter {
    match api {
        Api::Chat => compatible::converter(quirks),
        Api::Responses => Converter::new(responses::Responses::default()),
    }
}

/// The adapter.
pub struct OpenAi {
    provider: String,
    quirks: Quirks,
    host: Host,
}

impl OpenAi {
    /// An adapter for the host at `base_url`, with its `/v1`; the quirks are those of its chat dialect.
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

#[async_trait]
impl Adapter for OpenAi {
    fn provider(&self) -> &str {
        &self.provider
    }

    fn capabilities(&self) -> Capabilities {
        compatible::capabilities(&self.quirks)
    }

    fn render(&self, conversation: &Conversation, options: &Options) -> Rendered {
        match api(&options.model) {
            Api::Chat => compatible::render(&self.quirks, &self.provider, conversation, options),
            Api::Responses => responses::render(&self.provider, conversation, options),
        }
    }

    async fn stream(&self, rendered: Rendered, key: Option<&ProviderKey>) -> Result<AdapterStream, ProviderError> {
        let api = if rendered.endpoint == "responses" { Api::Responses } else { Api::Chat };
        self.host.stream(rendered, key, converter(api, &self.quirks)).await
    }

    async fn validate_key(&self, key: &ProviderKey) -> Result<(), ProviderError> {
        self.host.get(self.quirks.key_check_path, Some(key)).await.map(drop)
    }

    async fn list_models(&self, key: Option<&ProviderKey>) -> Result<Vec<ModelInfo>, ProviderError> {
        self.host.models("models", key).await
    }
}
