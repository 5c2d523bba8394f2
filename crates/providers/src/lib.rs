//! Model adapters behind one trait. No database and no message bus lives here.
//!
//! An adapter renders a canonical conversation into the provider's request and turns the provider's stream into
//! [`AdapterEvent`]s. `context` counts a conversation and makes it fit its model. `compatible` serves every OpenAI-shaped host, its differences being data; `demo` is built in.

pub mod compatible;
pub mod context;
pub mod demo;
mod error;
pub mod registry;
pub mod sse;
pub mod tokens;
mod types;

use async_trait::async_trait;
use futures::stream::BoxStream;
use polyphony_domain::content::Conversation;

pub use self::{
    error::{ErrorKind, ProviderError},
    types::{AdapterEvent, FinishReason, Loss, Options, ProviderKey, Rendered, Usage},
};

/// The events of one generation. It ends after [`AdapterEvent::Finish`], or with an error; a stream that ends
/// without the provider's end marker is an error of kind [`ErrorKind::Interrupted`], never a completion.
pub type AdapterStream = BoxStream<'static, Result<AdapterEvent, ProviderError>>;

/// One provider.
#[async_trait]
pub trait Adapter: Send + Sync {
    /// Its name.
    fn provider(&self) -> &str;

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

    /// The names of the models that a key may use, in the provider's order.
    ///
    /// # Errors
    /// [`ProviderError`] as the provider answered.
    async fn list_models(&self, key: Option<&ProviderKey>) -> Result<Vec<String>, ProviderError>;
}
