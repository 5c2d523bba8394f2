//! Registering, signing in, refreshing, signing out.

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{Days, Utc};
use polyphony_domain::{
    account::{Account, AccountCommand, Role},
    device_session::{DeviceSession, DeviceSessionCommand, SignOutReason},
    ids::{AccountId, DeviceId},
};
use polyphony_eventstore::{Effect, Root, accounts::Refresh};
use polyphony_platform::{password, vault};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    auth,
    error::ApiError,
    extract::{Body, Caller, Origin, Params, check_length},
    limit::network,
    respond::{Envelope, Success},
    routes::users,
    shapes::TokenAnswer,
    state::AppState,
};

/// Cookie of the web page's refresh token. The prefix makes browsers insist on `Secure` and on this very host.
const COOKIE: &str = "__Host-polyphony-refresh";
/// Label of the blind index of addresses.
const EMAIL: &str = "email";

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Register {
    email: String,
    /// 10 to 128 characters.
    password: String,
    nickname: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    email: String,
    password: String,
    device_name: Option<String>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RefreshBody {
    refresh_token: Option<String>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Logout {
    /// All devices instead of this one.
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct CookieParams {
    /// Keep the refresh token in an HttpOnly cookie.
    #[serde(default)]
    cookie: bool,
}

fn check_email(email: &str) -> Result<String, ApiError> {
    let email = email.trim();
    let sane = email.len() <= 254
        && email.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && domain.contains('.') && !domain.starts_with('.') && !domain.ends_with('.')
        })
        && email.matches('@').count() == 1
        && !email.chars().any(|c| c.is_whitespace() || c.is_control());
    if sane { Ok(email.to_owned()) } else { Err(ApiError::invalid("email", "must be an e-mail address")) }
}

fn email_index(state: &AppState, email: &str) -> [u8; 32] {
    state.secrets.pepper.blind_index(EMAIL, &email.trim().to_lowercase())
}

fn bad_credentials() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS", "the e-mail address or the password is wrong")
}

/// Begins a device session and answers with its tokens.
async fn sign_in(
    state: &AppState,
    origin: &Origin,
    account_id: AccountId,
    device_name: Option<String>,
    cookie: bool,
    status: StatusCode,
) -> Result<Response, ApiError> {
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
    tokens(state, account_id, device_id, refresh, cookie, status).await
}

async fn tokens(
    state: &AppState,
    account_id: AccountId,
    device_id: DeviceId,
    refresh: String,
    cookie: bool,
    status: StatusCode,
) -> Result<Response, ApiError> {
    let (access_token, expires_in) =
        auth::issue(&state.secrets.jwt, account_id, device_id, state.config.auth.access_minutes)?;
    let user = users::load(state, account_id).await?;
    let set_cookie = cookie.then(|| {
        let seconds = u64::from(state.config.auth.refresh_days) * 86_400;
        format!("{COOKIE}={refresh}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Strict")
    });
    let refresh_token = Some(refresh).filter(|_| !cookie);
    let answer = TokenAnswer { user, access_token, refresh_token, token_type: "Bearer", expires_in };
    let mut response = Success::ok(answer).status(status).into_response();
    if let Some(cookie) = set_cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Registers an account and signs it in.
#[utoipa::path(post, path = "/auth/register", tag = "auth", request_body = Register, params(CookieParams),
    responses((status = 201, body = Envelope<TokenAnswer>)))]
async fn register(
    State(state): State<AppState>,
    origin: Origin,
    Params(params): Params<CookieParams>,
    Body { value: body, .. }: Body<Register>,
) -> Result<Response, ApiError> {
    state.limits.door.check(&network(origin.ip))?;
    let email = check_email(&body.email)?;
    let secret = Zeroizing::new(body.password);
    check_length("password", &secret, 10, 128)?;
    if let Some(nickname) = &body.nickname {
        check_length("nickname", nickname, 1, 100)?;
    }
    let admin = state.config.admin.email.trim();
    let role = if !admin.is_empty() && admin.eq_ignore_ascii_case(&email) { Role::Admin } else { Role::User };
    let email_index = email_index(&state, &email);
    let password_hash = password::hash(secret).await.map_err(ApiError::internal)?;
    let account_id = AccountId::new(Uuid::now_v7());
    state
        .store
        .command::<Account>(origin.context(account_id), Root::New(account_id.as_uuid()))
        .from_nothing()
        .effects(move |_, _| {
            let password_hash = password_hash.clone();
            vec![Effect::CreateCredential { account_id, email_index, password_hash }]
        })
        .run(account_id.as_uuid(), AccountCommand::Register { email, nickname: body.nickname, role })
        .await?;
    sign_in(&state, &origin, account_id, None, params.cookie, StatusCode::CREATED).await
}

/// Signs in.
#[utoipa::path(post, path = "/auth/login", tag = "auth", request_body = Login, params(CookieParams),
    responses((status = 200, body = Envelope<TokenAnswer>)))]
async fn login(
    State(state): State<AppState>,
    origin: Origin,
    Params(params): Params<CookieParams>,
    Body { value: body, .. }: Body<Login>,
) -> Result<Response, ApiError> {
    let index = email_index(&state, &body.email);
    state.limits.door.check(&network(origin.ip))?;
    state.limits.account.check(&index)?;
    let secret = Zeroizing::new(body.password);
    if secret.chars().count() > 128 {
        return Err(bad_credentials());
    }
    if let Some(name) = &body.device_name {
        check_length("device_name", name, 1, 100)?;
    }
    let Some(credential) = state.store.credential(&index).await? else {
        // As long as a wrong password takes.
        password::verify_dummy(secret).await.map_err(ApiError::internal)?;
        return Err(bad_credentials());
    };
    let verdict =
        password::verify(secret.clone(), credential.password_hash.clone()).await.map_err(ApiError::internal)?;
    if !verdict.ok {
        return Err(bad_credentials());
    }
    if verdict.needs_upgrade {
        let fresh = password::hash(secret).await.map_err(ApiError::internal)?;
        state.store.upgrade_password_hash(credential.account_id, &credential.password_hash, &fresh).await?;
    }
    sign_in(&state, &origin, credential.account_id, body.device_name, params.cookie, StatusCode::OK).await
}

fn cookie_token(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, token)| token.to_owned())
}

/// Exchanges a refresh token for a new pair. Each works once; a second use ends the device's session.
#[utoipa::path(post, path = "/auth/refresh", tag = "auth", request_body = RefreshBody, params(CookieParams),
    responses((status = 200, body = Envelope<TokenAnswer>)))]
async fn refresh(
    State(state): State<AppState>,
    origin: Origin,
    Params(params): Params<CookieParams>,
    headers: HeaderMap,
    Body { value: body, .. }: Body<RefreshBody>,
) -> Result<Response, ApiError> {
    state.limits.door.check(&network(origin.ip))?;
    let presented = if params.cookie { cookie_token(&headers) } else { body.refresh_token };
    let presented = presented.ok_or_else(|| ApiError::invalid("refresh_token", "is needed"))?;
    let next = vault::random_token("rt_");
    let hashes = (vault::token_hash(&presented), vault::token_hash(&next));
    match state.store.rotate_refresh_token(&hashes.0, &hashes.1).await? {
        Refresh::Rotated { device_id, account_id } => {
            tokens(&state, account_id, device_id, next, params.cookie, StatusCode::OK).await
        }
        Refresh::Reused { device_id, account_id } => {
            end_device(&state, &origin, account_id, device_id, SignOutReason::RefreshTokenReused).await?;
            let message = "this refresh token was used before; the device has been signed out";
            Err(ApiError::new(StatusCode::UNAUTHORIZED, "TOKEN_REUSED", message))
        }
        Refresh::Unknown => Err(ApiError::unauthorized()),
    }
}

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

/// Signs this device out, or all.
#[utoipa::path(post, path = "/auth/logout", tag = "auth", request_body = Option<Logout>, responses((status = 204)))]
async fn logout(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    request: axum::extract::Request,
) -> Result<StatusCode, ApiError> {
    use axum::extract::FromRequest;
    // A body is optional here.
    let empty = request.headers().get(header::CONTENT_TYPE).is_none();
    let body = if empty { Logout::default() } else { Body::<Logout>::from_request(request, &state).await?.value };
    if body.all {
        for device in state.store.open_devices(caller.account_id).await? {
            end_device(&state, &origin, caller.account_id, device, SignOutReason::LogoutAll).await?;
        }
    } else if let Some(device) = caller.device_id {
        end_device(&state, &origin, caller.account_id, device, SignOutReason::Logout).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
