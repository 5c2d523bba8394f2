//! What a person chooses and keeps: the messages that the active branch goes through, and those in every context.

use axum::{extract::State, http::StatusCode};
use polyphony_domain::session::SessionCommand;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::locate;
use crate::{
    error::ApiError,
    extract::{Caller, Origin, PathId},
    respond::{Envelope, Success},
    routes::sessions,
    shapes::Message,
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(activate)).routes(routes!(pin, unpin))
}

/// Has the session of a message do something with it.
async fn command(
    state: &AppState,
    caller: Caller,
    origin: &Origin,
    id: Uuid,
    command: SessionCommand,
) -> Result<(), ApiError> {
    let session = locate(state, caller.account_id, id).await?.session_id;
    sessions::command(state, caller, origin, session, command).await
}

async fn read(state: &AppState, caller: Caller, id: Uuid) -> Result<Success<Message>, ApiError> {
    let found = state.reads.message(caller.account_id, id).await?.ok_or_else(ApiError::not_found)?;
    Ok(Success::ok(found.into()))
}

/// Has the active branch run through a message. The next prompt goes on from there.
#[utoipa::path(post, path = "/messages/{id}/activate", tag = "messages", params(("id" = Uuid, Path)),
    responses((status = 200, body = Envelope<Message>)))]
async fn activate(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathId(id): PathId<Uuid>,
) -> Result<Success<Message>, ApiError> {
    command(&state, caller, &origin, id, SessionCommand::Activate { message_id: id }).await?;
    read(&state, caller, id).await
}

/// Keeps a message in every context of its session.
#[utoipa::path(post, path = "/messages/{id}/pin", tag = "messages", params(("id" = Uuid, Path)),
    responses((status = 200, body = Envelope<Message>)))]
async fn pin(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathId(id): PathId<Uuid>,
) -> Result<Success<Message>, ApiError> {
    command(&state, caller, &origin, id, SessionCommand::Pin { message_id: id, pinned: true }).await?;
    read(&state, caller, id).await
}

/// Keeps it no longer.
#[utoipa::path(delete, path = "/messages/{id}/pin", tag = "messages", params(("id" = Uuid, Path)),
    responses((status = 204)))]
async fn unpin(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathId(id): PathId<Uuid>,
) -> Result<StatusCode, ApiError> {
    command(&state, caller, &origin, id, SessionCommand::Pin { message_id: id, pinned: false }).await?;
    Ok(StatusCode::NO_CONTENT)
}
