//! Provider keys: pasted once, sealed, never shown again.

mod change;
mod check;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use chrono::Utc;
use polyphony_domain::{
    api_key::{ApiKey, ApiKeyCommand, KeyDetails},
    ids::{AccountId, KeyId},
};
use polyphony_eventstore::{
    Effect, Root,
    api_keys::{KeyRecord, label},
    idempotency::StoredResponse,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use url::Url;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin, PathId, check_length},
    idempotency,
    respond::{Envelope, Success},
    shapes::Key,
    state::AppState,
};

const KEYS: &str = "/api/v1/keys";
/// Keys shorter than this show nothing of themselves.
const HINT_FROM: usize = 20;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(change::change, remove))
        .routes(routes!(check::validate))
        .routes(routes!(check::usage))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AddKey {
    #[schema(example = "openai")]
    provider: String,
    /// The key itself. It is sealed at once and never shown again.
    api_key: Option<String>,
    #[serde(default)]
    mode: Mode,
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Lower is tried first.
    priority: Option<i32>,
    /// Another host of the same dialect: https, public, on its usual port.
    base_url: Option<String>,
    /// For `client` keys: the id of the device's wrapping key.
    #[schema(value_type = Option<String>)]
    key_id: Option<IgnoredAny>,
    /// For `client` keys: the sealed key.
    #[schema(value_type = Option<String>)]
    ciphertext: Option<IgnoredAny>,
    /// For `client` keys: its nonce.
    #[schema(value_type = Option<String>)]
    nonce: Option<IgnoredAny>,
}

impl AddKey {
    /// A field that only a key in mode `client` has.
    fn client_field(&self) -> Option<&'static str> {
        let fields = [("key_id", &self.key_id), ("ciphertext", &self.ciphertext), ("nonce", &self.nonce)];
        fields.into_iter().find_map(|(name, value)| value.is_some().then_some(name))
    }
}

/// Who can open a key.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// The server, with its own keys.
    #[default]
    Server,
    /// Only the person's devices. Not offered yet.
    Client,
}

fn hint(key: &str) -> String {
    let tail: Vec<char> = key.chars().rev().take(4).collect();
    if key.chars().count() < HINT_FROM {
        "••••".to_owned()
    } else {
        format!("…{}", tail.iter().rev().collect::<String>())
    }
}

/// The caller's keys.
#[utoipa::path(get, path = "/keys", tag = "keys", responses((status = 200, body = Envelope<Vec<Key>>)))]
async fn list(State(state): State<AppState>, caller: Caller) -> Result<Success<Vec<Key>>, ApiError> {
    let keys = state.store.api_keys(caller.account_id).await?;
    Ok(Success::ok(keys.into_iter().map(Key::from).collect()))
}

/// Stores a key. Several for one provider are allowed.
#[utoipa::path(post, path = "/keys", tag = "keys", request_body = AddKey,
    responses((status = 201, body = Envelope<Key>)))]
async fn add(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: body, request_hash }: Body<AddKey>,
) -> Result<Success<Value>, ApiError> {
    if !state.registry.serves(&body.provider) || body.provider == "demo" {
        return Err(ApiError::invalid("provider", "there is no such provider that takes keys"));
    }
    if body.mode == Mode::Client {
        return Err(ApiError::invalid(
            "mode",
            "keys that only your devices can open are not offered yet; use `server`",
        ));
    }
    if let Some(field) = body.client_field() {
        return Err(ApiError::invalid(field, "goes with keys in mode `client` only"));
    }
    let secret = check_secret(body.api_key.unwrap_or_default())?;
    let name = body.name.unwrap_or_else(|| body.provider.clone());
    check_length("name", &name, 1, 100)?;
    let base_url = body.base_url.map(|url| check_base_url(&state, &url)).transpose()?;
    let key = idempotency::key(&headers, caller.account_id, request_hash)?;
    if let Some(seen) = idempotency::replay(&state, key.as_ref()).await? {
        return Ok(Success::stored(seen, KEYS));
    }
    let account_id = caller.account_id;
    let key_id = KeyId::new(Uuid::now_v7());
    let key_hint = hint(&secret);
    let secret_label = label::secret(&body.provider, base_url.as_deref());
    let seal = async |label: &str, clear: &[u8]| {
        state.store.seal_column(account_id, label, key_id.as_uuid(), clear).await.map_err(ApiError::from)
    };
    let priority = body.priority.unwrap_or(0);
    let effect = Effect::CreateApiKey {
        key_id,
        account_id,
        provider: body.provider.clone(),
        base_url: base_url.clone(),
        name: seal(label::NAME, name.as_bytes()).await?,
        key_hint: seal(label::HINT, key_hint.as_bytes()).await?,
        sealed_key: seal(&secret_label, secret.as_bytes()).await?,
        priority,
    };
    let data = json!(Key {
        id: key_id.as_uuid(),
        provider: body.provider.clone(),
        name: name.clone(),
        key_hint: key_hint.clone(),
        mode: "server",
        base_url: base_url.clone(),
        is_valid: true,
        priority,
        last_validated: None,
        last_used_at: None,
        created_at: Utc::now(),
        version: 1,
    });
    let details =
        KeyDetails { provider: body.provider, name: name.into(), key_hint: key_hint.into(), base_url, priority };
    let response = StoredResponse { status: 201, data };
    let kept = response.clone();
    let done = state
        .store
        .command::<ApiKey>(origin.context(account_id), Root::Existing(account_id.as_uuid()))
        .from_nothing()
        .effects(move |_, _| vec![effect.clone()])
        .idempotent(key.clone(), move |_| kept.clone())
        .run(key_id.as_uuid(), ApiKeyCommand::Add(details))
        .await;
    let response = idempotency::settle(&state, key.as_ref(), done.map(|_| response).map_err(ApiError::from)).await?;
    state.bus.poke_relay().await;
    Ok(Success::stored(response, KEYS))
}

/// A key as it was pasted, without the blanks around it.
fn check_secret(pasted: String) -> Result<Zeroizing<String>, ApiError> {
    let pasted = Zeroizing::new(pasted);
    let secret = Zeroizing::new(pasted.trim().to_owned());
    if !(1..=512).contains(&secret.len()) || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ApiError::invalid("api_key", "must have 1 to 512 visible ASCII characters"));
    }
    Ok(secret)
}

/// One of a person's keys, without the key.
async fn key_of(state: &AppState, account: AccountId, key: KeyId) -> Result<KeyRecord, ApiError> {
    let keys = state.store.api_keys(account).await?;
    keys.into_iter().find(|record| record.key_id == key).ok_or_else(ApiError::not_found)
}

fn check_base_url(state: &AppState, url: &str) -> Result<String, ApiError> {
    let url = Url::parse(url).map_err(|_| ApiError::invalid("base_url", "must be a URL"))?;
    state
        .egress
        .check_url(&url)
        .map_err(|blocked| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "EGRESS_BLOCKED", blocked.to_string()))?;
    Ok(url.into())
}

/// Destroys a key.
#[utoipa::path(delete, path = "/keys/{id}", tag = "keys", params(("id" = Uuid, Path)), responses((status = 204)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathId(key_id): PathId<KeyId>,
) -> Result<StatusCode, ApiError> {
    let account_id = caller.account_id;
    state
        .store
        .command::<ApiKey>(origin.context(account_id), Root::Existing(account_id.as_uuid()))
        .effects(move |_, _| vec![Effect::DeleteApiKey { key_id, account_id }])
        .run(key_id.as_uuid(), ApiKeyCommand::Remove)
        .await?;
    state.bus.poke_relay().await;
    Ok(StatusCode::NO_CONTENT)
}
