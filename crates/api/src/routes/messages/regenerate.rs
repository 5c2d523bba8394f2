//! `POST /messages/:id/regenerate`: a further version of an answer, by the same model or another.

use axum::{extract::State, http::HeaderMap, response::Response};
use polyphony_domain::turn::{AnswerRequest, Params as Sampling};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{Located, locate};
use crate::{
    error::ApiError,
    extract::{Caller, OptionalBody, Origin, PathId},
    idempotency,
    respond::Envelope,
    routes::chat::{
        ask::{Asker, Order, Undeleted, respond_if_asked},
        choose,
    },
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(regenerate))
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Regeneration {
    /// Id, name, or `provider/name`; else the model of the answer.
    model_id: Option<String>,
    /// Else those of the answer, where the model stays the same.
    #[schema(value_type = Option<Object>)]
    params: Option<Sampling>,
}

/// How the new version is asked for.
async fn request(
    state: &AppState,
    caller: Caller,
    found: &Located,
    body: Regeneration,
) -> Result<AnswerRequest, ApiError> {
    // Asked of a prompt, it means the answer that the conversation goes through.
    let old = found.answer_id.or_else(|| found.turn.active_answer().map(|(id, _)| id));
    let old = old.and_then(|id| found.turn.answers.get(&id)).map(|answer| answer.request.clone());
    let owner = caller.account_id;
    let same = old.as_ref().filter(|_| body.model_id.is_none()).map(|old| old.model.id.to_string());
    let model = match &same {
        Some(id) => state.catalog.resolve(id),
        None => None,
    };
    let model = match model {
        Some(model) => model,
        None => choose::model(state, owner, body.model_id.as_deref(), &found.session).await?,
    };
    let old = old.unwrap_or_default();
    let params = match body.params {
        Some(params) => params,
        None if old.model.id == model.id => old.params,
        None => Sampling::default(),
    };
    let AnswerRequest { derived_from, purpose, tools, tool_choice, instructions, .. } = old;
    let rest = AnswerRequest::default();
    let asked = AnswerRequest { params, derived_from, purpose, tools, tool_choice, instructions, ..rest };
    choose::request_to(state, owner, model, asked, &found.prompt.parts).await
}

/// Has a further version of an answer made. Streams it where the client accepts `text/event-stream` first, else
/// answers with the ids.
#[utoipa::path(post, path = "/messages/{id}/regenerate", tag = "messages", params(("id" = Uuid, Path)),
    request_body = Regeneration,
    responses((status = 202, body = Envelope<Value>), (status = 200, content_type = "text/event-stream", body = String)))]
async fn regenerate(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    PathId(id): PathId<Uuid>,
    OptionalBody { value: body, request_hash }: OptionalBody<Regeneration>,
) -> Result<Response, ApiError> {
    let key = idempotency::key(&headers, caller.account_id, request_hash)?;
    let asker = Asker { state: &state, caller, origin: &origin, key };
    let generation = match asker.again().await? {
        Some(found) => found,
        None => {
            let found = locate(&state, caller.account_id, id).await?;
            if found.turn.is_busy() {
                return Err(ApiError::in_progress());
            }
            let request = request(&state, caller, &found, body).await?;
            let (session_id, turn_id, undeleted) = (found.session_id, found.turn_id, Undeleted::of(&found.session));
            let order = Order::Add { session_id, turn_id, undeleted };
            asker.ask(order, vec![request]).await?
        }
    };
    respond_if_asked(state, &headers, generation)
}
