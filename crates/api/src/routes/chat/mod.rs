//! Chatting: a prompt becomes a turn in one transaction; everything after that is a hint, a stream, or a view.

pub mod ask;
pub mod choose;
mod compare;
mod completions;
mod discuss;
pub mod parent;
mod stop;
mod streams;
mod synthesize;

use polyphony_domain::turn::{Params as Sampling, Prompt};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

pub use self::stop::stop_one;
use crate::{error::ApiError, state::AppState};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(completions::router())
        .merge(compare::router())
        .merge(synthesize::router())
        .merge(discuss::router())
        .merge(stop::router())
        .merge(streams::router())
}

/// What every prompt has.
#[derive(Clone, Deserialize, ToSchema)]
struct Asking {
    session_id: Uuid,
    content: String,
    /// The answer to reply to; else that of the active branch.
    parent_id: Option<Uuid>,
    /// A message of the session that the prompt quotes.
    quote_message_id: Option<Uuid>,
    #[serde(default)]
    attachments: Vec<Value>,
    #[serde(default)]
    #[schema(value_type = Object)]
    params: Sampling,
}

/// Checks a prompt's text.
///
/// # Errors
/// `VALIDATION_FAILED`, `PAYLOAD_TOO_LARGE`.
pub fn check_content(state: &AppState, content: &str) -> Result<(), ApiError> {
    if content.is_empty() {
        return Err(ApiError::invalid("content", "must not be empty"));
    }
    if content.len() > state.config.http.message_limit_bytes {
        return Err(ApiError::too_large());
    }
    Ok(())
}

impl Asking {
    fn check(&self, state: &AppState) -> Result<(), ApiError> {
        check_content(state, &self.content)?;
        if !self.attachments.is_empty() {
            return Err(ApiError::invalid("attachments", "files are not offered yet"));
        }
        Ok(())
    }

    /// The prompt, where its place in the session is known.
    fn prompt(self, place: &parent::Place) -> Prompt {
        Prompt {
            session_id: self.session_id.into(),
            parent: place.parent,
            content: self.content.into(),
            quote: self.quote_message_id,
            ..Prompt::default()
        }
    }
}
