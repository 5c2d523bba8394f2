//! Which model answers, with which parameters and key: the request's word first, then the person's settings.

use axum::http::StatusCode;
use chrono::Utc;
use polyphony_domain::{
    account::Account,
    catalog::{DEMO, Model},
    content::Part,
    ids::{AccountId, KeyId},
    model_config::{Configuration, ModelConfig},
    session::Session,
    turn::{AnswerRequest, ModelRef, Params},
};

use crate::{error::ApiError, state::AppState};

fn unprocessable(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
}

/// The model that a request names.
///
/// # Errors
/// `VALIDATION_FAILED` for one that isn't in the catalogue.
pub fn named<'a>(state: &'a AppState, field: &str, reference: &str) -> Result<&'a Model, ApiError> {
    state.catalog.resolve(reference).ok_or_else(|| ApiError::invalid(field, "there is no such model"))
}

/// The model of a turn: the request's, else the session's, else the person's default, else the first usable one.
///
/// # Errors
/// `VALIDATION_FAILED` for an unknown model, `MODEL_UNAVAILABLE` for a session whose model is served no more.
pub async fn model<'a>(
    state: &'a AppState,
    owner: AccountId,
    asked: Option<&str>,
    session: &Session,
) -> Result<&'a Model, ApiError> {
    if let Some(reference) = asked {
        return named(state, "model_id", reference);
    }
    if let Some(slug) = session.model.as_deref() {
        return state.catalog.resolve(slug).ok_or_else(|| {
            unprocessable("MODEL_UNAVAILABLE", "this deployment doesn't serve the session's model any more")
        });
    }
    let (account, _) = state.store.load::<Account>(owner.as_uuid()).await?;
    // A default that is served no more is no reason to answer nothing.
    match account.settings.default_model_id.as_deref().and_then(|slug| state.catalog.resolve(slug)) {
        Some(model) => Ok(model),
        None => first_usable(state, owner).await,
    }
}

async fn first_usable(state: &AppState, owner: AccountId) -> Result<&Model, ApiError> {
    let (keyed, now) = (state.store.keyed_providers(owner).await?, Utc::now());
    let usable = |model: &&Model| {
        let is_choice = model.provider != "demo" && !model.is_retired(now);
        is_choice && (keyed.contains(&model.provider) || !state.registry.needs_key(&model.provider))
    };
    let models = state.catalog.models().iter();
    models
        .clone()
        .find(usable)
        .or_else(|| state.catalog.resolve(DEMO))
        .ok_or_else(|| ApiError::internal("no demo model"))
}

/// The stored key to use first for a provider; none where none is needed.
///
/// # Errors
/// `NO_API_KEY`.
async fn key(state: &AppState, owner: AccountId, model: &Model) -> Result<Option<KeyId>, ApiError> {
    // Where a key isn't needed, one that was stored still counts.
    let key = if model.provider == "demo" { None } else { state.store.usable_key(owner, &model.provider).await? };
    if key.is_none() && state.registry.needs_key(&model.provider) {
        let message = format!("there is no usable key for {}; add one under /keys", model.provider);
        return Err(unprocessable("NO_API_KEY", message).with_detail("model", model.slug()));
    }
    Ok(key)
}

/// The fallbacks that the person could use right now.
async fn usable(state: &AppState, owner: AccountId, fallbacks: Vec<ModelRef>) -> Result<Vec<ModelRef>, ApiError> {
    if fallbacks.is_empty() {
        return Ok(fallbacks);
    }
    let keyed = state.store.keyed_providers(owner).await?;
    let is_usable = |model: &ModelRef| {
        state.registry.serves(&model.provider)
            && (keyed.contains(&model.provider) || !state.registry.needs_key(&model.provider))
    };
    Ok(fallbacks.into_iter().filter(is_usable).collect())
}

/// How a model is asked about a prompt of text alone: the request's parameters completed by the person's settings for the
/// model.
///
/// # Errors
/// `VALIDATION_FAILED` for a parameter that the model doesn't take, `NO_API_KEY`.
pub async fn request(
    state: &AppState,
    owner: AccountId,
    model: &Model,
    params: &Params,
) -> Result<AnswerRequest, ApiError> {
    let asked = AnswerRequest { params: params.clone(), ..AnswerRequest::default() };
    request_to(state, owner, model, asked, &[]).await
}

/// The same about a prompt that brings something along; `asked` says the rest of what is asked for.
///
/// # Errors
/// `VALIDATION_FAILED` for what the model doesn't take: a parameter, tools, a picture of the prompt; `NO_API_KEY`.
pub async fn request_to(
    state: &AppState,
    owner: AccountId,
    model: &Model,
    asked: AnswerRequest,
    prompt: &[Part],
) -> Result<AnswerRequest, ApiError> {
    let asked = AnswerRequest { model: model.reference(), ..asked };
    model.check(&asked, prompt).map_err(|unfit| ApiError::unfit(&unfit).with_detail("model", model.slug()))?;
    let config = ModelConfig::id(owner, model.id);
    let config = async { Ok(state.store.load::<ModelConfig>(config).await?.0.configuration) };
    let (key_id, config) = tokio::try_join!(key(state, owner, model), config)?;
    // Settings may be older than the catalogue.
    let params = model.fit(config.complete(asked.params.clone()));
    let Configuration { system_prompt, fallbacks, .. } = config;
    let fallbacks = usable(state, owner, fallbacks).await?;
    Ok(AnswerRequest { params, key_id, system_prompt, fallbacks, ..asked })
}
