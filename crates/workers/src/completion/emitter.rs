//! From deltas to chunks: adaptive coalescing.
//!
//! A delta goes out at once when no publish is in flight; while one is, deltas merge. So a quiet system shows each
//! token at once, and a busy one sends fewer, larger chunks; the provider's stream is never held up by a publish.
//!
//! A publish is in flight until it is acknowledged. Where deltas come slowly, most go without: an acknowledgement costs
//! the server and this process as much as the chunk itself, and one now and then tells a busy system from a quiet one.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{FutureExt, future::pending};
use polyphony_bus::{
    BusError, ChunkPublisher,
    wire::{ChunkBody, ChunkFrame, Waiting},
};
use polyphony_domain::chunk_map::ChunkKind;
use polyphony_providers::ErrorKind;

use super::live::Live;

/// Text that is held back goes out after this time at the latest, publish in flight or not.
const LONGEST_WAIT: Duration = Duration::from_millis(25);
/// Text that is held back goes out at this size, publish in flight or not.
const LARGEST_WAIT: usize = 1024;

/// A chunk that follows another one within this time asks for an acknowledgement.
const CLOSE: Duration = Duration::from_millis(5);
/// So does each of this number.
const ACKNOWLEDGED: u32 = 8;

/// A wait that is shorter than this isn't told to anybody.
const TOLD: Duration = Duration::from_secs(1);

/// Most bytes of an answer, several times what the most talkative models may say.
const LARGEST_ANSWER: usize = 8 << 20;

type Ack = Pin<Box<dyn Future<Output = Result<(), BusError>> + Send>>;

/// The outgoing side of one attempt.
pub(super) struct Emitter {
    publisher: ChunkPublisher,
    attempt: u32,
    live: Live,
    held: String,
    held_kind: ChunkKind,
    held_since: Instant,
    in_flight: Option<Ack>,
    /// When the newest chunk went out, and how many since the one that asked for an acknowledgement.
    newest: Option<Instant>,
    unasked: u32,
    /// When the first chunk went out.
    pub(super) first_chunk: Option<Instant>,
    /// Bytes of text and reasoning so far.
    taken: usize,
}

impl Emitter {
    pub(super) fn new(publisher: ChunkPublisher, attempt: u32, live: Live) -> Self {
        Self {
            publisher,
            attempt,
            live,
            held: String::new(),
            held_kind: ChunkKind::Text,
            held_since: Instant::now(),
            in_flight: None,
            newest: None,
            unasked: 0,
            first_chunk: None,
            taken: 0,
        }
    }

    /// Takes a delta; empty ones are nothing.
    pub(super) fn push(&mut self, kind: ChunkKind, delta: &str) {
        if delta.is_empty() {
            return;
        }
        self.taken += delta.len();
        if self.held_kind != kind {
            self.flush();
            self.held_kind = kind;
        }
        if self.held.is_empty() {
            self.held_since = Instant::now();
        }
        self.held.push_str(delta);
        if self.in_flight.is_none() || self.held.len() >= LARGEST_WAIT {
            self.flush();
        }
    }

    /// Sends what is held back.
    pub(super) fn flush(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let piece = std::mem::take(&mut self.held);
        let n = self.live.lock().push(self.held_kind, &piece);
        let bytes = Bytes::from(piece);
        let body = match self.held_kind {
            ChunkKind::Text => ChunkBody::Text(bytes),
            ChunkKind::Reasoning => ChunkBody::Reasoning(bytes),
        };
        let now = Instant::now();
        let is_close = self.newest.replace(now).is_some_and(|newest| now - newest < CLOSE);
        self.unasked += 1;
        let asks = is_close || self.in_flight.is_some() || self.unasked >= ACKNOWLEDGED;
        self.send(&ChunkFrame { attempt: self.attempt, n, body }, asks);
        self.first_chunk.get_or_insert(now);
    }

    /// Whether more has come than any answer has: a provider that never ends must not fill the log.
    pub(super) const fn is_overfull(&self) -> bool {
        self.taken > LARGEST_ANSWER
    }

    /// Whether a viewer may have seen anything of this attempt, or is about to.
    pub(super) fn is_untouched(&self) -> bool {
        self.first_chunk.is_none() && self.held.is_empty()
    }

    /// Tells the viewers that nothing comes for this time, and why.
    pub(super) fn say_waiting(&self, time: Duration, kind: ErrorKind) {
        if time < TOLD {
            return;
        }
        let reason = match kind {
            ErrorKind::RateLimited => "rate_limited",
            ErrorKind::Overloaded => "overloaded",
            _ => "provider_failed",
        };
        let until_ms = (chrono::Utc::now() + time).timestamp_millis();
        let waiting = Waiting { attempt: self.attempt, until_ms, reason: reason.to_owned() };
        self.live.lock().waiting = Some(waiting.clone());
        self.publisher.say_waiting(waiting);
    }

    /// Sends a frame that isn't text. Its number is `n`.
    pub(super) fn send_control(&mut self, n: u32, body: ChunkBody) {
        self.send(&ChunkFrame { attempt: self.attempt, n, body }, true);
    }

    /// Hands a frame to the client at once; its acknowledgement, if it asks for one, is waited for meanwhile. One that was
    /// still awaited is let go of: acknowledgements come in order, so the newest says the same.
    fn send(&mut self, frame: &ChunkFrame, asks: bool) {
        let mut ack = if asks { self.publisher.publish(frame) } else { self.publisher.tell(frame) };
        if asks {
            self.unasked = 0;
        }
        if ack.as_mut().now_or_never().is_none() {
            self.in_flight = Some(ack);
        }
    }

    /// Resolves when something may be done: a publish was acknowledged, or held text is due. Call [`Self::turn`] then.
    pub(super) async fn ready(&mut self) {
        let wait = LONGEST_WAIT.saturating_sub(self.held_since.elapsed());
        let due = async { if self.held.is_empty() { pending().await } else { tokio::time::sleep(wait).await } };
        match &mut self.in_flight {
            None => pending().await,
            Some(ack) => tokio::select! {
                // A chunk that was not taken is a gap that viewers see by its number and fill from here.
                _ = ack => self.in_flight = None,
                () = due => {}
            },
        }
    }

    /// Does what [`Self::ready`] announced.
    pub(super) fn turn(&mut self) {
        self.flush();
    }

    /// Waits until the last publish has been acknowledged, at most a second.
    pub(super) async fn settle(&mut self) {
        self.flush();
        if let Some(ack) = self.in_flight.take() {
            let _ = tokio::time::timeout(Duration::from_secs(1), ack).await;
        }
    }
}
