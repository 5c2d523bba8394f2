//! The frames of one answer in order, each once: live while they can be, caught up when they must, ended by the log at
//! the latest. How they look to a client is for others to say.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use chrono::Utc;
use polyphony_bus::wire::{ChunkBody, ChunkFrame, Said, Waiting};
use polyphony_domain::{
    chunk_map::ChunkKind,
    turn::{EndFrame, EndKind, Turn},
};
use polyphony_eventstore::load::AnswerPlace;
use polyphony_platform::mutated;
use serde_json::json;
use tokio::time::Instant;

use super::{
    hub::Ear,
    position::{Position, Verdict},
};
use crate::state::AppState;

/// How long the worker of an answer may take to say what it has shown.
const STATE_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a silent stream looks into the log: the end of an answer may have been lost on the way.
const LOOK: Duration = Duration::from_secs(2);

/// What is watched.
pub struct Viewing {
    pub place: AnswerPlace,
    /// Name of the model, for the frames.
    pub model: String,
    /// Where to go on; `None` from the beginning.
    pub after: Option<Position>,
    /// The answer was asked for by this very request: there is nothing to catch up with.
    pub is_new: bool,
}

/// Why nothing comes yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pause {
    /// It has this place in its account's queue, from 1.
    Queued(u32),
    /// Its provider is to be left alone for a while.
    Waiting(Waiting),
}

/// Follows one answer. Whatever it is doing may be dropped at any moment and begun again.
///
/// After each step the frames are to be taken: until the next one [`Follower::model`] is the model of all of them.
pub struct Follower {
    state: AppState,
    viewing: Viewing,
    ear: Ear,
    at: Position,
    frames: VecDeque<ChunkFrame>,
    /// What was last said about a pause, and whether somebody has taken it.
    pause: Option<Pause>,
    is_told: bool,
    ended: bool,
    heard: Instant,
}

impl Follower {
    pub fn new(state: AppState, viewing: Viewing, ear: Ear) -> Self {
        let at = viewing.after.unwrap_or_default();
        let pause = ear.queued.map(Pause::Queued);
        let heard = Instant::now();
        Self { state, viewing, ear, at, frames: VecDeque::new(), pause, is_told: false, ended: false, heard }
    }

    /// Catches up with what was shown before; nothing, where the answer is new.
    pub async fn begin(&mut self) {
        if !self.viewing.is_new {
            self.catch_up().await;
            self.look_at_queue().await;
        }
    }

    pub const fn place(&self) -> AnswerPlace {
        self.viewing.place
    }

    pub fn model(&self) -> &str {
        &self.viewing.model
    }

    /// The attempt that is followed, from 1.
    pub fn attempt(&self) -> u32 {
        self.at.attempt.max(1)
    }

    /// Whether it goes on after something that the client has seen.
    pub const fn goes_on(&self) -> bool {
        self.viewing.after.is_some()
    }

    /// The next frame that was heard.
    pub fn take(&mut self) -> Option<ChunkFrame> {
        self.frames.pop_front()
    }

    /// Why nothing comes, where that is new.
    pub fn take_pause(&mut self) -> Option<Pause> {
        if std::mem::replace(&mut self.is_told, true) { None } else { self.pause.clone() }
    }

    /// Whether the last frame of all was heard.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Waits for something to happen.
    pub async fn wait(&mut self) {
        tokio::select! {
            biased;
            said = self.ear.next() => match said {
                Some(said) => self.judge(said).await,
                None => self.catch_up().await,
            },
            () = tokio::time::sleep_until(self.heard + LOOK) => {
                self.catch_up().await;
                self.look_at_queue().await;
            }
        }
    }

    /// Hears a frame that is there already; `false` if there is none.
    pub async fn hear(&mut self) -> bool {
        let Some(said) = self.ear.ready() else { return false };
        self.judge(said).await;
        true
    }

    async fn judge(&mut self, said: Said) {
        self.heard = Instant::now();
        let frame = match said {
            Said::Frame(frame) => frame,
            Said::Waiting(waiting) => return self.pause(waiting),
        };
        match self.at.judge(&frame) {
            Verdict::Show => self.show(frame),
            Verdict::Skip => {}
            Verdict::Missing => self.catch_up().await,
        }
    }

    /// The worker waits, unless that is over or it has been overtaken.
    fn pause(&mut self, waiting: Waiting) {
        let is_past = waiting.attempt < self.at.attempt || waiting.until_ms <= Utc::now().timestamp_millis();
        if !is_past {
            self.say(Pause::Waiting(waiting));
        }
    }

    fn say(&mut self, pause: Pause) {
        if self.pause.as_ref() != Some(&pause) {
            self.pause = Some(pause);
            self.is_told = false;
        }
    }

    /// Before its first attempt an answer may stand in a queue, and come nearer to its head.
    async fn look_at_queue(&mut self) {
        if self.at.attempt > 1 || self.at.n > 0 || self.ended || matches!(self.pause, Some(Pause::Waiting(_))) {
            return;
        }
        match self.state.store.queue_position(self.viewing.place.answer_id).await {
            Ok(Some(position)) => self.say(Pause::Queued(position)),
            Ok(None) => {}
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "a queue could not be looked at"),
        }
    }

    fn show(&mut self, frame: ChunkFrame) {
        if let ChunkBody::Restart(data) = &frame.body {
            // It may be another model's from here on.
            let data: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
            self.turn_to(data["model"].as_str().unwrap_or_default());
        }
        self.ended |= frame.is_end();
        self.frames.push_back(frame);
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
                    self.show(frame);
                }
                if let Some(waiting) = state.waiting {
                    self.pause(waiting);
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
            self.frames.push_back(ChunkFrame { attempt, n: 0, body: ChunkBody::Restart(data.to_string().into()) });
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
            self.show(ChunkFrame { attempt: record.attempt, n, body });
        }
        let data = Bytes::from(end.data.to_string());
        let body = match end.kind {
            EndKind::Done => ChunkBody::Done(data),
            EndKind::Error => ChunkBody::Error(data),
        };
        self.at.n = end.n;
        self.show(ChunkFrame { attempt: record.attempt, n: end.n, body });
        Ok(())
    }
}

/// Follows an answer to its end without showing it.
pub async fn wait_for_end(state: AppState, viewing: Viewing, ear: Ear) {
    let mut follower = Follower::new(state, viewing, ear);
    follower.begin().await;
    loop {
        while follower.take().is_some() {}
        if follower.has_ended() {
            return;
        }
        follower.wait().await;
    }
}
