//! `GET /models`, which both families of SDKs ask for, each in its own shape.

use axum::{Json, extract::State, http::HeaderMap};
use polyphony_domain::catalog::Model;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{call, error::Shape};
use crate::{
    error::ApiError,
    extract::{Caller, PathPart},
    state::AppState,
};

/// The start of the catalogue, 2026-01-01: the providers don't say when a model was made.
const CREATED: u32 = 1_767_225_600;
const CREATED_AT: &str = "2026-01-01T00:00:00Z";

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(retrieve))
}

/// A model in the shape of OpenAI, or in Anthropic's for who names a version of that.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum SdkModel {
    OpenAi(OpenAiModel),
    Anthropic(AnthropicModel),
}

/// A model in OpenAI's shape, with its name for people.
#[derive(Serialize, ToSchema)]
struct OpenAiModel {
    /// `provider/name`.
    #[schema(example = "demo/demo")]
    id: String,
    #[schema(example = "model")]
    object: &'static str,
    created: u32,
    /// The provider.
    #[schema(example = "demo")]
    owned_by: String,
    name: String,
}

/// A model in Anthropic's shape.
#[derive(Serialize, ToSchema)]
struct AnthropicModel {
    /// `provider/name`.
    #[schema(example = "demo/demo")]
    id: String,
    #[serde(rename = "type")]
    #[schema(example = "model")]
    kind: &'static str,
    created_at: &'static str,
    display_name: String,
}

/// All models that this deployment serves.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum SdkModels {
    OpenAi(OpenAiModels),
    Anthropic(AnthropicModels),
}

/// A list in OpenAI's shape.
#[derive(Serialize, ToSchema)]
struct OpenAiModels {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<OpenAiModel>,
}

/// A list in Anthropic's shape; it is always whole.
#[derive(Serialize, ToSchema)]
struct AnthropicModels {
    first_id: Option<String>,
    last_id: Option<String>,
    data: Vec<AnthropicModel>,
    has_more: bool,
}

impl OpenAiModel {
    fn of(model: &Model) -> Self {
        let (owned_by, name) = (model.provider.clone(), model.display_name.clone());
        Self { id: model.slug(), object: "model", created: CREATED, owned_by, name }
    }
}

impl AnthropicModel {
    fn of(model: &Model) -> Self {
        let display_name = model.display_name.clone();
        Self { id: model.slug(), kind: "model", created_at: CREATED_AT, display_name }
    }
}

/// The models, in the shape of the SDK that asks: Anthropic's with the header `anthropic-version`, else OpenAI's.
#[utoipa::path(get, path = "/models", tag = "openai", responses((status = 200, body = SdkModels)))]
async fn list(State(state): State<AppState>, _: Caller, headers: HeaderMap) -> Json<SdkModels> {
    let models = state.catalog.models();
    Json(match Shape::of("", &headers) {
        Shape::OpenAi => {
            let data = models.iter().map(OpenAiModel::of).collect();
            SdkModels::OpenAi(OpenAiModels { object: "list", data })
        }
        Shape::Anthropic => {
            let data = models.iter().map(AnthropicModel::of).collect();
            let (first_id, last_id) = (models.first().map(Model::slug), models.last().map(Model::slug));
            SdkModels::Anthropic(AnthropicModels { first_id, last_id, data, has_more: false })
        }
    })
}

/// A model, by `provider/name`, a name or an id; in the shape of the SDK that asks.
#[utoipa::path(get, path = "/models/{*id}", tag = "openai", params(("id" = String, Path)),
    responses((status = 200, body = SdkModel)))]
async fn retrieve(
    State(state): State<AppState>,
    _: Caller,
    headers: HeaderMap,
    PathPart(id): PathPart<String>,
) -> Result<Json<SdkModel>, ApiError> {
    let model = call::model(&state, &id)?;
    Ok(Json(match Shape::of("", &headers) {
        Shape::OpenAi => SdkModel::OpenAi(OpenAiModel::of(model)),
        Shape::Anthropic => SdkModel::Anthropic(AnthropicModel::of(model)),
    }))
}
