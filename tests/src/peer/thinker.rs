//! A model in Anthropic's dialect that thinks before it answers, signs its thoughts, and checks as strictly as the
//! provider that what comes back of them is what it signed.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{Asked, SAYS};

/// What it thinks.
pub const THOUGHT: &str = "Tea is a plant.";
/// Its signature of that.
pub const SIGNATURE: &str = "RXF1YWxzIHRoZSB0aG91Z2h0Lg==";
/// What it thinks and shows to nobody.
pub const REDACTED: &str = "SGlkZGVuIHRob3VnaHRz";

fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap())
}

fn block(index: usize, start: &Value, deltas: &[Value]) -> String {
    let started = event(&json!({"type": "content_block_start", "index": index, "content_block": start}));
    let delta = |delta: &Value| event(&json!({"type": "content_block_delta", "index": index, "delta": delta}));
    let deltas: String = deltas.iter().map(delta).collect();
    started + &deltas + &event(&json!({"type": "content_block_stop", "index": index}))
}

/// Whether every thought that comes back is one of its own, unchanged.
fn is_ours(block: &Value) -> bool {
    match block["type"].as_str() {
        Some("thinking") => block["thinking"] == THOUGHT && block["signature"] == SIGNATURE,
        Some("redacted_thinking") => block["data"] == REDACTED,
        _ => true,
    }
}

/// Answers a request.
pub(super) async fn answer(State(asked): State<Asked>, Json(body): Json<Value>) -> Response {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let mut blocks = messages.iter().flat_map(|message| message["content"].as_array().into_iter().flatten());
    let valid = blocks.all(is_ours);
    let answered = messages.last().is_some_and(|last| last["content"][0]["type"] == "tool_result");
    let tool = body["tools"][0]["name"].as_str().filter(|_| !answered).map(str::to_owned);
    let stops = body["stop_sequences"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let stop = stops.filter_map(|stop| Some((SAYS.find(stop)?, stop.to_owned()))).min();
    asked.lock().unwrap().push(body);
    if !valid {
        let error = json!({"type": "invalid_request_error", "message": "Invalid `signature` in `thinking` block"});
        return (StatusCode::BAD_REQUEST, Json(json!({"type": "error", "error": error}))).into_response();
    }
    let usage = json!({"input_tokens": 11, "output_tokens": 1});
    let message = json!({"id": "m-1", "type": "message", "role": "assistant", "content": [], "model": "claude-sonnet-4-5",
        "stop_reason": null, "usage": usage});
    let (half, rest) = THOUGHT.split_at(7);
    let thinking = [
        json!({"type": "thinking_delta", "thinking": half}),
        json!({"type": "thinking_delta", "thinking": rest}),
        json!({"type": "signature_delta", "signature": SIGNATURE}),
    ];
    let text = stop.as_ref().map_or(SAYS, |(end, _)| &SAYS[..*end]);
    let mut said = event(&json!({"type": "message_start", "message": message}));
    said += &block(0, &json!({"type": "thinking", "thinking": "", "signature": ""}), &thinking);
    said += &block(1, &json!({"type": "redacted_thinking", "data": REDACTED}), &[]);
    said += &block(2, &json!({"type": "text", "text": ""}), &[json!({"type": "text_delta", "text": text})]);
    if let Some(name) = &tool {
        let input = json!({"type": "input_json_delta", "partial_json": "{\"city\": \"Köln\"}"});
        said += &block(3, &json!({"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}), &[input]);
    }
    let delta = match (tool, stop) {
        (Some(_), _) => json!({"stop_reason": "tool_use", "stop_sequence": null}),
        (None, Some((_, stop))) => json!({"stop_reason": "stop_sequence", "stop_sequence": stop}),
        (None, None) => json!({"stop_reason": "end_turn", "stop_sequence": null}),
    };
    said += &event(&json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}}));
    said += &event(&json!({"type": "message_stop"}));
    ([(header::CONTENT_TYPE, "text/event-stream")], said).into_response()
}
