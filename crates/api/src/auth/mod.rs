//! Access tokens, personal access tokens, and those that have been revoked.

pub mod cookies;
mod jwt;
mod revocations;

use axum::http::StatusCode;
use polyphony_platform::vault;

pub use self::{
    jwt::issue,
    revocations::{Revocations, RevocationsUnknown, follow},
};
use crate::{error::ApiError, extract::Caller, state::AppState};

/// What every personal access token begins with.
pub const PAT_PREFIX: &str = "pat_";

/// Finds out who presents a token.
pub async fn authenticate(state: &AppState, token: &str) -> Result<Caller, ApiError> {
    if token.starts_with(PAT_PREFIX) {
        let known = state.store.access_token(&vault::token_hash(token)).await?;
        let (_, account_id, _) = known.ok_or_else(ApiError::unauthorized)?;
        return Ok(Caller { account_id, device_id: None });
    }
    let claims = jwt::verify(&state.secrets.jwt, token).map_err(|refused| match refused {
        jwt::Refused::Expired => {
            ApiError::new(StatusCode::UNAUTHORIZED, "TOKEN_EXPIRED", "the access token has expired")
        }
        jwt::Refused::Invalid => ApiError::unauthorized(),
    })?;
    match state.revocations.is_revoked(claims.sid) {
        Some(false) => {}
        Some(true) => return Err(ApiError::unauthorized()),
        None => return Err(ApiError::unavailable(RevocationsUnknown)),
    }
    Ok(Caller { account_id: claims.sub, device_id: Some(claims.sid) })
}
