//! `DELETE /messages/:id`: a message goes from every view and context, with everything that hangs under it.

use axum::{extract::State, http::StatusCode};
use polyphony_domain::{
    ids::SessionId,
    session::{Session, SessionCommand, SessionError},
};
use polyphony_eventstore::{Beside, ExecuteError, Root, error::Refused};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::locate;
use crate::{
    error::ApiError,
    extract::{Caller, Origin, PathId},
    state::AppState,
};

/// How often a deletion is decided again when something was added to the session meanwhile.
const TRIES: u32 = 5;

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
    for _ in 0..TRIES {
        match delete_once(&state, caller, &origin, session_id, id).await {
            // Decided again on what is there now.
            Err(error) if error.refused() == Some(Refused::TreeChanged) => {}
            done => {
                done?;
                state.bus.poke_relay().await;
                return Ok(StatusCode::NO_CONTENT);
            }
        }
    }
    Err(Refused::TreeChanged.into())
}

/// Deletes what hangs there now; refused where something was added meanwhile, which might hang there too.
async fn delete_once(
    state: &AppState,
    caller: Caller,
    origin: &Origin,
    session_id: SessionId,
    id: Uuid,
) -> Result<(), ExecuteError<SessionError>> {
    let log = state.store.session_log(session_id).await.map_err(ExecuteError::Store)?;
    let gone = log.tree().subtree(id);
    let is_busy = |message: &Uuid| {
        let turn = log.turns.get(&(*message).into()).is_some_and(|turn| turn.aggregate.is_busy());
        let answer = log.turn_of((*message).into()).is_some_and(|(_, turn)| {
            turn.aggregate.answers.get(&(*message).into()).is_some_and(|answer| !answer.status.is_final())
        });
        turn || answer
    };
    if gone.iter().any(is_busy) {
        return Err(ExecuteError::Store(Refused::GenerationInProgress.into()));
    }
    let answers = log.turns.values().map(|turn| turn.aggregate.answers.len() as u64).sum();
    let prompts = log.turns.len() as u64;
    let command = SessionCommand::DeleteMessage { message_id: id, removed: gone.len() as u64 };
    state
        .store
        .command::<Session>(origin.context(caller.account_id), Root::Existing(session_id.as_uuid()))
        .beside(Beside::NobodySince { prompts, answers })
        .run(session_id.as_uuid(), command)
        .await
        .map(drop)
}
