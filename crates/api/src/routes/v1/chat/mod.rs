//! `POST /chat/completions`, as OpenAI's SDKs call it.

mod request;
mod words;

use axum::{
    Json, Router,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};

use self::{request::ChatRequest, words::Words};
use super::{
    call::Calling,
    listen::{self, Outcome},
    tell,
};
use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin},
    state::AppState,
};

pub fn router() -> Router<AppState> {
    Router::new().route("/chat/completions", post(completions))
}

async fn completions(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: body, request_hash }: Body<ChatRequest>,
) -> Result<Response, ApiError> {
    let calling = Calling { state, caller, origin, headers, request_hash };
    let (is_streamed, with_usage) = (body.is_streamed(), body.wants_usage());
    let answering = body.into_call()?.ask(&calling).await?;
    if is_streamed {
        let words = Words::new(&answering, with_usage);
        return Ok(tell::stream(&calling, answering, words));
    }
    let outcome = listen::whole(&calling.state, answering).await?;
    Ok(Json(completion(&outcome)).into_response())
}

/// The id of an answer in this SDK's world.
fn completion_id(answer: polyphony_domain::ids::AnswerId) -> String {
    format!("chatcmpl-{}", answer.as_uuid().simple())
}

fn finish(outcome: &Outcome) -> &str {
    match outcome.finish.as_str() {
        known @ ("length" | "tool_calls" | "content_filter") => known,
        _ => "stop",
    }
}

fn usage(outcome: &Outcome) -> Value {
    let usage = &outcome.record.usage;
    json!({
        "prompt_tokens": usage.input, "completion_tokens": usage.output, "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    })
}

fn tool_calls(outcome: &Outcome) -> Vec<Value> {
    let call = |call: &polyphony_domain::content::ToolCall| {
        json!({
            "id": call.call_id, "type": "function",
            "function": {"name": call.name, "arguments": call.arguments.as_str()},
        })
    };
    outcome.calls().map(call).collect()
}

fn completion(outcome: &Outcome) -> Value {
    let calls = tool_calls(outcome);
    // A text is null only beside calls.
    let content = (!outcome.text().is_empty() || calls.is_empty()).then(|| outcome.text());
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if let Some(reasoning) = outcome.reasoning() {
        message["reasoning_content"] = reasoning.into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    json!({
        "id": completion_id(outcome.answer_id), "object": "chat.completion", "created": chrono::Utc::now().timestamp(),
        "model": outcome.model, "system_fingerprint": null, "usage": usage(outcome),
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish(outcome)}],
    })
}
