//! One viewer of one answer: its frames as server-sent events of the contract.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use chrono::Utc;
use futures::{Stream, StreamExt, stream};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use uuid::Uuid;

use super::{
    follower::{Follower, Pause, Viewing},
    frame::{self, FrameId},
    hub::Ear,
};
use crate::state::AppState;

/// Most bytes rendered before they are handed to the connection.
const WRITE: usize = 32 * 1024;

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
pub const HEARTBEAT: Bytes = Bytes::from_static(b": heartbeat\n\n");

/// When to send it.
pub fn heartbeat(state: &AppState) -> tokio::time::Interval {
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
pub fn respond(bytes: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(bytes.map(Ok::<Bytes, std::convert::Infallible>));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}

/// One viewer of one answer. Whatever [`Viewer::next`] is doing may be dropped at any moment and begun again.
pub(super) struct Viewer {
    follower: Follower,
    /// The answer's id, where the stream carries several.
    lane: Option<Uuid>,
    out: BytesMut,
    begun: bool,
}

impl Viewer {
    pub(super) fn new(state: AppState, viewing: Viewing, ear: Ear, lane: Option<Uuid>) -> Self {
        let follower = Follower::new(state, viewing, ear);
        Self { follower, lane, out: BytesMut::with_capacity(1024), begun: false }
    }

    /// The next bytes for the connection; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            self.follower.begin().await;
            self.begun = true;
            let attempt = self.follower.attempt();
            // A client that goes on must not be taken back to the beginning by an id.
            let id = (!self.follower.goes_on()).then_some(FrameId { lane: self.lane, attempt, n: 0 });
            let pause = self.follower.take_pause();
            self.typing(id, pause);
            self.write();
            return Some(self.out.split().freeze());
        }
        while self.out.is_empty() {
            if self.follower.has_ended() {
                return None;
            }
            self.follower.wait().await;
            self.write();
        }
        while self.out.len() < WRITE && !self.follower.has_ended() && self.follower.hear().await {
            self.write();
        }
        Some(self.out.split().freeze())
    }

    /// The first event, which names the attempt that catching up has found out; and again, without an id, where it is to
    /// be said why nothing comes.
    fn typing(&mut self, id: Option<FrameId>, pause: Option<Pause>) {
        let place = self.follower.place();
        let mut data = json!({
            "message_id": place.answer_id, "user_message_id": place.turn_id, "session_id": place.session_id,
            "model": self.follower.model(), "attempt": self.follower.attempt(),
        });
        match pause {
            None => {}
            Some(Pause::Queued(position)) => {
                data["state"] = "queued".into();
                data["queue_position"] = position.into();
            }
            Some(Pause::Waiting(waiting)) => {
                let left = (waiting.until_ms - Utc::now().timestamp_millis()).max(0);
                data["state"] = "waiting".into();
                data["reason"] = waiting.reason.into();
                data["wait_seconds"] = left.unsigned_abs().div_ceil(1_000).into();
            }
        }
        frame::event(&mut self.out, id, "typing", data.to_string().as_bytes());
    }

    fn write(&mut self) {
        let message_id = self.follower.place().answer_id.as_uuid();
        while let Some(shown) = self.follower.take() {
            frame::frame(&mut self.out, self.lane, message_id, self.follower.model(), &shown);
        }
        if let Some(pause) = self.follower.take_pause() {
            self.typing(None, Some(pause));
        }
    }
}
