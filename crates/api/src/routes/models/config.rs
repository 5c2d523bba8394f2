//! A person's own settings for a model.

use axum::extract::State;
use polyphony_domain::{
    catalog::Model,
    ids::AccountId,
    model_config::{Configuration, ModelConfig, ModelConfigCommand},
    turn::{AnswerRequest, ModelRef},
};
use polyphony_eventstore::Root;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin, PathPart},
    respond::{Envelope, Success},
    routes::chat::choose::named,
    state::AppState,
};

/// Most bytes of a system prompt.
const LONGEST_PROMPT: usize = 32 * 1024;
/// Most models to turn to.
const MOST_FALLBACKS: usize = 8;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(config, configure))
}

/// How a person wants a model to be asked where a request leaves it open.
#[derive(Serialize, ToSchema)]
struct ConfigShape {
    model_id: Uuid,
    temperature: Option<f32>,
    max_tokens: Option<u32>,
    top_p: Option<f32>,
    /// Used in sessions that have none.
    system_prompt: Option<String>,
    /// Models to turn to, in this order, when this one can't answer.
    fallback_model_ids: Vec<Uuid>,
}

impl ConfigShape {
    fn new(model: &Model, configuration: Configuration) -> Self {
        Self {
            model_id: model.id.as_uuid(),
            temperature: configuration.temperature,
            max_tokens: configuration.max_tokens,
            top_p: configuration.top_p,
            system_prompt: configuration.system_prompt.map(|prompt| prompt.into_string()),
            fallback_model_ids: configuration.fallbacks.iter().map(|model| model.id.as_uuid()).collect(),
        }
    }
}

/// A field that was given, be it as null.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What is given is set, null takes it back, and what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeConfig {
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<f32>)]
    temperature: Option<Option<f32>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    max_tokens: Option<Option<u32>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<f32>)]
    top_p: Option<Option<f32>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    system_prompt: Option<Option<String>>,
    /// At most 8, by id, name or `provider/name`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    fallback_model_ids: Option<Option<Vec<String>>>,
}

fn fallbacks(state: &AppState, model: &Model, references: &[String]) -> Result<Vec<ModelRef>, ApiError> {
    let refused = |reason: &str| Err(ApiError::invalid("fallback_model_ids", reason));
    if references.len() > MOST_FALLBACKS {
        return refused("must name at most 8 models");
    }
    let mut models: Vec<ModelRef> = Vec::with_capacity(references.len());
    for reference in references {
        let fallback = named(state, "fallback_model_ids", reference)?.reference();
        if fallback.id == model.id || models.contains(&fallback) {
            return refused("must name other models, each once");
        }
        models.push(fallback);
    }
    Ok(models)
}

fn changed(
    state: &AppState,
    model: &Model,
    mut config: Configuration,
    body: ChangeConfig,
) -> Result<Configuration, ApiError> {
    if let Some(temperature) = body.temperature {
        config.temperature = temperature;
    }
    if let Some(max_tokens) = body.max_tokens {
        config.max_tokens = max_tokens;
    }
    if let Some(top_p) = body.top_p {
        config.top_p = top_p;
    }
    if let Some(prompt) = body.system_prompt {
        if prompt.as_ref().is_some_and(|prompt| prompt.len() > LONGEST_PROMPT) {
            return Err(ApiError::invalid("system_prompt", "must have at most 32 KiB"));
        }
        config.system_prompt = prompt.filter(|prompt| !prompt.is_empty()).map(Into::into);
    }
    if let Some(references) = body.fallback_model_ids {
        config.fallbacks = fallbacks(state, model, &references.unwrap_or_default())?;
    }
    let asked = AnswerRequest { params: config.params(), ..AnswerRequest::default() };
    match model.check(&asked, &[]) {
        Ok(()) => Ok(config),
        Err(mut unfit) => {
            // Here the fields stand by themselves.
            unfit.iter_mut().for_each(|unfit| unfit.field = unfit.field.trim_start_matches("params."));
            Err(ApiError::unfit(&unfit))
        }
    }
}

async fn load(state: &AppState, account: AccountId, model: &Model) -> Result<Configuration, ApiError> {
    let (config, _) = state.store.load::<ModelConfig>(ModelConfig::id(account, model.id)).await?;
    Ok(config.configuration)
}

/// The caller's settings for a model, by its id or name.
#[utoipa::path(get, path = "/models/{id}/config", tag = "models", params(("id" = String, Path)),
    responses((status = 200, body = Envelope<ConfigShape>)))]
async fn config(
    State(state): State<AppState>,
    caller: Caller,
    PathPart(id): PathPart<String>,
) -> Result<Success<ConfigShape>, ApiError> {
    let model = state.catalog.resolve(&id).ok_or_else(ApiError::not_found)?;
    let config = load(&state, caller.account_id, model).await?;
    Ok(Success::ok(ConfigShape::new(model, config)))
}

/// Changes the caller's settings for a model.
#[utoipa::path(put, path = "/models/{id}/config", tag = "models", params(("id" = String, Path)),
    request_body = ChangeConfig, responses((status = 200, body = Envelope<ConfigShape>)))]
async fn configure(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathPart(id): PathPart<String>,
    Body { value: body, .. }: Body<ChangeConfig>,
) -> Result<Success<ConfigShape>, ApiError> {
    let model = state.catalog.resolve(&id).ok_or_else(ApiError::not_found)?;
    let account = caller.account_id;
    let config = load(&state, account, model).await?;
    let configuration = changed(&state, model, config, body)?;
    let command = ModelConfigCommand::Configure { model: model.reference(), configuration };
    let executed = state
        .store
        .command::<ModelConfig>(origin.context(account), Root::Existing(account.as_uuid()))
        .run(ModelConfig::id(account, model.id), command)
        .await?;
    state.bus.poke_relay().await;
    Ok(Success::ok(ConfigShape::new(model, executed.aggregate.configuration)))
}
