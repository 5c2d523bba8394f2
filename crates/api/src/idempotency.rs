//! `Idempotency-Key`: the same request under the same key gets the first answer again.

use axum::http::{HeaderMap, StatusCode};
use polyphony_domain::ids::AccountId;
use polyphony_eventstore::idempotency::{IdempotencyKey, Seen, StoredResponse};

use crate::{error::ApiError, state::AppState};

/// Reads the caller's key.
pub fn key(headers: &HeaderMap, scope: AccountId, request_hash: [u8; 32]) -> Result<Option<IdempotencyKey>, ApiError> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    let key = key.ok_or_else(|| ApiError::invalid("Idempotency-Key", "must have 1 to 255 visible characters"))?;
    Ok(Some(IdempotencyKey { scope, key: key.to_owned(), request_hash }))
}

/// The answer that was given before, if any.
pub async fn replay(state: &AppState, key: Option<&IdempotencyKey>) -> Result<Option<StoredResponse>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    match state.store.idempotency(key).await? {
        Seen::No => Ok(None),
        Seen::Same(response) => Ok(Some(response)),
        Seen::Different => Err(ApiError::conflict("this idempotency key was used for another request")),
    }
}

/// The status of a stored answer.
pub fn status(response: &StoredResponse) -> StatusCode {
    StatusCode::from_u16(response.status).unwrap_or(StatusCode::OK)
}
