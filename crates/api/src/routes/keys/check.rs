//! Trying a stored key at its provider, and what it has been used for.

use std::time::Duration;

use axum::extract::State;
use chrono::{DateTime, Utc};
use polyphony_domain::ids::KeyId;
use polyphony_providers::{ErrorKind, ProviderError, ProviderKey};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::key_of;
use crate::{
    error::ApiError,
    extract::{Caller, Origin, PathId},
    respond::{Envelope, Success},
    shapes::Key,
    state::AppState,
};

/// The longest that a provider may take to judge a key.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Tries a key at its provider. `is_valid` says whether it takes it; where it can't be asked, nothing changes.
#[utoipa::path(post, path = "/keys/{id}/validate", tag = "keys", params(("id" = Uuid, Path)),
    responses((status = 200, body = Envelope<Key>)))]
pub(super) async fn validate(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathId(key_id): PathId<KeyId>,
) -> Result<Success<Key>, ApiError> {
    let account_id = caller.account_id;
    state.limits.key_checks.check(&account_id)?;
    let opened = state.store.open_api_key(account_id, key_id).await?.ok_or_else(ApiError::not_found)?;
    let unserved = || ProviderError::of(ErrorKind::ModelUnavailable);
    let adapter = match &opened.base_url {
        Some(base_url) => state.registry.at_host(&opened.provider, base_url, &state.egress),
        None => state.registry.adapter(&opened.provider).ok_or_else(unserved),
    };
    let key = ProviderKey::new(opened.secret);
    let judged = match adapter {
        Ok(adapter) => tokio::time::timeout(TIMEOUT, adapter.validate_key(&key))
            .await
            .unwrap_or_else(|_| Err(ProviderError::of(ErrorKind::Timeout))),
        Err(error) => Err(error),
    };
    let is_valid = match judged {
        Ok(()) => true,
        Err(error) if error.kind == ErrorKind::InvalidKey => false,
        // A limit or an empty account are the word of a provider that knows the key.
        Err(error) if matches!(error.kind, ErrorKind::RateLimited | ErrorKind::QuotaExceeded) => true,
        Err(error) => return Err(ApiError::of_answer(error.api_code(), &error.message)),
    };
    state.store.judge_api_key(origin.context(account_id), key_id, opened.version, is_valid).await?;
    state.bus.poke_relay().await;
    Ok(Success::ok(key_of(&state, account_id, key_id).await?.into()))
}

/// What a key has been used for, and how it fares.
#[derive(Serialize, ToSchema)]
pub(super) struct UsageShape {
    key_id: Uuid,
    requests: u64,
    errors: u64,
    tokens_input: u64,
    tokens_output: u64,
    cost_usd: String,
    last_used_at: Option<DateTime<Utc>>,
    /// Code that the last request failed with; null where it went well.
    last_error: Option<String>,
    /// `ok`, `limited` (it was asked to slow down), `exhausted` (no balance or quota left) or `refused`.
    quota_alert: &'static str,
    /// Requests that ended before are in the sums.
    as_of: DateTime<Utc>,
}

/// What a key has been used for.
#[utoipa::path(get, path = "/keys/{id}/usage", tag = "keys", params(("id" = Uuid, Path)),
    responses((status = 200, body = Envelope<UsageShape>)))]
pub(super) async fn usage(
    State(state): State<AppState>,
    caller: Caller,
    PathId(key_id): PathId<KeyId>,
) -> Result<Success<UsageShape>, ApiError> {
    let key = key_of(&state, caller.account_id, key_id).await?;
    let usage = state.reads.key_usage(caller.account_id, key_id).await?;
    let quota_alert = match usage.last_error.as_str() {
        _ if !key.is_valid => "refused",
        "QUOTA_EXCEEDED" => "exhausted",
        "RATE_LIMITED" => "limited",
        _ => "ok",
    };
    Ok(Success::ok(UsageShape {
        key_id: key_id.as_uuid(),
        requests: usage.requests,
        errors: usage.errors,
        tokens_input: usage.tokens_input,
        tokens_output: usage.tokens_output,
        cost_usd: usage.cost.to_string(),
        // Being opened for a call counts before the call has ended.
        last_used_at: usage.last_used_at.max(key.last_used_at),
        last_error: Some(usage.last_error).filter(|code| !code.is_empty()),
        quota_alert,
        as_of: usage.as_of,
    }))
}
