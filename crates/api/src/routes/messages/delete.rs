//! `DELETE /messages/:id`: a message goes from every view and context, with everything that hangs under it.

use axum::{extract::State, http::StatusCode};
use polyphony_domain::session::{Session, SessionCommand};
use polyphony_eventstore::Root;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::locate;
use crate::{
    error::ApiError,
    extract::{Caller, Origin, PathId},
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(delete))
}

/// Deletes a message and what hangs under it. Refused while something of that is in the making.
#[utoipa::path(delete, path = "/messages/{id}", tag = "messages", params(("id" = Uuid, Path)),
    responses((status = 204)))]
async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathId(id): PathId<Uuid>,
) -> Result<StatusCode, ApiError> {
    let session_id = locate(&state, caller.account_id, id).await?.session_id;
    let log = state.store.session_log(session_id).await?;
    let gone = log.tree().subtree(id);
    let is_busy = |message: &Uuid| {
        let turn = log.turns.get(&(*message).into()).is_some_and(|turn| turn.aggregate.is_busy());
        let answer = log.turn_of((*message).into()).is_some_and(|(_, turn)| {
            turn.aggregate.answers.get(&(*message).into()).is_some_and(|answer| !answer.status.is_final())
        });
        turn || answer
    };
    if gone.iter().any(is_busy) {
        return Err(ApiError::in_progress());
    }
    let command = SessionCommand::DeleteMessage { message_id: id, removed: gone.len() as u64 };
    state
        .store
        .command::<Session>(origin.context(caller.account_id), Root::Existing(session_id.as_uuid()))
        .run(session_id.as_uuid(), command)
        .await?;
    state.bus.poke_relay().await;
    Ok(StatusCode::NO_CONTENT)
}
