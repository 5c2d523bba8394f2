//! One answer of a turn, folded from its events.

use serde::{Deserialize, Serialize};

use super::{
    event::{AttemptRecord, ErrorRecord, Feedback, Finish},
    request::{AnswerPurpose, AnswerRequest, ModelRef},
};

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

/// What an answer is worth as the one that a conversation goes through; better ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It ended with nothing to go on from.
    Empty,
    /// It comments on others in a discussion, and speaks for nobody but its model.
    Aside,
    /// It has a text to go on from, or may yet have one.
    Good,
}

impl Standing {
    /// The standing of an answer with this status.
    pub const fn of(status: AnswerStatus, has_usable_text: bool, purpose: AnswerPurpose) -> Self {
        match (status.is_final() && !has_usable_text, purpose) {
            (true, _) => Self::Empty,
            (false, AnswerPurpose::Comment { .. }) => Self::Aside,
            (false, _) => Self::Good,
        }
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
    /// What the person thinks of it.
    pub feedback: Option<Feedback>,
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

    /// Where it stands in the conversation; see [`crate::branch`].
    pub fn standing(&self) -> Standing {
        Standing::of(self.status, self.has_usable_text(), self.request.purpose)
    }
}
