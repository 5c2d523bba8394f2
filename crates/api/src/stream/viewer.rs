//! One viewer of one answer: live while it can, catching up when it must, ended by the log at the latest.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use polyphony_bus::wire::{ChunkBody, ChunkFrame};
use polyphony_domain::{
    chunk_map::ChunkKind,
    turn::{EndFrame, EndKind, Turn},
};
use polyphony_eventstore::load::AnswerPlace;
use polyphony_platform::mutated;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use uuid::Uuid;

use super::{
    frame::{self, FrameId},
    hub::Ear,
    position::{Position, Verdict},
};
use crate::state::AppState;

/// How long the worker of an answer may take to say what it has shown.
const STATE_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a silent stream looks into the log: the end of an answer may have been lost on the way.
const LOOK: Duration = Duration::from_secs(2);
/// Most bytes rendered before they are handed to the connection.
const WRITE: usize = 32 * 1024;

/// What a viewer watches.
pub struct Viewing {
    pub place: AnswerPlace,
    /// Name of the model, for the frames.
    pub model: String,
    /// Where to go on; `None` from the beginning.
    pub after: Option<Position>,
    /// The answer was asked for by this very request: there is nothing to catch up with.
    pub is_new: bool,
}

/// The stream of one answer as a response.
pub fn sse(state: AppState, viewing: Viewing, ear: Ear) -> Response {
    let heartbeat = heartbeat(&state);
    let first = stream::iter([Bytes::from(retry())]);
    let beating = (Viewer::new(state, viewing, ear, None), heartbeat);
    let rest = stream::unfold(beating, |(mut viewer, mut heartbeat)| async {
        let bytes = tokio::select! {
            biased;
            bytes = viewer.next() => bytes?,
            _ = heartbeat.tick() => HEARTBEAT,
        };
        Some((bytes, (viewer, heartbeat)))
    });
    respond(first.chain(rest))
}

/// What keeps a silent connection alive.
pub(super) const HEARTBEAT: Bytes = Bytes::from_static(b": heartbeat\n\n");

/// When to send it.
pub(super) fn heartbeat(state: &AppState) -> tokio::time::Interval {
    let period = Duration::from_secs(state.config.stream.heartbeat_seconds.max(1).into());
    let mut heartbeat = interval_at(Instant::now() + period, period);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat
}

/// When to come back after a break: clients that were cut off together don't come back together.
pub(super) fn retry() -> String {
    format!("retry: {}\n\n", 1_000 + Uuid::now_v7().as_u128() % 2_000)
}

/// Bytes of events as a response.
pub(super) fn respond(bytes: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(bytes.map(Ok::<Bytes, std::convert::Infallible>));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}

/// Reads an answer to its end without showing it.
pub async fn wait_for_end(state: AppState, viewing: Viewing, ear: Ear) {
    let mut viewer = Viewer::new(state, viewing, ear, None);
    while viewer.next().await.is_some() {}
}

/// One viewer of one answer. Whatever [`Viewer::next`] is doing may be dropped at any moment and begun again.
pub(super) struct Viewer {
    state: AppState,
    viewing: Viewing,
    /// The answer's id, where the stream carries several.
    lane: Option<Uuid>,
    ear: Ear,
    at: Position,
    out: BytesMut,
    begun: bool,
    ended: bool,
    heard: Instant,
}

impl Viewer {
    pub(super) fn new(state: AppState, viewing: Viewing, ear: Ear, lane: Option<Uuid>) -> Self {
        let at = viewing.after.unwrap_or_default();
        let (out, heard) = (BytesMut::with_capacity(1024), Instant::now());
        Self { state, viewing, lane, ear, at, out, begun: false, ended: false, heard }
    }

    /// The next bytes for the connection; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            self.begin().await;
            self.begun = true;
            return Some(self.out.split().freeze());
        }
        while self.out.is_empty() {
            if self.ended {
                return None;
            }
            self.wait().await;
        }
        while self.out.len() < WRITE && !self.ended {
            let Some(frame) = self.ear.ready() else { break };
            self.take(&frame).await;
        }
        Some(self.out.split().freeze())
    }

    async fn begin(&mut self) {
        if self.viewing.is_new {
            self.typing(1, true);
        } else {
            self.typing_after_catching_up().await;
        }
    }

    const fn id(&self, attempt: u32, n: u32) -> FrameId {
        FrameId { lane: self.lane, attempt, n }
    }

    fn typing(&mut self, attempt: u32, has_id: bool) {
        let id = has_id.then_some(self.id(attempt, 0));
        let place = &self.viewing.place;
        let data = json!({
            "message_id": place.answer_id, "user_message_id": place.turn_id, "session_id": place.session_id,
            "model": self.viewing.model, "attempt": attempt,
        });
        frame::event(&mut self.out, id, "typing", data.to_string().as_bytes());
    }

    /// `typing` comes first, but it names the attempt, which catching up finds out.
    async fn typing_after_catching_up(&mut self) {
        self.catch_up().await;
        let caught_up = self.out.split();
        let attempt = self.at.attempt.max(1);
        // A client that goes on must not be taken back to the beginning by an id.
        self.typing(attempt, self.viewing.after.is_none());
        self.out.unsplit(caught_up);
    }

    async fn wait(&mut self) {
        tokio::select! {
            biased;
            frame = self.ear.next() => match frame {
                Some(frame) => self.take(&frame).await,
                None => self.catch_up().await,
            },
            () = tokio::time::sleep_until(self.heard + LOOK) => self.catch_up().await,
        }
    }

    async fn take(&mut self, frame: &ChunkFrame) {
        self.heard = Instant::now();
        match self.at.judge(frame) {
            Verdict::Show => self.show(frame),
            Verdict::Skip => {}
            Verdict::Missing => self.catch_up().await,
        }
    }

    fn show(&mut self, shown: &ChunkFrame) {
        if let ChunkBody::Restart(data) = &shown.body {
            // It may be another model's from here on.
            let data: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
            self.turn_to(data["model"].as_str().unwrap_or_default());
        }
        frame::frame(&mut self.out, self.lane, self.viewing.place.answer_id.as_uuid(), &self.viewing.model, shown);
        self.ended |= shown.is_end();
    }

    /// Shows what is missing: from the worker that is at it, else from the log.
    async fn catch_up(&mut self) {
        self.heard = Instant::now();
        if mutated!("lossy_resume") && self.at.n > 0 {
            self.at.n += 1;
        }
        let answer = self.viewing.place.answer_id;
        if let Some(state) = self.state.bus.request_chunk_state(answer, STATE_TIMEOUT).await {
            self.turn_to(&state.model);
            self.enter(state.attempt, "worker_lost");
            if state.attempt == self.at.attempt {
                for frame in state.frames_after(self.at.n) {
                    self.at.n = frame.n;
                    self.show(&frame);
                }
            }
            return;
        }
        if let Err(error) = self.replay_log().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a stream could not be caught up from the log");
        }
    }

    /// The frames name this model from here on.
    fn turn_to(&mut self, model: &str) {
        if !model.is_empty() && self.viewing.model != model {
            model.clone_into(&mut self.viewing.model);
        }
    }

    /// Goes over to a newer attempt; a viewer that has seen text of an older one is told to forget it.
    fn enter(&mut self, attempt: u32, reason: &str) {
        if attempt <= self.at.attempt {
            return;
        }
        let had_seen = self.at.attempt > 0 || (self.viewing.is_new && attempt > 1);
        self.at = Position { attempt, n: 0 };
        if had_seen {
            let answer = self.viewing.place.answer_id;
            let data = json!({"message_id": answer, "attempt": attempt, "model": self.viewing.model, "reason": reason});
            let id = Some(self.id(attempt, 0));
            frame::event(&mut self.out, id, "restart", data.to_string().as_bytes());
        }
    }

    async fn replay_log(&mut self) -> Result<(), polyphony_eventstore::StoreError> {
        let place = self.viewing.place;
        let (turn, _) = self.state.store.load::<Turn>(place.turn_id.as_uuid()).await?;
        let Some(answer) = turn.answers.get(&place.answer_id) else { return Ok(()) };
        let (Some(record), Some(end)) = (&answer.record, EndFrame::of(place.answer_id, answer)) else { return Ok(()) };
        self.turn_to(&record.model.name);
        self.enter(record.attempt, "worker_lost");
        let reasoning = record.reasoning.as_ref().map_or("", |text| text.as_str());
        for (n, kind, piece) in record.chunks.cut(record.text.as_str(), reasoning) {
            if n <= self.at.n {
                continue;
            }
            let piece = Bytes::copy_from_slice(piece.as_bytes());
            let body = if kind == ChunkKind::Text { ChunkBody::Text(piece) } else { ChunkBody::Reasoning(piece) };
            self.show(&ChunkFrame { attempt: record.attempt, n, body });
        }
        let data = Bytes::from(end.data.to_string());
        let body = match end.kind {
            EndKind::Done => ChunkBody::Done(data),
            EndKind::Error => ChunkBody::Error(data),
        };
        self.at.n = end.n;
        self.show(&ChunkFrame { attempt: record.attempt, n: end.n, body });
        Ok(())
    }
}
