//! The interface for clients of other providers' SDKs: OpenAI's and Anthropic's, at `/v1`.
//!
//! A call brings the whole conversation. It becomes a turn like any other, kept, audited and billed; see ADR 40.

mod call;
mod chat;
mod content;
mod error;
mod listen;
mod messages;
mod models;
mod responses;
mod session;
mod tell;

use axum::{Router, middleware::from_fn};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

pub use self::error::{AnthropicError, OpenAiError};
use crate::{middleware, state::AppState};

/// Everything under `/v1`, and its part of the document.
pub fn router() -> (Router<AppState>, OpenApi) {
    let routes = OpenApiRouter::new()
        .merge(models::router())
        .merge(chat::router())
        .merge(responses::router())
        .merge(messages::router());
    let (router, document) = routes.split_for_parts();
    let router = router
        .method_not_allowed_fallback(middleware::method_not_allowed)
        .fallback(middleware::not_found)
        .layer(from_fn(error::around));
    (router, document)
}
