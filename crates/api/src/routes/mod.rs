//! The routes by resource.

pub mod audit;
pub mod auth;
pub mod chat;
pub mod context;
pub mod erasure;
pub mod health;
pub mod history;
pub mod keys;
pub mod messages;
pub mod models;
pub mod sessions;
pub mod stats;
pub mod users;
pub mod v1;

use utoipa_axum::router::OpenApiRouter;

use crate::state::AppState;

/// Everything under `/api/v1`.
pub fn api() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(auth::router())
        .merge(users::router())
        .merge(sessions::router())
        .merge(history::router())
        .merge(erasure::router())
        .merge(audit::router())
        .merge(messages::router())
        .merge(models::router())
        .merge(keys::router())
        .merge(chat::router())
        .merge(context::router())
        .merge(stats::router())
}
