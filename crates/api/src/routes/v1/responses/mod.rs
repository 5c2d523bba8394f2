//! `POST /responses`, as OpenAI's SDKs call it.

mod answer;
mod request;
mod words;

use axum::{Json, extract::State, http::HeaderMap, response::IntoResponse};
use polyphony_domain::{
    content::{Conversation, Message, Part, Role},
    ids::AnswerId,
    turn::Turn,
};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use self::{
    answer::{Item, Response},
    request::ResponsesRequest,
    words::Words,
};
use super::{
    call::{Calling, SessionHeader},
    listen,
    session::Home,
    tell,
};
use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin},
    routes::{chat::parent, sessions},
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(responses))
}

/// Responses, as OpenAI's SDKs call it. The input must end with what is asked, or with the results of tools. With
/// `previous_response_id` the conversation up to that response comes before it. With `stream` the answer is a stream of
/// numbered events; one that fails ends with `error`. Fields that aren't named here are left alone.
#[utoipa::path(post, path = "/responses", tag = "openai", params(SessionHeader), request_body = ResponsesRequest,
    responses((status = 200, content((Response = "application/json"), (String = "text/event-stream")))))]
async fn responses(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: mut body, request_hash }: Body<ResponsesRequest>,
) -> Result<axum::response::Response, ApiError> {
    let (is_streamed, previous) = (body.is_streamed(), body.take_previous());
    let (before, follows) = match previous {
        None => (Conversation::default(), None),
        Some(id) => {
            let (before, place) = before(&state, caller, &id).await?;
            (before, Some(place))
        }
    };
    let calling = Calling { state, caller, origin, headers, request_hash };
    let mut call = body.into_call(before)?;
    call.follows = follows;
    let answering = call.ask(&calling).await?;
    if is_streamed {
        let words = Words::new(&answering);
        return Ok(tell::stream(&calling, answering, words));
    }
    let outcome = listen::whole(&calling.state, answering).await?;
    let created = chrono::Utc::now().timestamp();
    Ok(Json(Response::of(&outcome, created, Item::all(&outcome))).into_response())
}

/// The conversation up to and including an answer of ours, without what the model was told first: each call brings that
/// anew.
async fn before(
    state: &AppState,
    caller: Caller,
    response_id: &str,
) -> Result<(Conversation, (AnswerId, Home)), ApiError> {
    let missing = || ApiError::invalid("previous_response_id", "there is no such response");
    let id = response_id.strip_prefix("resp_").and_then(|id| Uuid::parse_str(id).ok()).ok_or_else(missing)?;
    let id = AnswerId::new(id);
    let place = state.store.answer(id).await?.ok_or_else(missing)?;
    let session = sessions::owned(state, caller.account_id, place.session_id)
        .await
        .map_err(|error| if error.status() == axum::http::StatusCode::NOT_FOUND { missing() } else { error })?;
    parent::check_shown(state, place.session_id, &session, id.as_uuid()).await.map_err(|_| missing())?;
    let (turn, _) = state.store.load::<Turn>(place.turn_id.as_uuid()).await?;
    let (prompt, answer) = turn.prompt.as_ref().zip(turn.answers.get(&id)).ok_or_else(missing)?;
    // Only calls of this interface keep the whole conversation with themselves.
    let given = prompt.given.as_ref().and_then(|given| serde_json::from_str::<Conversation>(given.as_str()).ok());
    let mut messages = given.ok_or_else(missing)?.messages;
    let record = answer.record.as_ref().filter(|_| answer.status.is_final());
    let record =
        record.ok_or_else(|| ApiError::invalid("previous_response_id", "that response is still in the making"))?;
    let mut asked = prompt.parts.clone();
    if !prompt.content.as_str().is_empty() {
        asked.push(Part::Text { text: prompt.content.clone() });
    }
    let text = (!record.text.as_str().is_empty()).then(|| Part::Text { text: record.text.clone() });
    let mut said: Vec<Part> = Vec::new();
    let (opaque, rest): (Vec<_>, Vec<_>) =
        record.parts.iter().cloned().partition(|part| matches!(part, Part::Reasoning { .. }));
    // Some providers want the shown text back, with calls of tools.
    let shown = record.reasoning.clone().filter(|text| opaque.is_empty() && !text.as_str().is_empty());
    said.extend(shown.map(|text| Part::Reasoning { text, opaque: None }));
    said.extend(opaque);
    said.extend(text);
    said.extend(rest.into_iter().filter(|part| matches!(part, Part::ToolCall(_) | Part::Refusal { .. })));
    messages.push(Message { role: Role::User, parts: asked, message_id: None, provider: None });
    if !said.is_empty() {
        let provider = Some(record.model.provider.clone());
        messages.push(Message { role: Role::Assistant, parts: said, message_id: None, provider });
    }
    Ok((Conversation { system: None, messages }, (id, Home::new(place.session_id, &session))))
}
