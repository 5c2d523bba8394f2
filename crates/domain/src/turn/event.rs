//! What happens in a turn.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    chunk_map::ChunkMap,
    content::{Part, Tool, ToolChoice},
    context::Receipt,
    ids::{AnswerId, KeyId, ModelId, SessionId, TurnId},
    money::NanoUsd,
    personal::Personal,
};

/// A model as the log names it: the names stay readable when the catalogue has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelRef {
    /// Id in the catalogue.
    pub id: ModelId,
    /// Provider, for example `openai`.
    pub provider: String,
    /// The provider's name of the model, for example `gpt-4o`.
    pub name: String,
}

/// Sampling parameters of an answer; what is absent is the provider's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Most tokens of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Texts that end the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    /// For answers that can be had again, where the provider offers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// `none`, `minimal`, `low`, `medium` or `high`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// Shape that the answer must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat>,
    /// Whether several tools may be called at once; none leaves the provider's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
}

/// Shape that an answer must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Any JSON object.
    JsonObject,
    /// JSON of a schema.
    JsonSchema {
        /// Name of the schema.
        name: String,
        /// The schema, as JSON text.
        schema: Personal,
        /// Whether the provider is to enforce it; none leaves the provider's default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
}

/// What a turn is for. Turns that are not of the conversation are hidden from it, but kept and billed like any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TurnPurpose {
    /// A person asks.
    #[default]
    Conversation,
    /// A model summarises the turns from `first` to `last` of a branch, for the context of later ones.
    Summary {
        /// First turn that the summary stands for.
        first: TurnId,
        /// Last turn that it stands for.
        last: TurnId,
        /// Whether a person asked for it: it then stands for its turns even where they would fit.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_request: bool,
    },
    /// A model finds a title for the session.
    Title,
}

impl TurnPurpose {
    /// Whether a person sees the turn in the conversation.
    pub fn is_conversation(&self) -> bool {
        *self == Self::Conversation
    }
}

/// A prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// Session that it was asked in.
    pub session_id: SessionId,
    /// Answer that it replies to.
    pub parent: Option<AnswerId>,
    /// The text.
    pub content: Personal,
    /// What belongs to it besides the text: pictures, documents, tool results.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// What the turn is for.
    #[serde(default, skip_serializing_if = "TurnPurpose::is_conversation")]
    pub purpose: TurnPurpose,
    /// Message that it quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<Uuid>,
    /// Turn whose prompt it is an edited form of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_from: Option<TurnId>,
    /// The conversation before it as the client gave it, instead of the session's own; JSON text of a
    /// [`crate::content::Conversation`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Personal>,
}

/// What an answer is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AnswerPurpose {
    /// It answers the prompt.
    #[default]
    Reply,
    /// It makes one answer of several.
    Synthesis,
    /// It comments on the other models' answers.
    Comment {
        /// Round of the discussion, from 1.
        round: u32,
    },
    /// It closes a discussion.
    Verdict,
}

impl AnswerPurpose {
    /// Whether it simply answers the prompt.
    pub fn is_reply(&self) -> bool {
        *self == Self::Reply
    }
}

/// How an answer is to be made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnswerRequest {
    /// Model to ask.
    pub model: ModelRef,
    /// Sampling parameters.
    pub params: Params,
    /// Stored key to use first; none for a provider that needs none.
    pub key_id: Option<KeyId>,
    /// Answers that this one is made from.
    pub derived_from: Vec<AnswerId>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "AnswerPurpose::is_reply")]
    pub purpose: AnswerPurpose,
    /// Models to turn to, in this order, when the model can't answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<ModelRef>,
    /// Tools that the model may call; the client runs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// Whether it has to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
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
});
