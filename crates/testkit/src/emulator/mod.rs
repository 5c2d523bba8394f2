//! A provider that behaves as it is told: OpenAI-, Anthropic- and Gemini-shaped, every way of misbehaving by a word in
//! the model's name, and a record of each call that was made.

mod answer;
mod dialect;
mod marker;
mod script;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

pub use self::{
    dialect::{Billed, Dialect},
    marker::{Marker, markers},
    script::{End, Reporting, RetryAfter, Script, Silence},
};
use crate::ok;

/// How a call ended, as the provider sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was sent.
    Sent,
    /// The provider broke off.
    BrokenOff,
    /// The caller went away.
    HungUp,
    /// Refused with this status.
    Refused(u16),
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Marker of the newest prompt in the request.
    pub marker: String,
    /// Number among the calls for this marker, from 1.
    pub number: u32,
    /// Model that was asked for.
    pub model: String,
    /// Dialect that was spoken.
    pub dialect: Dialect,
    /// SHA-256 of the key, hex; empty without one.
    pub key_hash: String,
    /// Text that was sent.
    pub text: String,
    /// What was billed, as far as it was reported to the caller.
    pub billed: Option<Billed>,
    /// When it began, since the emulator's start.
    pub began: Duration,
    /// When it ended, and how; none while it goes on.
    pub ended: Option<(Duration, Ended)>,
}

#[derive(Default)]
struct Book {
    calls: Vec<Call>,
    scripts: HashMap<String, Script>,
    numbers: HashMap<String, u32>,
}

/// What the calls share.
#[derive(Clone)]
pub(crate) struct Desk {
    book: Arc<Mutex<Book>>,
    since: Instant,
}

impl Desk {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something about a call.
    pub(crate) fn note(&self, id: usize, change: impl FnOnce(&mut Call)) {
        if let Some(call) = self.book().calls.get_mut(id) {
            change(call);
        }
    }

    /// Notes the end of a call, unless it has one.
    pub(crate) fn end(&self, id: usize, how: Ended) {
        let at = self.since.elapsed();
        self.note(id, |call| {
            call.ended.get_or_insert((at, how));
        });
    }
}

/// A running emulator; it goes when dropped.
pub struct Emulator {
    port: u16,
    desk: Desk,
    task: tokio::task::JoinHandle<()>,
}

impl Emulator {
    /// Starts it.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start() -> Self {
        let listener = ok(TcpListener::bind("127.0.0.1:0").await.map_err(Into::into));
        let port = ok(listener.local_addr().map_err(Into::into)).port();
        let desk = Desk { book: Arc::default(), since: Instant::now() };
        let app = Router::new().fallback(serve).with_state(desk.clone());
        let task = tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, app).await;
        });
        Self { port, desk, task }
    }

    /// Where it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its base URL, as an SDK of OpenAI's would take it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// Has a model behave otherwise than its name says; `None` goes back to its name.
    pub fn script(&self, model: &str, script: Option<Script>) {
        let mut book = self.desk.book();
        match script {
            Some(script) => drop(book.scripts.insert(model.to_owned(), script)),
            None => drop(book.scripts.remove(model)),
        }
    }

    /// All calls so far, in the order of their coming.
    pub fn calls(&self) -> Vec<Call> {
        self.desk.book().calls.clone()
    }

    /// The calls for a marker.
    pub fn calls_for(&self, marker: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.marker == marker).collect()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn key_hash(headers: &HeaderMap, uri: &Uri) -> String {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let query = uri.query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("key=")));
    let bearer = header("authorization").map(|value| value.trim_start_matches("Bearer "));
    let key = bearer.or_else(|| header("x-api-key")).or_else(|| header("x-goog-api-key")).or(query);
    key.map(|key| hex::encode(Sha256::digest(key))).unwrap_or_default()
}

async fn serve(State(desk): State<Desk>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let Some(dialect) = Dialect::of(uri.path()) else {
        if uri.path().ends_with("/models") {
            return axum::Json(json!({"object": "list", "data": [{"id": "emulated", "object": "model"}]}))
                .into_response();
        }
        return StatusCode::NOT_FOUND.into_response();
    };
    let text = String::from_utf8_lossy(&body);
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let in_path = || uri.path().rsplit('/').next().and_then(|last| last.split(':').next()).unwrap_or_default();
    let model = request["model"].as_str().unwrap_or_else(in_path).to_owned();
    let marker = markers(&text).last().map(|marker| marker.text.clone()).unwrap_or_default();
    let (id, script, number) = {
        let began = desk.since.elapsed();
        let mut book = desk.book();
        let count = book.numbers.entry(marker.clone()).or_default();
        *count += 1;
        let number = *count;
        let script = book.scripts.get(&model).cloned().unwrap_or_else(|| Script::read(&model)).at_call(number);
        book.calls.push(Call {
            marker: marker.clone(),
            number,
            model,
            dialect,
            key_hash: key_hash(&headers, &uri),
            text: String::new(),
            billed: None,
            began,
            ended: None,
        });
        (book.calls.len() - 1, script, number)
    };
    if let Some(status) = script.refuse {
        desk.end(id, Ended::Refused(status));
        return refusal(dialect, &script, status);
    }
    let billed = Billed {
        input: (text.len() as u64).div_ceil(4),
        output: script.pieces.into(),
        cached: if script.usage == Reporting::Cached { 3 } else { 0 },
    };
    let answer = answer::Answer { desk, id, dialect, script, billed, name: format!("{marker}.{number}") };
    if answer.script.silence == Silence::BeforeHead {
        let _gone = answer::Gone::of(&answer);
        std::future::pending::<()>().await;
    }
    let head = [(header::CONTENT_TYPE, "text/event-stream")];
    (head, Body::from_stream(answer.stream())).into_response()
}

fn refusal(dialect: Dialect, script: &Script, status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut response = if script.html {
        let page = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>";
        (status, [(header::CONTENT_TYPE, "text/html")], page).into_response()
    } else {
        (status, axum::Json(dialect.refusal(status.as_u16()))).into_response()
    };
    let after = match script.retry_after {
        RetryAfter::Absent => None,
        RetryAfter::Seconds(seconds) => Some(seconds.to_string()),
        RetryAfter::Date => Some(marker::http_date(Duration::from_secs(1))),
    };
    if let Some(value) = after.and_then(|after| after.parse().ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}
