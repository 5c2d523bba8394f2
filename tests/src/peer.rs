//! A provider of the test's own: a real HTTP server that speaks the compatible dialect and keeps what it is asked.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the models of a [`Peer`] say to everything; `broken` refuses, `broke` says that the account is empty. With tools
/// at hand they call the first one before they say anything.
pub const SAYS: &str = "Green Tea";

/// The server; its models are `lab/teller`, `lab/scribe`, `lab/broken` and `lab/broke`.
pub struct Peer {
    address: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

async fn answer(State(asked): State<Arc<Mutex<Vec<Value>>>>, Json(body): Json<Value>) -> Response {
    let is_broken = body["model"] == "broken";
    if body["model"] == "broke" {
        let error = json!({"error": {"message": "pay", "type": "insufficient_quota", "code": "insufficient_quota"}});
        return (StatusCode::TOO_MANY_REQUESTS, Json(error)).into_response();
    }
    let last = body["messages"].as_array().and_then(|messages| messages.last()).cloned().unwrap_or_default();
    let tool = body["tools"][0]["function"]["name"].as_str().filter(|_| last["role"] != "tool").map(str::to_owned);
    asked.lock().unwrap().push(body);
    if is_broken {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": {"message": "no"}}))).into_response();
    }
    let chunk = |value: Value| format!("data: {value}\n\n");
    let said = chunk(json!({"choices": [{"index": 0, "delta": {"content": SAYS}}]}));
    let called = |name| {
        let function = json!({"name": name, "arguments": "{\"city\": \"Köln\"}"});
        let call = json!({"index": 0, "id": "call-1", "type": "function", "function": function});
        chunk(json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}))
    };
    let finish = if tool.is_some() { "tool_calls" } else { "stop" };
    let said = tool.map_or(said, called);
    let end = chunk(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}));
    let usage =
        chunk(json!({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}}));
    ([(header::CONTENT_TYPE, "text/event-stream")], said + &end + &usage + "data: [DONE]\n\n").into_response()
}

impl Peer {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<Value>>>::default();
        let router = Router::new().route("/v1/chat/completions", post(answer)).with_state(asked.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { address, asked }
    }

    /// The settings that declare it as the provider `lab`.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("POLYPHONY_PROVIDERS__LAB__KIND", "compatible".to_owned()),
            ("POLYPHONY_PROVIDERS__LAB__BASE_URL", format!("http://{}/v1", self.address)),
            ("POLYPHONY_PROVIDERS__LAB__MODELS", "teller,scribe,broken,broke".to_owned()),
            ("POLYPHONY_EGRESS__ALLOW", self.address.clone()),
        ]
    }

    /// The bodies of all requests so far.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}
