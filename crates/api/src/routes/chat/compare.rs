//! `POST /chat/compare`: several models answer one prompt side by side.

use std::collections::HashSet;

use axum::{
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use polyphony_domain::{
    catalog::Model,
    turn::{AnswerRequest, Params as Sampling},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Asking,
    ask::{Asker, Order, wants_ids},
    choose, parent,
};
use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin},
    idempotency,
    respond::Envelope,
    state::AppState,
};

/// Least and most models that answer side by side.
const LANES: std::ops::RangeInclusive<usize> = 2..=8;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(compare))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Comparison {
    session_id: Uuid,
    content: String,
    /// 2 to 8 models, by id, name or `provider/name`. The same one may come twice, unless its answers would be the
    /// same by request (`temperature` 0, or a `seed`).
    model_ids: Vec<String>,
    /// The answer to reply to; else that of the active branch.
    parent_id: Option<Uuid>,
    /// A message of the session that the prompt quotes.
    quote_message_id: Option<Uuid>,
    #[serde(default)]
    attachments: Vec<Value>,
    #[serde(default)]
    #[schema(value_type = Object)]
    params: Sampling,
}

/// The models that a request names, 2 to 8 of them.
pub fn several<'a>(state: &'a AppState, references: &[String]) -> Result<Vec<&'a Model>, ApiError> {
    if !LANES.contains(&references.len()) {
        return Err(ApiError::invalid("model_ids", "must name 2 to 8 models"));
    }
    references.iter().map(|reference| choose::named(state, "model_ids", reference)).collect()
}

/// Whether each of the models is another one.
pub fn are_distinct(models: &[&Model]) -> bool {
    models.iter().map(|model| model.id).collect::<HashSet<_>>().len() == models.len()
}

/// How each of the models is asked.
pub async fn requests(
    asker: &Asker<'_>,
    models: Vec<&Model>,
    params: &Sampling,
) -> Result<Vec<AnswerRequest>, ApiError> {
    let asked = models.into_iter().map(|model| choose::request(asker.state, asker.caller.account_id, model, params));
    futures::future::try_join_all(asked).await
}

/// Asks 2 to 8 models at once. One stream carries all answers: the ids of its events are
/// `<message_id>:<attempt>.<n>`, and it ends when all of them have ended. To go on after a break, the same request
/// with the same `Idempotency-Key` takes a comma list of the last ids in `Last-Event-ID`, one for each answer.
#[utoipa::path(post, path = "/chat/compare", tag = "chat", request_body = Comparison,
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 202, body = Envelope<Value>)))]
async fn compare(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: body, request_hash }: Body<Comparison>,
) -> Result<Response, ApiError> {
    let Comparison { session_id, content, model_ids, parent_id, quote_message_id, attachments, params } = body;
    let asking = Asking { session_id, content, parent_id, quote_message_id, attachments, params };
    asking.check(&state)?;
    let models = several(&state, &model_ids)?;
    let is_deterministic = asking.params.temperature == Some(0.0) || asking.params.seed.is_some();
    if is_deterministic && !are_distinct(&models) {
        return Err(ApiError::invalid("model_ids", "names a model twice whose answers would be the same"));
    }
    let key = idempotency::key(&headers, caller.account_id, request_hash)?;
    let asker = Asker { state: &state, caller, origin: &origin, key };
    let generation = match asker.again().await? {
        Some(found) => found,
        None => {
            let id = asking.session_id.into();
            let (session, newest) = parent::session(&state, caller.account_id, id, asking.parent_id).await?;
            let place = parent::place(&state, id, &session, asking.parent_id, asking.quote_message_id, newest);
            let (place, requests) = tokio::try_join!(place, requests(&asker, models, &asking.params))?;
            let follow_up = place.is_first && session.title.is_none();
            let prompt = Box::new(asking.prompt(&place));
            asker.ask(Order::Post { prompt, guard: place.guard, follow_up }, requests).await?
        }
    };
    if wants_ids(&headers) {
        return Ok(generation.ids().into_response());
    }
    generation.stream_all(state, &headers, false)
}
