//! Messages: read, asked for again, edited, chosen, rated, kept, deleted.

mod branch;
mod delete;
mod edit;
mod feedback;
mod read;
mod regenerate;

use polyphony_domain::{
    ids::{AccountId, AnswerId, SessionId, TurnId},
    session::Session,
    turn::{Prompt, Turn},
};
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use crate::{
    error::ApiError,
    routes::{chat::parent::check_shown, sessions},
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(read::router())
        .merge(regenerate::router())
        .merge(edit::router())
        .merge(branch::router())
        .merge(feedback::router())
        .merge(delete::router())
}

/// A message of the caller, from the log.
pub struct Located {
    pub session_id: SessionId,
    pub session: Session,
    pub turn_id: TurnId,
    pub turn: Turn,
    pub prompt: Prompt,
    /// The answer; none for a prompt.
    pub answer_id: Option<AnswerId>,
}

/// Finds a message that the caller may see: a prompt or an answer of a conversation, neither deleted nor under
/// something deleted.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn locate(state: &AppState, owner: AccountId, id: Uuid) -> Result<Located, ApiError> {
    let place = state.store.answer(AnswerId::new(id)).await?;
    let turn_id = place.map_or(TurnId::new(id), |place| place.turn_id);
    let (turn, _) = state.store.load::<Turn>(turn_id.as_uuid()).await?;
    let prompt = turn.prompt.clone().filter(|_| turn.is_conversation()).ok_or_else(ApiError::not_found)?;
    let session_id = prompt.session_id;
    let session = sessions::owned(state, owner, session_id).await?;
    check_shown(state, session_id, &session, id).await?;
    Ok(Located { session_id, session, turn_id, turn, prompt, answer_id: place.map(|place| place.answer_id) })
}
