//! An answer as it is made: pieces of text, then what came of it, or why nothing did.

use std::time::Duration;

use axum::http::StatusCode;
use polyphony_bus::wire::{ChunkBody, ChunkFrame};
use polyphony_domain::{
    content::{Part, ToolCall},
    ids::AnswerId,
    turn::{AttemptRecord, Turn},
};
use polyphony_eventstore::load::AnswerPlace;
use serde_json::Value;

use super::call::Answering;
use crate::{
    error::ApiError,
    state::AppState,
    stream::{Follower, wait_for_end},
};

/// The longest that a caller waits for a whole answer. The answer goes on without it.
const PATIENCE: Duration = Duration::from_secs(600);

/// What is heard of an answer.
pub enum Told {
    Text(String),
    Reasoning(String),
    /// Before anything was shown another attempt has begun, maybe of another model.
    Restart,
    /// It is complete; nothing follows.
    End(Box<Outcome>),
    /// It failed, or can't be gone on with here; nothing follows.
    Failed(ApiError),
}

/// What came of an answer.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub answer_id: AnswerId,
    /// `provider/name` of the model that answered.
    pub model: String,
    pub record: AttemptRecord,
    /// `stop`, `length`, `tool_calls`, `content_filter` or `refusal`.
    pub finish: String,
    /// The text that ended it, where the provider says so; empty where it doesn't say which.
    pub stop_sequence: Option<String>,
}

impl Outcome {
    /// What became of an ended answer, from the log.
    async fn load(state: &AppState, place: AnswerPlace) -> Result<Self, ApiError> {
        let (turn, _) = state.store.load::<Turn>(place.turn_id.as_uuid()).await?;
        let answer = turn.answers.get(&place.answer_id).ok_or_else(ApiError::not_found)?;
        if let Some(error) = &answer.error {
            return Err(ApiError::of_answer(&error.code, &error.message));
        }
        let record = answer.record.clone().ok_or_else(|| ApiError::internal("an answer ended without a record"))?;
        let finish = answer.finish.as_ref().map_or("stop", |finish| finish.reason.as_str()).to_owned();
        let stop_sequence = answer.finish.as_ref().and_then(|finish| finish.stop_sequence.as_ref());
        let stop_sequence = stop_sequence.map(|text| if text.is_erased() { "" } else { text.as_str() }.to_owned());
        let model = format!("{}/{}", record.model.provider, record.model.name);
        Ok(Self { answer_id: place.answer_id, model, record, finish, stop_sequence })
    }

    pub fn text(&self) -> &str {
        self.record.text.as_str()
    }

    pub fn reasoning(&self) -> Option<&str> {
        self.record.reasoning.as_ref().map(|text| text.as_str()).filter(|text| !text.is_empty())
    }

    /// The tools that the caller is to run.
    pub fn calls(&self) -> impl Iterator<Item = &ToolCall> {
        let answered = |id: &str| {
            let parts = self.record.parts.iter();
            parts.into_iter().any(|part| matches!(part, Part::ToolResult(result) if result.call_id == id))
        };
        self.record.parts.iter().filter_map(move |part| match part {
            Part::ToolCall(call) if !answered(&call.call_id) => Some(call),
            _ => None,
        })
    }
}

/// Waits for the whole answer.
///
/// # Errors
/// What it failed with; `PROVIDER_TIMEOUT` when it takes longer than anybody waits.
pub async fn whole(state: &AppState, answering: Answering) -> Result<Outcome, ApiError> {
    let place = answering.viewing.place;
    let waiting = wait_for_end(state.clone(), answering.viewing, answering.ear);
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        let message = "the answer takes very long; it goes on";
        return Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, "PROVIDER_TIMEOUT", message));
    }
    Outcome::load(state, place).await
}

/// Listens to an answer.
pub struct Listening {
    state: AppState,
    follower: Follower,
    begun: bool,
    /// Whether something was shown that can't be taken back.
    shown: bool,
}

impl Listening {
    pub fn new(state: &AppState, answering: Answering) -> Self {
        let follower = Follower::new(state.clone(), answering.viewing, answering.ear);
        Self { state: state.clone(), follower, begun: false, shown: false }
    }

    /// What is told next. It may be dropped at any moment and begun again, up to the end.
    pub async fn next(&mut self) -> Told {
        loop {
            if let Some(frame) = self.follower.take() {
                if let Some(told) = self.tell(&frame) {
                    return told;
                }
            } else if !self.begun {
                self.follower.begin().await;
                self.begun = true;
            } else if self.follower.has_ended() {
                return match Outcome::load(&self.state, self.follower.place()).await {
                    Ok(outcome) => Told::End(Box::new(outcome)),
                    Err(error) => Told::Failed(error),
                };
            } else {
                self.follower.wait().await;
            }
        }
    }

    fn tell(&mut self, frame: &ChunkFrame) -> Option<Told> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty()).map(str::to_owned);
        let told = match &frame.body {
            ChunkBody::Text(piece) => text(piece).map(Told::Text),
            ChunkBody::Reasoning(piece) => text(piece).map(Told::Reasoning),
            // These clients can't forget what they were shown: two beginnings must not become one answer.
            ChunkBody::Restart(_) if self.shown => {
                let message = "the answer had to be begun again; please ask once more";
                return Some(Told::Failed(ApiError::new(StatusCode::BAD_GATEWAY, "PROVIDER_ERROR", message)));
            }
            ChunkBody::Restart(_) => return Some(Told::Restart),
            ChunkBody::Done(_) => None,
            ChunkBody::Error(data) => {
                let error: Value = serde_json::from_slice(data).unwrap_or_default();
                let word = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
                Some(Told::Failed(ApiError::of_answer(&word("code"), &word("message"))))
            }
        };
        told.inspect(|_| self.shown = true)
    }
}
