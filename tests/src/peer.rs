//! A provider of the test's own: a real HTTP server that speaks the compatible dialect, and Anthropic's, and keeps what it
//! is asked.

mod thinker;

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

pub use self::thinker::{REDACTED, SIGNATURE, THOUGHT};

/// What the models of a [`Peer`] say to everything; `broken` refuses, `broke` says that the account is empty, `shy` is
/// down the first three times that it is asked something. With tools at hand they call the first one before they say
/// anything. `max_tokens` of 1 leaves the first word, and a stop sequence what stands before it.
pub const SAYS: &str = "Green Tea";
/// What `muser` thinks before it says anything.
pub const MUSES: &str = "Let me see.";
/// What they say when they are to write JSON.
pub const JSON: &str = "{\"tea\": \"green\"}";
/// How often `shy` is down: as often as a worker tries within one attempt.
const SHYNESS: usize = 3;

/// The server; its models are `lab/teller`, `lab/scribe`, `lab/broken`, `lab/broke`, `lab/muser`, which thinks in the open, `moody1/shy` to `moody4/shy` and,
/// in Anthropic's dialect, `sage/claude-sonnet-4-5`.
pub struct Peer {
    address: String,
    asked: Asked,
}

type Asked = Arc<Mutex<Vec<Value>>>;

fn chunk(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn choice(delta: &Value, finish: Option<&str>) -> String {
    chunk(&json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))
}

/// What is said to a request, and why it ends there.
fn said(body: &Value) -> (String, &'static str) {
    let most = ["max_tokens", "max_completion_tokens"].iter().find_map(|name| body[*name].as_u64());
    let text = if body["response_format"].is_object() { JSON } else { SAYS };
    let stops = body["stop"].as_array().into_iter().flatten().filter_map(|stop| text.find(stop.as_str()?));
    match (stops.min(), text.split_once(' ')) {
        (Some(end), _) => (text[..end].to_owned(), "stop"),
        (None, Some((first, _))) if most == Some(1) => (first.to_owned(), "length"),
        _ => (text.to_owned(), "stop"),
    }
}

async fn answer(State(asked): State<Asked>, Json(body): Json<Value>) -> Response {
    let refuse = |status, error: Value| (status, Json(json!({ "error": error }))).into_response();
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    if model == "broke" {
        let error = json!({"message": "pay", "type": "insufficient_quota", "code": "insufficient_quota"});
        return refuse(StatusCode::TOO_MANY_REQUESTS, error);
    }
    let last = body["messages"].as_array().and_then(|messages| messages.last()).cloned().unwrap_or_default();
    let tool = body["tools"][0]["function"]["name"].as_str().filter(|_| last["role"] != "tool").map(str::to_owned);
    let (text, finish) = said(&body);
    let before = {
        let mut asked = asked.lock().unwrap();
        asked.push(body);
        asked
            .iter()
            .filter(|body| body["model"] == model && body["messages"].as_array().unwrap().contains(&last))
            .count()
    };
    match model.as_str() {
        "broken" => return refuse(StatusCode::BAD_REQUEST, json!({"message": "no"})),
        "shy" if before <= SHYNESS => return refuse(StatusCode::SERVICE_UNAVAILABLE, json!({"message": "not now"})),
        _ => {}
    }
    let (said, finish) = match tool {
        Some(name) => {
            let function = json!({"name": name, "arguments": "{\"city\": \"Köln\"}"});
            let call = json!({"index": 0, "id": "call-1", "type": "function", "function": function});
            (choice(&json!({"tool_calls": [call]}), None), "tool_calls")
        }
        None => (choice(&json!({"content": text}), None), finish),
    };
    let mused = if model == "muser" { choice(&json!({"reasoning_content": MUSES}), None) } else { String::new() };
    let end = choice(&json!({}), Some(finish));
    let usage =
        chunk(&json!({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}}));
    ([(header::CONTENT_TYPE, "text/event-stream")], mused + &said + &end + &usage + "data: [DONE]\n\n").into_response()
}

impl Peer {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Asked::default();
        let router = Router::new()
            .route("/v1/chat/completions", post(answer))
            .route("/v1/messages", post(thinker::answer))
            .with_state(asked.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { address, asked }
    }

    /// The settings that declare it as its providers.
    pub fn settings(&self) -> Vec<(String, String)> {
        let host = format!("http://{}", self.address);
        let with_path = format!("{host}/v1");
        let provider = |name: &str, kind: &str, base_url: &str, models: &str| {
            let fields = [("KIND", kind), ("BASE_URL", base_url), ("MODELS", models)];
            fields.map(|(field, value)| (format!("POLYPHONY_PROVIDERS__{name}__{field}"), value.to_owned()))
        };
        // What is learnt of failures counts for all models of a provider.
        let moody = (1..=4).flat_map(|n| provider(&format!("MOODY{n}"), "compatible", &with_path, "shy"));
        let mut settings: Vec<(String, String)> = moody.collect();
        settings.extend(provider("LAB", "compatible", &with_path, "teller,scribe,broken,broke,muser"));
        settings.extend(provider("SAGE", "anthropic", &host, "claude-sonnet-4-5"));
        settings.push(("POLYPHONY_EGRESS__ALLOW".to_owned(), self.address.clone()));
        settings
    }

    /// The bodies of all requests so far.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}
