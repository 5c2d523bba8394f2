//! What the clients did and saw: the one thing that a run is judged by besides what the product has stored.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// What a client knows about a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Taken; the answer has this id.
    Taken(String),
    /// Refused for good, with this status.
    Refused(u16),
    /// Nobody can tell.
    #[default]
    Unknown,
}

/// One prompt of one client, with everything that came of it.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The word in its text; everything that comes of it carries it.
    pub marker: String,
    /// Its `Idempotency-Key`.
    pub key: String,
    /// Model that was asked.
    pub model: String,
    /// What became of the command.
    pub outcome: Outcome,
    /// How often it was sent.
    pub tries: u32,
    /// How often the stream was taken up again.
    pub resumes: u32,
    /// Statuses that were answered, in order; 0 for none.
    pub statuses: Vec<u16>,
    /// Every byte of the streams.
    pub bytes: Vec<u8>,
    /// Text after the last restart.
    pub text: String,
    /// Id of the last event.
    pub last_id: Option<String>,
    /// `done` or `error`, once the stream has ended.
    pub end: Option<(String, Value)>,
    /// Ends that came.
    pub ends: u32,
    /// Restarts that came.
    pub restarts: u32,
    /// What should not have come: gaps, repeats, unreadable frames.
    pub faults: Vec<String>,
    /// Whether the client gave up or meant to leave before the end.
    pub left: bool,
    /// When it began, and how long the first piece of text and the whole took.
    pub began: Duration,
    /// Time to the first piece.
    pub first: Option<Duration>,
    /// Time to the end.
    pub total: Option<Duration>,
}

impl Ask {
    /// The record of it, for files.
    pub fn to_json(&self) -> Value {
        let outcome = match &self.outcome {
            Outcome::Taken(id) => json!({ "taken": id }),
            Outcome::Refused(status) => json!({ "refused": status }),
            Outcome::Unknown => json!("unknown"),
        };
        json!({
            "marker": self.marker, "key": self.key, "model": self.model, "outcome": outcome, "tries": self.tries,
            "statuses": self.statuses, "resumes": self.resumes, "restarts": self.restarts, "last_id": self.last_id,
            "bytes": self.bytes.len(), "text_bytes": self.text.len(), "ends": self.ends, "left": self.left,
            "end": self.end.as_ref().map(|(event, data)| json!({"event": event, "data": data})),
            "faults": self.faults, "began_ms": self.began.as_millis() as u64,
            "first_ms": self.first.map(|time| time.as_millis() as u64),
            "total_ms": self.total.map(|time| time.as_millis() as u64),
        })
    }
}

/// Shared by all clients of a run.
#[derive(Clone)]
pub struct History {
    asks: Arc<Mutex<Vec<Ask>>>,
    since: Instant,
}

impl Default for History {
    fn default() -> Self {
        Self { asks: Arc::default(), since: Instant::now() }
    }
}

impl History {
    /// Time since it began.
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// Keeps a finished ask.
    pub fn keep(&self, ask: Ask) {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner).push(ask);
    }

    /// All finished asks.
    pub fn asks(&self) -> Vec<Ask> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
