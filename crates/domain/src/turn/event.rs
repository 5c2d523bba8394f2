//! What happens in a turn.

use serde::{Deserialize, Serialize};

use super::request::{AnswerRequest, ModelRef, Prompt};
use crate::{
    chunk_map::ChunkMap,
    content::Part,
    context::Receipt,
    ids::{AnswerId, KeyId},
    money::NanoUsd,
    personal::Personal,
};

/// Why a discussion ended without a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscussionEnd {
    /// A person stopped it.
    Stopped,
    /// No model gave an answer.
    NoAnswers,
}

/// What a person thinks of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// -1 or 1.
    pub rating: i8,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<Personal>,
}

/// Why an attempt began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptReason {
    /// It is the first.
    First,
    /// The worker of the attempt before it fell silent.
    LeaseExpired,
    /// The worker of the attempt before it handed it over, because it was shutting down.
    HandedOver,
    /// The provider failed before any text was shown: the same model again, by another key.
    ProviderFailed,
    /// The model could not answer: one of the fallbacks is asked.
    Failover,
}

/// Tokens of one attempt as the provider reports them, else as we count them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// Tokens of the request, cached ones included.
    pub input: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    /// How many of the input tokens came from the provider's cache.
    pub cached_input: u64,
    /// How many of the input tokens were written to the provider's cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write: u64,
    /// How many of the output tokens were reasoning.
    pub reasoning: u64,
    /// Whether we counted, since the provider did not say.
    pub estimated: bool,
    /// The provider's own words, kept for audits; empty where there were none. As text: foreign JSON inside a
    /// payload could imitate a sealed field.
    #[serde(default)]
    pub raw: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Milliseconds of one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// From the request to the start of the first attempt.
    pub queue_ms: u64,
    /// From the start of the attempt to its first chunk; none where nothing came.
    pub first_chunk_ms: Option<u64>,
    /// From the start of the attempt to its end.
    pub total_ms: u64,
}

/// Everything an attempt left: what was shown, what it used and what it cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// 1, 2, 3 …; 0 for an answer that ended before any attempt.
    pub attempt: u32,
    /// Model that answered.
    pub model: ModelRef,
    /// The text, whole or as far as it came.
    pub text: Personal,
    /// The reasoning, where the provider shows it.
    pub reasoning: Option<Personal>,
    /// How the texts were cut into chunks.
    pub chunks: ChunkMap,
    /// Tokens.
    pub usage: UsageRecord,
    /// Price book version that the cost was computed with.
    pub price_version: String,
    /// Cost.
    pub cost: NanoUsd,
    /// Times.
    pub timings: Timings,
    /// SHA-256 of the exact request, hex; empty where none was sent.
    pub request_hash: String,
    /// What came besides text and reasoning, in order: tool calls, refusals, citations, opaque reasoning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// Stored key that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
    /// What the model was shown, and what not; none where nothing was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Box<Receipt>>,
}

impl AttemptRecord {
    /// The record of an answer that nobody worked on.
    pub fn empty(model: ModelRef) -> Self {
        Self { model, ..Self::default() }
    }
}

/// How a complete answer ended, in the contract's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// `stop`, `length`, `tool_calls`, `content_filter`, `refusal` or the provider's own word.
    pub reason: String,
    /// The text that was to end it, and did. None where the provider doesn't say that one did, empty where it doesn't say
    /// which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_sequence: Option<Personal>,
}

impl Finish {
    /// For this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), stop_sequence: None }
    }
}

/// Why an answer failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// A stable code of the contract.
    pub code: String,
    /// For a person; never an upstream body.
    pub message: String,
    /// Whether asking again may help.
    pub retryable: bool,
}

/// What has happened in a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnEvent {
    /// A person asked something.
    PromptPosted(Prompt),
    /// A model was asked to answer.
    AnswerRequested {
        /// The answer.
        answer_id: AnswerId,
        /// 1 for the first answer of the turn, 2 for the next …
        version: u32,
        /// How.
        #[serde(flatten)]
        request: AnswerRequest,
    },
    /// A worker began to work on it.
    AttemptStarted {
        /// The answer.
        answer_id: AnswerId,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// Name of the worker process.
        worker: String,
        /// Why.
        reason: AttemptReason,
        /// The model that is asked, where it is another than was requested.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<ModelRef>,
    },
    /// An attempt failed, and another one follows; what it used is billed.
    AttemptFailed {
        /// The answer.
        answer_id: AnswerId,
        /// What came of it.
        record: AttemptRecord,
        /// Why.
        error: ErrorRecord,
    },
    /// A person asked to stop while a worker was at it.
    StopRequested {
        /// The answer.
        answer_id: AnswerId,
    },
    /// It is complete.
    AnswerCompleted {
        /// The answer.
        answer_id: AnswerId,
        /// What came of it.
        record: AttemptRecord,
        /// How it ended.
        finish: Finish,
    },
    /// It failed.
    AnswerFailed {
        /// The answer.
        answer_id: AnswerId,
        /// What came of it.
        record: AttemptRecord,
        /// Why.
        error: ErrorRecord,
    },
    /// It was stopped; the text so far is kept.
    AnswerStopped {
        /// The answer.
        answer_id: AnswerId,
        /// What came of it.
        record: AttemptRecord,
    },
    /// The provider's stream broke off after text had been shown; the text so far is kept.
    AnswerInterrupted {
        /// The answer.
        answer_id: AnswerId,
        /// What came of it.
        record: AttemptRecord,
        /// Why.
        error: ErrorRecord,
    },
    /// A person said what they think of an answer; it replaces what they said before.
    FeedbackGiven {
        /// The answer.
        answer_id: AnswerId,
        /// What they think.
        #[serde(flatten)]
        feedback: Feedback,
    },
    /// They took it back.
    FeedbackWithdrawn {
        /// The answer.
        answer_id: AnswerId,
    },
    /// The discussion ended without a verdict.
    DiscussionClosed {
        /// Why.
        reason: DiscussionEnd,
    },
}

impl TurnEvent {
    /// Answer, record and error of an event that ends an answer.
    pub const fn end(&self) -> Option<(AnswerId, &AttemptRecord)> {
        match self {
            Self::AnswerCompleted { answer_id, record, .. }
            | Self::AnswerFailed { answer_id, record, .. }
            | Self::AnswerStopped { answer_id, record }
            | Self::AnswerInterrupted { answer_id, record, .. } => Some((*answer_id, record)),
            _ => None,
        }
    }

    /// Answer and record of an event that ends an attempt: what is billed.
    pub const fn attempt(&self) -> Option<(AnswerId, &AttemptRecord)> {
        match self {
            Self::AttemptFailed { answer_id, record, .. } => Some((*answer_id, record)),
            other => other.end(),
        }
    }
}

crate::event_catalogue!(TurnEvent {
    PromptPosted => ("prompt_posted", "1"),
    AnswerRequested => ("answer_requested", "1"),
    AttemptStarted => ("attempt_started", "1"),
    AttemptFailed => ("attempt_failed", "1"),
    StopRequested => ("stop_requested", "1"),
    AnswerCompleted => ("answer_completed", "1"),
    AnswerFailed => ("answer_failed", "1"),
    AnswerStopped => ("answer_stopped", "1"),
    AnswerInterrupted => ("answer_interrupted", "1"),
    FeedbackGiven => ("feedback_given", "1"),
    FeedbackWithdrawn => ("feedback_withdrawn", "1"),
    DiscussionClosed => ("discussion_closed", "1"),
});
