//! Model adapters behind one trait. No database and no message bus lives here.
//!
//! An adapter renders a canonical conversation into the provider's request and turns the provider's stream into
//! [`AdapterEvent`]s: `openai`, `anthropic` and `gemini` in their own dialects, `compatible` for every OpenAI-shaped host,
//! their differences being data, and the built-in `demo`.
//! `context` counts a conversation and makes it fit its model.

mod answer;
pub mod anthropic;
pub mod compatible;
pub mod context;
mod conversation;
pub mod demo;
pub mod discovery;
mod error;
mod fields;
pub mod gemini;
mod http;
mod key;
mod listing;
mod loss;
pub mod openai;
pub mod registry;
pub mod sse;
pub mod tokens;
mod types;

use async_trait::async_trait;
use futures::stream::BoxStream;
use polyphony_domain::content::Conversation;

pub use self::{
    answer::{Converter, Events},
    error::{ErrorKind, ProviderError},
    http::Timeouts,
    key::ProviderKey,
    loss::{Loss, LossKind},
    types::{AdapterEvent, Allowance, Capabilities, FinishReason, Limits, ModelInfo, Options, Rendered, Usage},
};

/// The events of one generation. It ends after [`AdapterEvent::Finish`], or with an error; a stream that ends
/// without the provider's end marker is an error of kind [`ErrorKind::Interrupted`], never a completion.
pub type AdapterStream = BoxStream<'static, Result<AdapterEvent, ProviderError>>;

/// One provider.
#[async_trait]
pub trait Adapter: Send + Sync {
    /// Its name. Messages whose `provider` is this get their reasoning and signatures back.
    fn provider(&self) -> &str;

    /// What can be carried to it.
    fn capabilities(&self) -> Capabilities;

    /// The exact request for a conversation, and what could not be taken over.
    fn render(&self, conversation: &Conversation, options: &Options) -> Rendered;

    /// Sends a rendered request. Dropping the stream closes the connection.
    ///
    /// # Errors
    /// [`ProviderError`] when the provider refuses or can't be reached.
    async fn stream(&self, rendered: Rendered, key: Option<&ProviderKey>) -> Result<AdapterStream, ProviderError>;

    /// Asks the provider whether it takes a key, without cost.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`] only if the provider refused the key; any other kind says nothing about it.
    async fn validate_key(&self, key: &ProviderKey) -> Result<(), ProviderError>;

    /// The models that a key may use, in the provider's order.
    ///
    /// # Errors
    /// [`ProviderError`] as the provider answered.
    async fn list_models(&self, key: Option<&ProviderKey>) -> Result<Vec<ModelInfo>, ProviderError>;

    /// How many tokens the provider counts in a request; `None` where it has no way to ask.
    ///
    /// # Errors
    /// [`ProviderError`] as the provider answered.
    async fn count_tokens(
        &self,
        conversation: &Conversation,
        options: &Options,
        key: Option<&ProviderKey>,
    ) -> Result<Option<u64>, ProviderError> {
        let _ = (conversation, options, key);
        Ok(None)
    }
}
