//! `Idempotency-Key`: the same request under the same key gets the first answer again.
//!
//! A handler asks [`replay`] before it does anything, gives the key to the command, which keeps its answer in the same
//! transaction as its events, and passes what came of it through [`settle`]: of two such requests at once one finds
//! the key taken, and answers with the other's answer.

use axum::http::{HeaderMap, StatusCode};
use polyphony_domain::ids::AccountId;
use polyphony_eventstore::idempotency::{IdempotencyKey, Seen, StoredResponse};

use crate::{error::ApiError, state::AppState};

/// Reads the caller's key.
///
/// # Errors
/// `VALIDATION_FAILED` when it can't be a key.
pub fn key(headers: &HeaderMap, scope: AccountId, request_hash: [u8; 32]) -> Result<Option<IdempotencyKey>, ApiError> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    let key = key.ok_or_else(|| ApiError::invalid("Idempotency-Key", "must have 1 to 255 visible characters"))?;
    Ok(Some(IdempotencyKey { scope, key: key.to_owned(), request_hash }))
}

/// The answer that was given before, if any.
///
/// # Errors
/// `CONFLICT` when the key was used for another request.
pub async fn replay(state: &AppState, key: Option<&IdempotencyKey>) -> Result<Option<StoredResponse>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    match state.store.idempotency(key).await? {
        Seen::No => Ok(None),
        Seen::Same(response) => Ok(Some(response)),
        Seen::Different => Err(ApiError::conflict("this idempotency key was used for another request")),
    }
}

/// The answer to give: one's own, or that of the same request which was quicker.
///
/// # Errors
/// The command's own; `CONFLICT` when the quicker request was another one.
pub async fn settle(
    state: &AppState,
    key: Option<&IdempotencyKey>,
    done: Result<StoredResponse, ApiError>,
) -> Result<StoredResponse, ApiError> {
    match done {
        Err(error) if error.lost_race() => replay(state, key).await?.ok_or(error),
        done => done,
    }
}

/// The status of a stored answer.
pub fn status(response: &StoredResponse) -> StatusCode {
    StatusCode::from_u16(response.status).unwrap_or(StatusCode::OK)
}
