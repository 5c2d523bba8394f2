//! The session that a call belongs to: the one that the caller names, else one that is opened by itself.

use axum::http::HeaderMap;
use chrono::{NaiveTime, Utc};
use polyphony_domain::{
    ids::{AccountId, SessionId},
    session::{Session, SessionCommand, SessionError},
};
use polyphony_eventstore::{ExecuteError, Root};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    error::ApiError,
    extract::{Caller, Origin},
    routes::{chat::ask::Undeleted, sessions},
    state::AppState,
};

/// How often a day's session may be deleted and begun again.
const REBIRTHS: u32 = 64;

/// Where a call becomes a turn.
#[derive(Clone, Copy, Debug)]
pub struct Home {
    pub id: SessionId,
    /// What was deleted of it when it was looked at.
    pub undeleted: Undeleted,
}

impl Home {
    pub fn new(id: SessionId, session: &Session) -> Self {
        Self { id, undeleted: Undeleted::of(session) }
    }
}

/// The session of a call.
///
/// # Errors
/// `NOT_FOUND` for a session that isn't the caller's.
pub async fn of_call(
    state: &AppState,
    caller: Caller,
    origin: &Origin,
    headers: &HeaderMap,
    user: Option<&str>,
) -> Result<Home, ApiError> {
    let Some(named) = headers.get("x-session-id") else {
        return automatic(state, caller.account_id, origin, user).await;
    };
    let id = named.to_str().ok().and_then(|id| id.parse().ok()).ok_or_else(ApiError::not_found)?;
    Ok(Home::new(id, &sessions::owned(state, caller.account_id, id).await?))
}

/// The id of a day's session: the same on every node, and a UUID of version 7 whose time is the day's beginning.
fn id(owner: AccountId, midnight_ms: i64, user: &str, birth: u32) -> SessionId {
    let mut hash = Sha256::new();
    hash.update(owner.as_uuid().as_bytes());
    hash.update(midnight_ms.to_be_bytes());
    hash.update(birth.to_be_bytes());
    hash.update(user.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    let random = u128::from_be_bytes(bytes) & !(0xffff_ffff_ffff_u128 << 80) & !(0xf << 76) & !(0x3 << 62);
    let time = u128::from(midnight_ms.unsigned_abs()) << 80;
    SessionId::new(Uuid::from_u128(time | 0x7 << 76 | 0x2 << 62 | random))
}

/// One session for each day, and for each user that the caller tells apart.
async fn automatic(state: &AppState, owner: AccountId, origin: &Origin, user: Option<&str>) -> Result<Home, ApiError> {
    let day = Utc::now().date_naive();
    let midnight = day.and_time(NaiveTime::MIN).and_utc().timestamp_millis();
    let user = user.unwrap_or_default();
    for birth in 0..REBIRTHS {
        let id = id(owner, midnight, user, birth);
        let (session, _) = state.store.load::<Session>(id.as_uuid()).await?;
        if session.is_deleted {
            continue;
        }
        if session.owner_id.is_some() {
            return Ok(Home::new(id, &session));
        }
        let user: String = user.chars().take(64).collect();
        let title = if user.is_empty() { format!("API {day}") } else { format!("API {day}, {user}") };
        let open = SessionCommand::Open { owner_id: owner, title: Some(title), model: None, system_prompt: None };
        let command = state.store.command::<Session>(origin.context(owner), Root::New(id.as_uuid())).from_nothing();
        return match command.run(id.as_uuid(), open).await {
            // Another call opened it at the same time.
            Ok(_) | Err(ExecuteError::Domain(SessionError::AlreadyOpen)) => Ok(Home::new(id, &session)),
            Err(error) => Err(error.into()),
        };
    }
    Err(ApiError::conflict("the session of this day was deleted too often"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_the_same_all_day_and_another_one_for_everything_else() {
        let owner = AccountId::new(Uuid::from_u128(7));
        let first = id(owner, 86_400_000, "a", 0);
        assert_eq!(first, id(owner, 86_400_000, "a", 0));
        assert_eq!(first.as_uuid().get_version_num(), 7);
        let others = [
            id(AccountId::new(Uuid::from_u128(8)), 86_400_000, "a", 0),
            id(owner, 172_800_000, "a", 0),
            id(owner, 86_400_000, "b", 0),
            id(owner, 86_400_000, "a", 1),
        ];
        assert!(!others.contains(&first));
    }
}
