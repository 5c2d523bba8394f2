//! Where a prompt hangs in the tree.

use polyphony_domain::{
    ids::{AccountId, AnswerId, SessionId},
    session::Session,
    turn::Turn,
};
use polyphony_eventstore::load::NewestTurn;
use uuid::Uuid;

use super::ask::{Guard, Undeleted};
use crate::{error::ApiError, routes::sessions, state::AppState};

/// The place of a prompt.
pub struct Place {
    /// The answer that it replies to.
    pub parent: Option<AnswerId>,
    /// What keeps it as it is until the prompt is there.
    pub guard: Guard,
    /// Whether it is the first prompt of its session.
    pub is_first: bool,
}

/// The caller's session, and its newest turn where that decides the place of a prompt: where no parent is `given`.
///
/// # Errors
/// `NOT_FOUND` for a foreign or a deleted session.
pub async fn session(
    state: &AppState,
    owner: AccountId,
    id: SessionId,
    given: Option<Uuid>,
) -> Result<(Session, Option<NewestTurn>), ApiError> {
    if given.is_some() {
        return Ok((sessions::owned(state, owner, id).await?, None));
    }
    let (session, newest) = state.store.newest_turn(id).await?;
    Ok((sessions::checked(session, owner)?, newest))
}

/// The place of a prompt: under the answer that is given, else at the end of the active branch, which `newest` leads to.
///
/// # Errors
/// `NOT_FOUND` for an answer that isn't there, `GENERATION_IN_PROGRESS` for one that hasn't ended.
pub async fn place(
    state: &AppState,
    id: SessionId,
    session: &Session,
    given: Option<Uuid>,
    quote: Option<Uuid>,
    newest: Option<NewestTurn>,
) -> Result<Place, ApiError> {
    if let Some(quote) = quote {
        check_quote(state, id, session, quote).await?;
    }
    if let Some(given) = given {
        let parent = Some(given_parent(state, id, session, AnswerId::new(given)).await?);
        return Ok(Place { parent, guard: Undeleted::of(session).into(), is_first: false });
    }
    let is_first = newest.is_none();
    let parent = match newest {
        None => None,
        Some(newest) if newest.is_tip => after(&newest.turn)?,
        // Somebody went elsewhere since: the whole tree says where the branch ends.
        Some(_) => end_of_branch(state, id).await?,
    };
    let alone = Some(format!("{id}:{}", parent.map(|parent| parent.to_string()).unwrap_or_default()));
    Ok(Place { parent, guard: Guard { alone, undeleted: Undeleted::of(session) }, is_first })
}

/// The answer to go on from after a turn. A prompt that nobody was asked to answer is passed over.
fn after(turn: &Turn) -> Result<Option<AnswerId>, ApiError> {
    if turn.is_busy() {
        return Err(ApiError::in_progress());
    }
    Ok(turn.active_answer().map(|(id, _)| id).or_else(|| turn.parent()))
}

async fn end_of_branch(state: &AppState, id: SessionId) -> Result<Option<AnswerId>, ApiError> {
    let log = state.store.session_log(id).await?;
    let branch = log.tree().active_branch();
    let Some(last) = branch.last() else { return Ok(None) };
    if let Some((_, turn)) = log.turn_of(AnswerId::new(*last)) {
        let chosen = AnswerId::new(*last);
        let is_busy = turn.aggregate.is_busy();
        return if is_busy { Err(ApiError::in_progress()) } else { Ok(Some(chosen)) };
    }
    match log.turns.get(&(*last).into()) {
        Some(turn) => after(&turn.aggregate),
        None => Ok(None),
    }
}

async fn given_parent(
    state: &AppState,
    id: SessionId,
    session: &Session,
    given: AnswerId,
) -> Result<AnswerId, ApiError> {
    let place = state.store.answer(given).await?.filter(|place| place.session_id == id);
    let place = place.ok_or_else(ApiError::not_found)?;
    check_shown(state, id, session, given.as_uuid()).await?;
    let (turn, _) = state.store.load::<Turn>(place.turn_id.as_uuid()).await?;
    let answer = turn.answers.get(&given).filter(|_| turn.is_conversation()).ok_or_else(ApiError::not_found)?;
    if answer.status.is_final() { Ok(given) } else { Err(ApiError::in_progress()) }
}

async fn check_quote(state: &AppState, id: SessionId, session: &Session, quote: Uuid) -> Result<(), ApiError> {
    let answer = state.store.answer(AnswerId::new(quote)).await?;
    let turn_id = answer.map_or(quote, |place| place.turn_id.as_uuid());
    let (turn, _) = state.store.load::<Turn>(turn_id).await?;
    let prompt = turn.prompt.filter(|prompt| prompt.session_id == id && prompt.purpose.is_conversation());
    prompt.ok_or_else(ApiError::not_found)?;
    check_shown(state, id, session, quote).await
}

/// Whether a message is still there: neither deleted nor under something deleted.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn check_shown(state: &AppState, id: SessionId, session: &Session, message: Uuid) -> Result<(), ApiError> {
    // Only where something was deleted the whole path has to be looked at.
    if session.deleted.is_empty() {
        return Ok(());
    }
    let log = state.store.session_log(id).await?;
    log.tree().path_to(message).map(|_| ()).ok_or_else(ApiError::not_found)
}
