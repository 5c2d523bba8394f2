//! `GET /models`, which both families of SDKs ask for, each in its own shape.

use axum::{Json, Router, extract::State, http::HeaderMap, routing::get};
use polyphony_domain::catalog::Model;
use serde_json::{Value, json};

use super::{call, error::Shape};
use crate::{
    error::ApiError,
    extract::{Caller, PathPart},
    state::AppState,
};

/// The start of the catalogue, 2026-01-01: the providers don't say when a model was made.
const CREATED: u32 = 1_767_225_600;
const CREATED_AT: &str = "2026-01-01T00:00:00Z";

pub fn router() -> Router<AppState> {
    Router::new().route("/models", get(list)).route("/models/{*id}", get(retrieve))
}

fn shape(shape: Shape, model: &Model) -> Value {
    match shape {
        Shape::OpenAi => {
            json!({"id": model.slug(), "object": "model", "created": CREATED, "owned_by": model.provider})
        }
        Shape::Anthropic => {
            json!({"id": model.slug(), "type": "model", "created_at": CREATED_AT, "display_name": model.display_name})
        }
    }
}

async fn list(State(state): State<AppState>, _: Caller, headers: HeaderMap) -> Json<Value> {
    let of = Shape::of("", &headers);
    let models: Vec<Value> = state.catalog.models().iter().map(|model| shape(of, model)).collect();
    Json(match of {
        Shape::OpenAi => json!({"object": "list", "data": models}),
        Shape::Anthropic => {
            let id = |model: Option<&Value>| model.map(|model| model["id"].clone());
            json!({"first_id": id(models.first()), "last_id": id(models.last()), "data": models, "has_more": false})
        }
    })
}

async fn retrieve(
    State(state): State<AppState>,
    _: Caller,
    headers: HeaderMap,
    PathPart(id): PathPart<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(shape(Shape::of("", &headers), call::model(&state, &id)?)))
}
