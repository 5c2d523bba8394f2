//! One answer of a turn, folded from its events.

use serde::{Deserialize, Serialize};

use super::event::{AnswerRequest, AttemptRecord, ErrorRecord, Finish, ModelRef};

/// Where an answer stands, in the contract's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerStatus {
    /// Nobody works on it yet.
    #[default]
    Queued,
    /// A worker is at it.
    Streaming,
    /// Ended as the model wanted.
    Complete,
    /// Ended by a person.
    Stopped,
    /// Ended by an error.
    Failed,
    /// The provider's stream broke off.
    Interrupted,
}

impl AnswerStatus {
    /// The word of the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Streaming => "streaming",
            Self::Complete => "complete",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether nothing more can happen to the answer.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Streaming)
    }
}

/// State of an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// How it was asked for.
    pub request: AnswerRequest,
    /// Model that the newest attempt asks; at first the requested one.
    pub model: ModelRef,
    /// Place among its siblings, from 1.
    pub version: u32,
    /// Where it stands.
    pub status: AnswerStatus,
    /// Number of the newest attempt; 0 before the first.
    pub attempt: u32,
    /// Whether the newest attempt has failed and another one is to follow.
    pub attempt_failed: bool,
    /// Whether a person asked to stop.
    pub stop_requested: bool,
    /// What the last attempt left, once it has ended.
    pub record: Option<AttemptRecord>,
    /// How it ended, if complete.
    pub finish: Option<Finish>,
    /// Why it failed.
    pub error: Option<ErrorRecord>,
}

impl Answer {
    pub(super) fn requested(request: AnswerRequest, version: u32) -> Self {
        Self { model: request.model.clone(), request, version, ..Self::default() }
    }

    pub(super) fn end(
        &mut self,
        status: AnswerStatus,
        record: AttemptRecord,
        finish: Option<Finish>,
        error: Option<ErrorRecord>,
    ) {
        self.status = status;
        self.attempt = record.attempt;
        self.record = Some(record);
        self.finish = finish;
        self.error = error;
    }

    /// Whether a conversation can go on from it.
    pub fn has_usable_text(&self) -> bool {
        self.status.is_final() && self.record.as_ref().is_some_and(|record| !record.text.as_str().is_empty())
    }
}
