//! `POST /auth/logout`.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use polyphony_domain::device_session::SignOutReason;
use serde::Deserialize;
use utoipa::ToSchema;

use super::end_device;
use crate::{
    auth::cookies,
    error::ApiError,
    extract::{Caller, OptionalBody, Origin},
    state::AppState,
};

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Logout {
    /// All devices instead of this one.
    #[serde(default)]
    all: bool,
}

/// Signs this device out, or all. Its access token stops working within a second, on every node.
///
/// A personal access token has no device: it goes on until it is deleted.
#[utoipa::path(post, path = "/auth/logout", tag = "auth", request_body = Option<Logout>, responses((status = 204)))]
pub(super) async fn logout(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    OptionalBody { value: body, .. }: OptionalBody<Logout>,
) -> Result<Response, ApiError> {
    if body.all {
        for device in state.store.open_devices(caller.account_id).await? {
            end_device(&state, &origin, caller.account_id, device, SignOutReason::LogoutAll).await?;
        }
    } else if let Some(device) = caller.device_id {
        end_device(&state, &origin, caller.account_id, device, SignOutReason::Logout).await?;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    cookies::clear_refresh(&headers, response.headers_mut());
    Ok(response)
}
