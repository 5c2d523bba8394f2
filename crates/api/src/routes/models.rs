//! The models that this deployment serves.

mod config;

use std::collections::HashSet;

use axum::extract::State;
use polyphony_domain::{
    catalog::{CAPABILITIES, Model},
    ids::AccountId,
};
use polyphony_platform::config::items;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::ApiError,
    extract::{Caller, Params, PathPart},
    respond::{Envelope, Success},
    shapes::ModelShape,
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(providers)).routes(routes!(get)).merge(config::router())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListParams {
    /// Models of this provider only.
    provider: Option<String>,
    /// Models with all of these, a comma list: `vision`, `files`, `tools`, `reasoning`, `json_schema`, `prompt_caching`.
    capability: Option<String>,
    /// Only models that the caller can use right now, or only those that a key is missing for.
    has_key: Option<bool>,
}

/// A provider.
#[derive(Serialize, ToSchema)]
struct ProviderShape {
    name: String,
    display_name: String,
    /// Whether the caller needs a key of one's own.
    needs_key: bool,
    has_key: bool,
}

/// The providers that a caller can use right now.
async fn usable(state: &AppState, account: AccountId) -> Result<HashSet<String>, ApiError> {
    let keyed = state.store.keyed_providers(account).await?.into_iter();
    let free = state.registry.providers().into_iter().filter(|provider| !provider.needs_key);
    Ok(keyed.chain(free.map(|provider| provider.name)).collect())
}

/// The models.
#[utoipa::path(get, path = "/models", tag = "models", params(ListParams),
    responses((status = 200, body = Envelope<Vec<ModelShape>>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Success<Vec<ModelShape>>, ApiError> {
    let usable = usable(&state, caller.account_id).await?;
    let capabilities: Vec<&str> = params.capability.as_deref().map(|list| items(list).collect()).unwrap_or_default();
    if let Some(unknown) = capabilities.iter().find(|capability| !CAPABILITIES.contains(capability)) {
        return Err(ApiError::invalid(
            "capability",
            format!("there is no {unknown}; known are {}", CAPABILITIES.join(", ")),
        ));
    }
    let wanted = |model: &&Model| {
        params.provider.as_ref().is_none_or(|provider| *provider == model.provider)
            && capabilities.iter().all(|capability| model.capabilities.iter().any(|own| own == capability))
            && params.has_key.is_none_or(|has_key| has_key == usable.contains(&model.provider))
    };
    let models = state.catalog.models().iter().filter(wanted);
    Ok(Success::ok(models.map(|model| ModelShape::new(model, usable.contains(&model.provider))).collect()))
}

/// The providers.
#[utoipa::path(get, path = "/models/providers", tag = "models",
    responses((status = 200, body = Envelope<Vec<ProviderShape>>)))]
async fn providers(State(state): State<AppState>, caller: Caller) -> Result<Success<Vec<ProviderShape>>, ApiError> {
    let usable = usable(&state, caller.account_id).await?;
    let shapes = state.registry.providers().into_iter().map(|provider| ProviderShape {
        has_key: usable.contains(&provider.name),
        name: provider.name,
        display_name: provider.display_name,
        needs_key: provider.needs_key,
    });
    Ok(Success::ok(shapes.collect()))
}

/// A model, by id or name.
#[utoipa::path(get, path = "/models/{id}", tag = "models", params(("id" = String, Path)),
    responses((status = 200, body = Envelope<ModelShape>)))]
async fn get(
    State(state): State<AppState>,
    caller: Caller,
    PathPart(id): PathPart<String>,
) -> Result<Success<ModelShape>, ApiError> {
    let model = state.catalog.resolve(&id).ok_or_else(ApiError::not_found)?;
    let usable = usable(&state, caller.account_id).await?;
    Ok(Success::ok(ModelShape::new(model, usable.contains(&model.provider))))
}
