//! `PUT /messages/:id`: another form of a prompt beside it. The branch under the old one stays.

use axum::{
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use polyphony_domain::turn::{AnswerRequest, Params as Sampling, Prompt};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::locate;
use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin, PathId},
    idempotency,
    respond::{Envelope, Success},
    routes::chat::{
        ask::{Asker, Order, Undeleted, respond_if_asked},
        check_content, choose,
    },
    shapes::Message,
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(edit))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Edit {
    content: String,
    /// Id, name, or `provider/name`; else as with any prompt.
    model_id: Option<String>,
    #[serde(default)]
    #[schema(value_type = Object)]
    params: Sampling,
    /// Whether a model is to answer at once.
    #[serde(default = "yes")]
    generate: bool,
}

const fn yes() -> bool {
    true
}

/// Edits a prompt: a new one beside it, which the active branch goes through. It is answered at once, streamed where
/// the client accepts `text/event-stream` first; with `generate: false` it is only kept, and answers with itself.
#[utoipa::path(put, path = "/messages/{id}", tag = "messages", params(("id" = Uuid, Path)), request_body = Edit,
    responses((status = 202, body = Envelope<Value>), (status = 200, body = Envelope<Message>)))]
async fn edit(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    PathId(id): PathId<Uuid>,
    Body { value: body, request_hash }: Body<Edit>,
) -> Result<Response, ApiError> {
    check_content(&state, &body.content)?;
    let key = idempotency::key(&headers, caller.account_id, request_hash)?;
    let asker = Asker { state: &state, caller, origin: &origin, key };
    let generation = match asker.again().await? {
        Some(found) => found,
        None => {
            let found = locate(&state, caller.account_id, id).await?;
            if found.answer_id.is_some() {
                return Err(ApiError::invalid("id", "only a prompt can be edited; an answer can be regenerated"));
            }
            let requests = if body.generate {
                let owner = caller.account_id;
                let model = choose::model(&state, owner, body.model_id.as_deref(), &found.session).await?;
                let asked = AnswerRequest { params: body.params, ..AnswerRequest::default() };
                vec![choose::request_to(&state, owner, model, asked, &found.prompt.parts).await?]
            } else {
                vec![]
            };
            let Prompt { session_id, parent, parts, quote, .. } = found.prompt;
            let edited_from = Some(found.turn_id);
            let content = body.content.into();
            let prompt = Prompt { session_id, parent, content, parts, quote, edited_from, ..Prompt::default() };
            // A branch is asked for, so that no other prompt is in its way.
            let guard = Undeleted::of(&found.session).into();
            asker.ask(Order::Post { prompt: Box::new(prompt), guard, follow_up: false }, requests).await?
        }
    };
    if generation.lanes.is_empty() {
        let found = state.reads.message(caller.account_id, generation.turn_id.as_uuid()).await?;
        return Ok(Success::ok(Message::from(found.ok_or_else(ApiError::not_found)?)).into_response());
    }
    respond_if_asked(state, &headers, generation)
}
