//! `POST /chat/completions`: one model answers, streamed or waited for.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Asking,
    ask::{Asker, Generation, Order, wants_ids},
    choose, parent,
};
use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin},
    idempotency,
    respond::{Envelope, Success},
    shapes::Message,
    state::AppState,
    stream::{Viewing, wait_for_end},
};

/// The longest that a synchronous request waits. The answer goes on without it.
const SYNC_TIMEOUT: Duration = Duration::from_secs(600);

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(completions)).routes(routes!(completions_sync))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Completion {
    session_id: uuid::Uuid,
    content: String,
    /// Id, name, or `provider/name`; else the session's model, the person's default, or the first usable one.
    model_id: Option<String>,
    /// The answer to reply to; else that of the active branch.
    parent_id: Option<uuid::Uuid>,
    /// A message of the session that the prompt quotes.
    quote_message_id: Option<uuid::Uuid>,
    #[serde(default)]
    attachments: Vec<Value>,
    #[serde(default)]
    #[schema(value_type = Object)]
    params: polyphony_domain::turn::Params,
}

async fn ask(asker: Asker<'_>, body: Completion) -> Result<Generation, ApiError> {
    let Completion { session_id, content, model_id, parent_id, quote_message_id, attachments, params } = body;
    let asking = Asking { session_id, content, parent_id, quote_message_id, attachments, params };
    let (state, owner) = (asker.state, asker.caller.account_id);
    asking.check(state)?;
    if let Some(found) = asker.again().await? {
        return Ok(found);
    }
    let id = asking.session_id.into();
    let session = parent::session(state, owner, id, asking.parent_id);
    let request = async |model| choose::request(state, owner, model, &asking.params).await;
    let (session, newest, request) = match model_id.as_deref() {
        // A model that is named is looked up beside the session; a session that isn't there is what is said first.
        Some(reference) => {
            let model = choose::named(state, "model_id", reference);
            let (session, request) = tokio::join!(session, async { request(model?).await });
            let (session, newest) = session?;
            (session, newest, request?)
        }
        None => {
            let (session, newest) = session.await?;
            let model = choose::model(state, owner, None, &session).await?;
            (session, newest, request(model).await?)
        }
    };
    let place = parent::place(state, id, &session, asking.parent_id, asking.quote_message_id, newest).await?;
    let follow_up = place.is_first && session.title.is_none() && request.model.provider != "demo";
    let prompt = Box::new(asking.prompt(&place));
    asker.ask(Order::Post { prompt, guard: place.guard, follow_up }, vec![request]).await
}

/// Asks a model. The answer streams back; with `Accept: application/json` only its ids come, at once. `typing` comes first,
/// and again where it is to be said why nothing comes: with the `state` `queued` and a `queue_position` while all places of
/// the account are taken, or with `waiting`, a `reason` and `wait_seconds` while the provider wants to be left alone.
#[utoipa::path(post, path = "/chat/completions", tag = "chat", request_body = Completion,
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 202, body = Envelope<Value>)))]
async fn completions(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: body, request_hash }: Body<Completion>,
) -> Result<Response, ApiError> {
    let key = idempotency::key(&headers, caller.account_id, request_hash)?;
    let generation = ask(Asker { state: &state, caller, origin: &origin, key }, body).await?;
    if wants_ids(&headers) {
        return Ok(generation.ids().into_response());
    }
    generation.stream_one(state, &headers)
}

/// Asks a model and waits for the whole answer.
#[utoipa::path(post, path = "/chat/completions/sync", tag = "chat", request_body = Completion,
    responses((status = 200, body = Envelope<Message>)))]
async fn completions_sync(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: body, request_hash }: Body<Completion>,
) -> Result<Success<Message>, ApiError> {
    let key = idempotency::key(&headers, caller.account_id, request_hash)?;
    let mut generation = ask(Asker { state: &state, caller, origin: &origin, key }, body).await?;
    let Some(lane) = generation.lanes.pop() else { return Err(ApiError::not_found()) };
    let id = lane.answer_id;
    let viewing = Viewing { place: generation.place(id), model: lane.model, after: None, is_new: generation.is_new };
    let waiting = wait_for_end(state.clone(), viewing, lane.ear);
    if tokio::time::timeout(SYNC_TIMEOUT, waiting).await.is_err() {
        let error =
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, "PROVIDER_TIMEOUT", "the answer takes very long; it goes on");
        return Err(error.with_detail("message_id", id.to_string()));
    }
    let found = state.reads.message(caller.account_id, id.as_uuid()).await?.ok_or_else(ApiError::not_found)?;
    if let Some(error) = &found.row.error {
        return Err(ApiError::of_answer(&error.code, &error.message).with_detail("message_id", id.to_string()));
    }
    Ok(Success::ok(found.into()))
}
