//! A provider on this machine that does what a test tells it to, key by key.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the next call with a key is answered with.
#[derive(Clone)]
pub enum Reply {
    /// A stream of this text, with usage.
    Text(&'static str),
    /// A stream that breaks off after this text, without an end marker.
    Broken(&'static str),
    /// The same after a thought.
    BrokenThought(&'static str),
    /// An error status, with headers and a body.
    Status(u16, &'static [(&'static str, &'static str)], &'static str),
    /// Something with status 200 and this content type.
    Raw(&'static str, String),
}

impl Reply {
    /// 429 with `Retry-After`.
    pub const fn limited(headers: &'static [(&'static str, &'static str)]) -> Self {
        Self::Status(429, headers, r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#)
    }

    /// 401.
    pub const REFUSED: Self =
        Self::Status(401, &[], r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#);
    /// 503.
    pub const DOWN: Self = Self::Status(503, &[], "<html>upstream is away</html>");
}

/// A call as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub key: String,
    pub body: Value,
}

#[derive(Default)]
struct Script {
    replies: HashMap<String, VecDeque<Reply>>,
    always: HashMap<String, Reply>,
    seen: Vec<Seen>,
}

/// The provider.
#[derive(Clone, Default)]
pub struct Peer {
    script: Arc<Mutex<Script>>,
    /// Where it listens, as `host:port`.
    pub address: String,
}

impl Peer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Self { address: listener.local_addr().unwrap().to_string(), ..Self::default() };
        let router = Router::new().fallback(answer).with_state(peer.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        peer
    }

    /// Base URL for a declared provider.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The next calls with a key are answered like this, one after the other; after them all is well.
    pub fn will(&self, key: &str, replies: impl IntoIterator<Item = Reply>) {
        self.script.lock().unwrap().replies.entry(key.to_owned()).or_default().extend(replies);
    }

    /// Every call with a key is answered like this.
    pub fn always(&self, key: &str, reply: Reply) {
        self.script.lock().unwrap().always.insert(key.to_owned(), reply);
    }

    /// The keys of the calls so far.
    pub fn keys(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.key).collect()
    }

    /// The calls so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }
}

async fn answer(State(peer): State<Peer>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = bearer.trim_start_matches("Bearer ").to_owned();
    if uri.path().ends_with("/models") {
        return axum::Json(json!({"data": [{"id": "one"}, {"id": "three"}]})).into_response();
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    let reply = {
        let mut script = peer.script.lock().unwrap();
        script.seen.push(Seen { key: key.clone(), body });
        let next = script.replies.get_mut(&key).and_then(VecDeque::pop_front);
        next.or_else(|| script.always.get(&key).cloned()).unwrap_or(Reply::Text("all is well"))
    };
    match reply {
        Reply::Text(text) => {
            let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
                 data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":100,\
                 \"prompt_tokens_details\":{\"cached_tokens\":400}}}\n\ndata: [DONE]\n\n";
            raw("text/event-stream", format!("{}{end}", delta("content", text)))
        }
        Reply::Broken(text) => raw("text/event-stream", delta("content", text)),
        Reply::BrokenThought(text) => raw("text/event-stream", delta("reasoning_content", text)),
        Reply::Status(status, headers, body) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
            response
        }
        Reply::Raw(kind, body) => raw(kind, body),
    }
}

fn delta(field: &str, text: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {field: text}}]}))
}

fn raw(kind: &'static str, body: String) -> Response {
    let body = Body::from_stream(stream::iter([Ok::<_, Infallible>(Bytes::from(body))]));
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}
