//! `POST /responses`, as OpenAI's SDKs call it.

mod request;
mod words;

use axum::{
    Json, Router,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::post,
};
use polyphony_domain::{
    content::{Conversation, Message, Part, Role},
    ids::{AnswerId, SessionId},
    turn::Turn,
};
use serde_json::{Value, json};
use uuid::Uuid;

use self::{request::ResponsesRequest, words::Words};
use super::{
    call::Calling,
    listen::{self, Outcome},
    tell,
};
use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin},
    routes::{chat::parent, sessions},
    state::AppState,
};

pub fn router() -> Router<AppState> {
    Router::new().route("/responses", post(responses))
}

async fn responses(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: mut body, request_hash }: Body<ResponsesRequest>,
) -> Result<Response, ApiError> {
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
    Ok(Json(response(&outcome, created, items(&outcome))).into_response())
}

/// The conversation up to and including an answer of ours, without what the model was told first: each call brings that
/// anew.
async fn before(
    state: &AppState,
    caller: Caller,
    response_id: &str,
) -> Result<(Conversation, (AnswerId, SessionId)), ApiError> {
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
    said.extend(opaque);
    said.extend(text);
    said.extend(rest.into_iter().filter(|part| matches!(part, Part::ToolCall(_) | Part::Refusal { .. })));
    messages.push(Message { role: Role::User, parts: asked, message_id: None, provider: None });
    if !said.is_empty() {
        let provider = Some(record.model.provider.clone());
        messages.push(Message { role: Role::Assistant, parts: said, message_id: None, provider });
    }
    Ok((Conversation { system: None, messages }, (id, place.session_id)))
}

/// The ids of an answer, and of its parts, in this SDK's world.
fn id(prefix: &str, answer: AnswerId, part: usize) -> String {
    let answer = answer.as_uuid().simple();
    if part == 0 { format!("{prefix}_{answer}") } else { format!("{prefix}_{answer}{part}") }
}

fn text_item(id: &str, status: &str, text: Option<&str>) -> Value {
    let part = text.map(text_part);
    json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": Vec::from_iter(part)})
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn reasoning_item(id: &str, text: Option<&str>) -> Value {
    json!({"id": id, "type": "reasoning", "summary": Vec::from_iter(text.map(summary_part))})
}

fn summary_part(text: &str) -> Value {
    json!({"type": "summary_text", "text": text})
}

fn call_items(outcome: &Outcome, from: usize) -> Vec<Value> {
    let calls = outcome.calls().enumerate().map(|(index, call)| {
        json!({
            "id": id("fc", outcome.answer_id, from + index), "type": "function_call", "status": "completed",
            "call_id": call.call_id, "name": call.name, "arguments": call.arguments.as_str(),
        })
    });
    calls.collect()
}

fn items(outcome: &Outcome) -> Vec<Value> {
    let mut items: Vec<Value> = Vec::new();
    if let Some(reasoning) = outcome.reasoning() {
        items.push(reasoning_item(&id("rs", outcome.answer_id, 0), Some(reasoning)));
    }
    if !outcome.text().is_empty() {
        items.push(text_item(&id("msg", outcome.answer_id, items.len()), "completed", Some(outcome.text())));
    }
    items.extend(call_items(outcome, items.len()));
    items
}

/// A response that is complete.
fn response(outcome: &Outcome, created: i64, output: Vec<Value>) -> Value {
    let usage = &outcome.record.usage;
    let reason = match outcome.finish.as_str() {
        "length" => Some("max_output_tokens"),
        "content_filter" => Some("content_filter"),
        _ => None,
    };
    let mut response = begun(&id("resp", outcome.answer_id, 0), &outcome.model, created);
    response["status"] = if reason.is_some() { "incomplete" } else { "completed" }.into();
    response["incomplete_details"] = reason.map_or(Value::Null, |reason| json!({"reason": reason}));
    response["output"] = output.into();
    response["usage"] = json!({
        "input_tokens": usage.input, "input_tokens_details": {"cached_tokens": usage.cached_input},
        "output_tokens": usage.output, "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    });
    response
}

/// A response of which nothing is there yet.
fn begun(id: &str, model: &str, created: i64) -> Value {
    json!({
        "id": id, "object": "response", "created_at": created, "model": model, "status": "in_progress",
        "error": null, "incomplete_details": null, "instructions": null, "metadata": {}, "output": [],
        "parallel_tool_calls": true, "temperature": null, "tool_choice": "auto", "tools": [], "top_p": null,
        "usage": null,
    })
}
