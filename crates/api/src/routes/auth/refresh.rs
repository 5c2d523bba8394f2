//! `POST /auth/refresh`.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use polyphony_domain::device_session::SignOutReason;
use polyphony_eventstore::accounts::Refresh;
use polyphony_platform::vault;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{CookieParams, end_device, tokens};
use crate::{
    auth::cookies,
    error::ApiError,
    extract::{OptionalBody, Origin, Params},
    limit::network,
    respond::Envelope,
    shapes::TokenAnswer,
    state::AppState,
};

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefreshBody {
    /// Left out where it is in the cookie.
    refresh_token: Option<String>,
}

/// Exchanges a refresh token for a new pair. Each works once; a second use ends the device's session.
#[utoipa::path(post, path = "/auth/refresh", tag = "auth", request_body = Option<RefreshBody>, params(CookieParams),
    security(()), responses((status = 200, body = Envelope<TokenAnswer>)))]
pub(super) async fn refresh(
    State(state): State<AppState>,
    origin: Origin,
    Params(params): Params<CookieParams>,
    headers: HeaderMap,
    OptionalBody { value: body, .. }: OptionalBody<RefreshBody>,
) -> Result<Response, ApiError> {
    state.limits.door.check(&network(origin.ip))?;
    let done = exchange(&state, &origin, &headers, params.cookie, body.refresh_token).await;
    Ok(done.unwrap_or_else(|error| {
        let is_over = error.status() == StatusCode::UNAUTHORIZED;
        let mut response = error.into_response();
        if params.cookie && is_over {
            cookies::clear_refresh(&headers, response.headers_mut());
        }
        response
    }))
}

async fn exchange(
    state: &AppState,
    origin: &Origin,
    headers: &HeaderMap,
    cookie: bool,
    given: Option<String>,
) -> Result<Response, ApiError> {
    let presented = if cookie { cookies::refresh(headers)? } else { given };
    let presented = presented.ok_or_else(|| ApiError::invalid("refresh_token", "is needed"))?;
    let next = vault::random_token("rt_");
    let hashes = (vault::token_hash(&presented), vault::token_hash(&next));
    state.limits.account.check(&hashes.0)?;
    match state.store.rotate_refresh_token(&hashes.0, &hashes.1).await? {
        Refresh::Rotated { device_id, account_id } => tokens(state, account_id, device_id, next, cookie).await,
        Refresh::Reused { device_id, account_id } => {
            end_device(state, origin, account_id, device_id, SignOutReason::RefreshTokenReused).await?;
            let message = "this refresh token was used before; the device has been signed out";
            Err(ApiError::new(StatusCode::UNAUTHORIZED, "TOKEN_REUSED", message))
        }
        Refresh::Unknown => Err(ApiError::unauthorized()),
    }
}
