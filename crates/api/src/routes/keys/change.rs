//! Rotating, renaming and reordering a stored key.

use axum::extract::State;
use polyphony_domain::{
    api_key::{ApiKey, ApiKeyCommand},
    ids::KeyId,
};
use polyphony_eventstore::{Effect, Root, api_keys::label};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{check_base_url, check_secret, hint, key_of};
use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin, PathId, check_length},
    respond::{Envelope, Success},
    shapes::Key,
    state::AppState,
};

/// What is absent stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeKey {
    /// Another key in its place; the old one is destroyed.
    api_key: Option<String>,
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Lower is tried first.
    priority: Option<i32>,
    /// Another host of the same dialect. Only together with the key that is meant for it.
    base_url: Option<String>,
}

/// Rotates a key, or changes its name or priority.
#[utoipa::path(put, path = "/keys/{id}", tag = "keys", params(("id" = Uuid, Path)), request_body = ChangeKey,
    responses((status = 200, body = Envelope<Key>)))]
pub(super) async fn change(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathId(key_id): PathId<KeyId>,
    Body { value: body, .. }: Body<ChangeKey>,
) -> Result<Success<Key>, ApiError> {
    let account_id = caller.account_id;
    let secret = body.api_key.map(check_secret).transpose()?;
    if let Some(name) = &body.name {
        check_length("name", name, 1, 100)?;
    }
    if body.base_url.is_some() && secret.is_none() {
        // A key is bound to its host: who takes over a page must not be able to have it sent elsewhere.
        return Err(ApiError::invalid("api_key", "is needed with another base_url"));
    }
    let base_url = body.base_url.map(|url| check_base_url(&state, &url)).transpose()?;
    let current = key_of(&state, account_id, key_id).await?;
    let root = Root::Existing(account_id.as_uuid());
    let seal = async |label: &str, clear: &[u8]| {
        state.store.seal_column(account_id, label, key_id.as_uuid(), clear).await.map_err(ApiError::from)
    };
    if let Some(secret) = secret {
        let base_url = base_url.or(current.base_url);
        let key_hint = hint(&secret);
        let sealed_hint = seal(label::HINT, key_hint.as_bytes()).await?;
        let label = label::secret(&current.provider, base_url.as_deref());
        let sealed_key = seal(&label, secret.as_bytes()).await?;
        let command = ApiKeyCommand::Rotate { key_hint: key_hint.into(), base_url: base_url.clone() };
        state
            .store
            .command::<ApiKey>(origin.context(account_id), root)
            .effects(move |key: &ApiKey, _| {
                vec![Effect::RotateApiKey {
                    key_id,
                    account_id,
                    base_url: base_url.clone(),
                    key_hint: sealed_hint.clone(),
                    sealed_key: sealed_key.clone(),
                    version: key.version,
                }]
            })
            .run(key_id.as_uuid(), command)
            .await?;
    }
    if let Some(name) = body.name {
        let sealed = seal(label::NAME, name.as_bytes()).await?;
        let command = ApiKeyCommand::Rename { name: name.into() };
        state
            .store
            .command::<ApiKey>(origin.context(account_id), root)
            .effects(move |_, _| vec![Effect::RenameApiKey { key_id, name: sealed.clone() }])
            .run(key_id.as_uuid(), command)
            .await?;
    }
    if let Some(priority) = body.priority {
        state
            .store
            .command::<ApiKey>(origin.context(account_id), root)
            .effects(move |_, _| vec![Effect::PrioritiseApiKey { key_id, priority }])
            .run(key_id.as_uuid(), ApiKeyCommand::Prioritise { priority })
            .await?;
    }
    state.bus.poke_relay().await;
    Ok(Success::ok(key_of(&state, account_id, key_id).await?.into()))
}
