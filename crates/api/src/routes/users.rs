//! The caller's own account, and the personal access tokens.

mod quota;
mod settings;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use chrono::{DateTime, Utc};
use polyphony_domain::{
    access_token::{AccessToken, AccessTokenCommand},
    account::Account,
    ids::{AccountId, DeviceId, TokenId},
};
use polyphony_eventstore::{Effect, Root, accounts::TOKEN_NAME, idempotency::StoredResponse};
use polyphony_platform::vault;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    auth::PAT_PREFIX,
    error::ApiError,
    extract::{Body, Caller, Origin, PathId, check_length},
    idempotency,
    respond::{Envelope, Success},
    shapes::{IssuedToken, Token, User},
    state::AppState,
};

const TOKENS: &str = "/api/v1/users/me/tokens";

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(list_tokens, issue_token))
        .routes(routes!(revoke_token))
        .merge(settings::router())
        .merge(quota::router())
}

/// Ids carry the time at which they were made.
fn time_of(id: Uuid) -> Option<DateTime<Utc>> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
}

/// Reads an account from the log, as one of its devices sees it.
pub async fn load(state: &AppState, id: AccountId, device: Option<DeviceId>) -> Result<User, ApiError> {
    let (account, version) = state.store.load::<Account>(id.as_uuid()).await?;
    if version == 0 || account.email.is_erased() {
        return Err(ApiError::unauthorized());
    }
    let signed_in = match device {
        Some(device) => Some(device),
        // A script has no device: what counts is the person's last one.
        None => state.store.open_devices(id).await?.into_iter().max(),
    };
    let created_at = time_of(id.as_uuid());
    Ok(User {
        id: id.as_uuid(),
        email: account.email.into_string(),
        nickname: account.nickname.map(|nickname| nickname.into_string()),
        avatar_url: None,
        role: account.role.as_str(),
        status: "active",
        settings: json!(account.settings),
        created_at,
        updated_at: created_at,
        last_login_at: signed_in.and_then(|device| time_of(device.as_uuid())),
    })
}

/// The caller.
#[utoipa::path(get, path = "/users/me", tag = "users", responses((status = 200, body = Envelope<User>)))]
async fn me(State(state): State<AppState>, caller: Caller) -> Result<Success<User>, ApiError> {
    Ok(Success::ok(load(&state, caller.account_id, caller.device_id).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct IssueToken {
    name: String,
    #[serde(default)]
    scopes: Vec<String>,
    expires_at: Option<DateTime<Utc>>,
}

/// The caller's personal access tokens.
#[utoipa::path(get, path = "/users/me/tokens", tag = "users", responses((status = 200, body = Envelope<Vec<Token>>)))]
async fn list_tokens(State(state): State<AppState>, caller: Caller) -> Result<Success<Vec<Token>>, ApiError> {
    let tokens = state.store.access_tokens(caller.account_id).await?;
    Ok(Success::ok(tokens.into_iter().map(Token::from).collect()))
}

/// Issues a personal access token; it is shown this once.
#[utoipa::path(post, path = "/users/me/tokens", tag = "users", request_body = IssueToken,
    responses((status = 201, body = Envelope<IssuedToken>)))]
async fn issue_token(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: body, request_hash }: Body<IssueToken>,
) -> Result<Success<Value>, ApiError> {
    check_length("name", &body.name, 1, 100)?;
    // Scopes come with the routes that they limit; a token that only seems limited would be worse than none.
    if !body.scopes.is_empty() {
        return Err(ApiError::invalid("scopes", "limited tokens are not offered yet; leave it out"));
    }
    if body.expires_at.is_some_and(|at| at <= Utc::now()) {
        return Err(ApiError::invalid("expires_at", "must be in the future"));
    }
    let key = idempotency::key(&headers, caller.account_id, request_hash)?;
    if let Some(seen) = idempotency::replay(&state, key.as_ref()).await? {
        return Ok(Success::stored(seen, TOKENS));
    }
    let account_id = caller.account_id;
    let token_id = TokenId::new(Uuid::now_v7());
    let token = vault::random_token(PAT_PREFIX);
    let token_hash = vault::token_hash(&token);
    let name = state.store.seal_column(account_id, TOKEN_NAME, token_id.as_uuid(), body.name.as_bytes()).await?;
    let data = json!(IssuedToken {
        token,
        about: Token {
            id: token_id.as_uuid(),
            name: body.name.clone(),
            scopes: body.scopes.clone(),
            expires_at: body.expires_at,
            created_at: Utc::now(),
        },
    });
    let response = StoredResponse { status: 201, data };
    let (scopes, expires_at, kept) = (body.scopes.clone(), body.expires_at, response.clone());
    let command = AccessTokenCommand::Issue { name: body.name, scopes: body.scopes, expires_at: body.expires_at };
    let done = state
        .store
        .command::<AccessToken>(origin.context(account_id), Root::Existing(account_id.as_uuid()))
        .from_nothing()
        .effects(move |_, _| {
            let (name, scopes) = (name.clone(), scopes.clone());
            vec![Effect::CreateAccessToken { token_id, account_id, token_hash, name, scopes, expires_at }]
        })
        .idempotent(key.clone(), move |_| kept.clone())
        .run(token_id.as_uuid(), command)
        .await;
    let response = idempotency::settle(&state, key.as_ref(), done.map(|_| response).map_err(ApiError::from)).await?;
    state.bus.poke_relay().await;
    Ok(Success::stored(response, TOKENS))
}

/// Ends a personal access token.
#[utoipa::path(delete, path = "/users/me/tokens/{id}", tag = "users", params(("id" = Uuid, Path)),
    responses((status = 204)))]
async fn revoke_token(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathId(token_id): PathId<TokenId>,
) -> Result<StatusCode, ApiError> {
    let account_id = caller.account_id;
    state
        .store
        .command::<AccessToken>(origin.context(account_id), Root::Existing(account_id.as_uuid()))
        .effects(move |_, _| vec![Effect::DeleteAccessToken { token_id, account_id }])
        .run(token_id.as_uuid(), AccessTokenCommand::Revoke)
        .await?;
    state.bus.poke_relay().await;
    Ok(StatusCode::NO_CONTENT)
}
