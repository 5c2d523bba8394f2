//! Putting a session away, and taking it out again.

use axum::extract::State;
use polyphony_domain::{ids::SessionId, session::SessionCommand};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{command, owned, read};
use crate::{
    error::ApiError,
    extract::{Caller, Origin, PathId},
    respond::{Envelope, Success},
    shapes::Session,
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(archive)).routes(routes!(unarchive))
}

async fn set(
    state: &AppState,
    caller: Caller,
    origin: &Origin,
    id: SessionId,
    archived: bool,
) -> Result<Success<Session>, ApiError> {
    owned(state, caller.account_id, id).await?;
    command(state, caller, origin, id, SessionCommand::Archive(archived)).await?;
    Ok(Success::ok(read(state, caller.account_id, id).await?))
}

/// Puts a session into the archive. Doing it twice changes nothing.
#[utoipa::path(post, path = "/sessions/{id}/archive", tag = "sessions", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = Envelope<Session>)))]
async fn archive(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathId(id): PathId<SessionId>,
) -> Result<Success<Session>, ApiError> {
    set(&state, caller, &origin, id, true).await
}

/// Takes a session out of the archive. Doing it twice changes nothing.
#[utoipa::path(post, path = "/sessions/{id}/unarchive", tag = "sessions", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = Envelope<Session>)))]
async fn unarchive(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathId(id): PathId<SessionId>,
) -> Result<Success<Session>, ApiError> {
    set(&state, caller, &origin, id, false).await
}
