//! `POST /messages` and `POST /messages/count_tokens`, as Anthropic's SDKs call them.

mod request;
mod thoughts;
mod words;

use axum::{
    Json, Router,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::post,
};
use polyphony_domain::ids::AnswerId;
use serde_json::{Value, json};

pub use self::thoughts::FAMILY;
use self::{request::MessagesRequest, words::Words};
use super::{
    call::{self, Calling},
    listen::{self, Outcome},
    tell,
};
use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin},
    state::AppState,
};

pub fn router() -> Router<AppState> {
    Router::new().route("/messages", post(messages)).route("/messages/count_tokens", post(count_tokens))
}

async fn messages(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: body, request_hash }: Body<MessagesRequest>,
) -> Result<Response, ApiError> {
    let calling = Calling { state, caller, origin, headers, request_hash };
    let is_streamed = body.is_streamed();
    body.check_most()?;
    let answering = body.into_call()?.ask(&calling).await?;
    if is_streamed {
        let words = Words::new(&answering, &calling.state.registry);
        return Ok(tell::stream(&calling, answering, words));
    }
    let outcome = listen::whole(&calling.state, answering).await?;
    Ok(Json(message(&outcome)).into_response())
}

/// Counts what a message would be asked with. It is an estimate where the model's own tokeniser isn't public.
async fn count_tokens(
    State(state): State<AppState>,
    caller: Caller,
    Body { value: body, .. }: Body<MessagesRequest>,
) -> Result<Json<Value>, ApiError> {
    let call = body.into_call()?;
    let model = call::model(&state, &call.model)?;
    let tokens = call.count(&state, caller.account_id, model).await?;
    Ok(Json(json!({"input_tokens": tokens})))
}

/// The id of an answer in this SDK's world.
fn message_id(answer: AnswerId) -> String {
    format!("msg_{}", answer.as_uuid().simple())
}

fn stop_reason(outcome: &Outcome) -> &'static str {
    match outcome.finish.as_str() {
        "length" => "max_tokens",
        "tool_calls" => "tool_use",
        "content_filter" | "refusal" => "refusal",
        _ => "end_turn",
    }
}

/// Tokens; those of the cache are counted by themselves there.
fn usage(outcome: &Outcome) -> Value {
    let usage = &outcome.record.usage;
    json!({
        "input_tokens": usage.input.saturating_sub(usage.cached_input + usage.cache_write),
        "cache_read_input_tokens": usage.cached_input, "cache_creation_input_tokens": usage.cache_write,
        "output_tokens": usage.output,
    })
}

/// The blocks of calls, each with its input as JSON text too.
fn tool_uses(outcome: &Outcome) -> Vec<(Value, String)> {
    let block = |call: &polyphony_domain::content::ToolCall| {
        let arguments = call.arguments.as_str();
        let input: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
        (json!({"type": "tool_use", "id": call.call_id, "name": call.name, "input": input}), arguments.to_owned())
    };
    outcome.calls().map(block).collect()
}

fn message(outcome: &Outcome) -> Value {
    let uses = tool_uses(outcome);
    let text = (!outcome.text().is_empty() || uses.is_empty()).then(|| json!({"type": "text", "text": outcome.text()}));
    let blocks = thoughts::blocks(outcome).into_iter().chain(text).chain(uses.into_iter().map(|(block, _)| block));
    json!({
        "id": message_id(outcome.answer_id), "type": "message", "role": "assistant", "model": outcome.model,
        "content": blocks.collect::<Vec<_>>(), "stop_reason": stop_reason(outcome), "stop_sequence": null,
        "usage": usage(outcome),
    })
}
