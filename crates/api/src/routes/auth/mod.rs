//! Registering, signing in, refreshing, signing out.

mod login;
mod logout;
mod refresh;
mod register;

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::{Days, Utc};
use polyphony_domain::{
    device_session::{DeviceSession, DeviceSessionCommand, SignOutReason},
    ids::{AccountId, DeviceId},
};
use polyphony_eventstore::{Effect, Root};
use polyphony_platform::vault;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    auth::{self, cookies},
    error::ApiError,
    extract::Origin,
    respond::Success,
    routes::users,
    shapes::TokenAnswer,
    state::AppState,
};

pub use self::login::LONGEST_PASSWORD;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(register::register))
        .routes(routes!(login::login))
        .routes(routes!(refresh::refresh))
        .routes(routes!(logout::logout))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct CookieParams {
    /// Keep the refresh token in an HttpOnly cookie.
    #[serde(default)]
    cookie: bool,
}

/// What an address is found by: whoever reads the table finds no address in it.
pub fn email_index(state: &AppState, email: &str) -> [u8; 32] {
    state.secrets.pepper.email_index(email)
}

/// Somebody who has proved who he is.
struct Arrival<'a> {
    origin: &'a Origin,
    account_id: AccountId,
    email_index: [u8; 32],
    device_name: Option<String>,
    cookie: bool,
    status: StatusCode,
}

/// Begins a device session and answers with its tokens.
async fn sign_in(state: &AppState, arrival: Arrival<'_>) -> Result<Response, ApiError> {
    let Arrival { origin, account_id, email_index, device_name, cookie, status } = arrival;
    let device_id = DeviceId::new(Uuid::now_v7());
    let refresh = vault::random_token("rt_");
    let token_hash = vault::token_hash(&refresh);
    let expires_at = Utc::now() + Days::new(state.config.auth.refresh_days.into());
    state
        .store
        .command::<DeviceSession>(origin.context(account_id), Root::Existing(account_id.as_uuid()))
        .from_nothing()
        .effects(move |_, _| vec![Effect::CreateDevice { device_id, account_id, token_hash, expires_at }])
        .run(device_id.as_uuid(), DeviceSessionCommand::SignIn { account_id, device_name })
        .await?;
    state.bus.poke_relay().await;
    let mut response = tokens(state, account_id, device_id, refresh, cookie).await?;
    *response.status_mut() = status;
    if cookie {
        cookies::set_device(response.headers_mut(), &state.secrets.pepper, &email_index);
    }
    Ok(response)
}

/// A pair of tokens for a device, with its account.
async fn tokens(
    state: &AppState,
    account_id: AccountId,
    device_id: DeviceId,
    refresh: String,
    cookie: bool,
) -> Result<Response, ApiError> {
    let (access_token, expires_in) =
        auth::issue(&state.secrets.jwt, account_id, device_id, state.config.auth.access_minutes)?;
    let user = users::load(state, account_id, Some(device_id)).await?;
    let shown = (!cookie).then(|| refresh.clone());
    let answer = TokenAnswer { user, access_token, refresh_token: shown, token_type: "Bearer", expires_in };
    let mut response = Success::ok(answer).into_response();
    if cookie {
        let seconds = u64::from(state.config.auth.refresh_days) * 86_400;
        cookies::set_refresh(response.headers_mut(), &refresh, seconds);
    }
    Ok(response)
}

/// Ends a device session, everywhere.
async fn end_device(
    state: &AppState,
    origin: &Origin,
    account: AccountId,
    device_id: DeviceId,
    reason: SignOutReason,
) -> Result<(), ApiError> {
    state
        .store
        .command::<DeviceSession>(origin.context(account), Root::Existing(account.as_uuid()))
        .effects(move |_, _| vec![Effect::EndDevice { device_id }])
        .run(device_id.as_uuid(), DeviceSessionCommand::SignOut { reason })
        .await?;
    state.revocations.revoke(device_id);
    state.bus.publish_revoked(device_id).await;
    state.bus.poke_relay().await;
    Ok(())
}
