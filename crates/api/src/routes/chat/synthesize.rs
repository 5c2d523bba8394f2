//! `POST /chat/synthesize`: one model makes one answer of several.

use axum::{
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use polyphony_domain::{
    ids::{AnswerId, TurnId},
    turn::{AnswerPurpose, AnswerRequest, Params as Sampling, Prompt, Turn},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    ask::{Asker, Order, Undeleted, wants_ids},
    choose, parent,
};
use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin},
    idempotency,
    respond::Envelope,
    routes::sessions,
    state::AppState,
};

/// Most answers that one is made from.
const MOST_SOURCES: usize = 64;
/// Most bytes of what the person wants besides.
const LONGEST_INSTRUCTIONS: usize = 8 * 1024;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(synthesize))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Synthesis {
    session_id: Uuid,
    /// Answers to one prompt, at least two.
    #[schema(value_type = Vec<Uuid>)]
    message_ids: Vec<AnswerId>,
    /// Id, name, or `provider/name`.
    model_id: String,
    /// What the person wants of it besides.
    instructions: Option<String>,
    #[serde(default)]
    #[schema(value_type = Object)]
    params: Sampling,
}

fn check(body: &Synthesis) -> Result<(), ApiError> {
    if !(2..=MOST_SOURCES).contains(&body.message_ids.len()) {
        return Err(ApiError::invalid("message_ids", format!("must name 2 to {MOST_SOURCES} answers")));
    }
    let mut ids = body.message_ids.clone();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(ApiError::invalid("message_ids", "names an answer twice"));
    }
    if body.instructions.as_ref().is_some_and(|text| text.len() > LONGEST_INSTRUCTIONS) {
        return Err(ApiError::invalid("instructions", "must have at most 8 KiB"));
    }
    Ok(())
}

/// The turn that all the answers belong to, with its prompt and how much of its session is deleted.
async fn turn_of(asker: &Asker<'_>, body: &Synthesis) -> Result<(TurnId, Prompt, Undeleted), ApiError> {
    let (state, owner, id) = (asker.state, asker.caller.account_id, body.session_id.into());
    let session = sessions::owned(state, owner, id).await?;
    let mut turns = Vec::with_capacity(body.message_ids.len());
    for answer in &body.message_ids {
        let place = state.store.answer(*answer).await?.filter(|place| place.session_id == id);
        turns.push(place.ok_or_else(ApiError::not_found)?.turn_id);
        parent::check_shown(state, id, &session, answer.as_uuid()).await?;
    }
    let Some(turn_id) = turns.first().copied().filter(|first| turns.iter().all(|turn| turn == first)) else {
        return Err(ApiError::invalid("message_ids", "must all be answers to the same prompt"));
    };
    let (turn, _) = state.store.load::<Turn>(turn_id.as_uuid()).await?;
    let prompt = turn.prompt.as_ref().filter(|_| turn.is_conversation()).ok_or_else(ApiError::not_found)?;
    let answers = || body.message_ids.iter().filter_map(|id| turn.answers.get(id));
    if turn.is_busy() || answers().any(|answer| !answer.status.is_final()) {
        return Err(ApiError::in_progress());
    }
    if answers().any(|answer| !answer.has_usable_text()) {
        return Err(ApiError::invalid("message_ids", "names an answer without a text"));
    }
    Ok((turn_id, prompt.clone(), Undeleted::of(&session)))
}

/// Has one model make one answer of several. The answer is a further version of theirs.
#[utoipa::path(post, path = "/chat/synthesize", tag = "chat", request_body = Synthesis,
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 202, body = Envelope<Value>)))]
async fn synthesize(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: body, request_hash }: Body<Synthesis>,
) -> Result<Response, ApiError> {
    check(&body)?;
    let model = choose::named(&state, "model_id", &body.model_id)?;
    let key = idempotency::key(&headers, caller.account_id, request_hash)?;
    let asker = Asker { state: &state, caller, origin: &origin, key };
    let generation = match asker.again().await? {
        Some(found) => found,
        None => {
            let (turn_id, prompt, undeleted) = turn_of(&asker, &body).await?;
            let asked = AnswerRequest {
                purpose: AnswerPurpose::Synthesis,
                params: body.params,
                derived_from: body.message_ids,
                instructions: body.instructions.filter(|text| !text.is_empty()).map(Into::into),
                ..AnswerRequest::default()
            };
            let request = choose::request_to(&state, caller.account_id, model, asked, &prompt.parts).await?;
            let order = Order::Add { session_id: body.session_id.into(), turn_id, undeleted };
            asker.ask(order, vec![request]).await?
        }
    };
    if wants_ids(&headers) {
        return Ok(generation.ids().into_response());
    }
    generation.stream_one(state, &headers)
}
