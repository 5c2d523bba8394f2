//! What goes into an adapter besides the conversation, and what comes out.

use std::time::Duration;

use bytes::Bytes;
use polyphony_domain::{
    content::{Part, Tool, ToolChoice},
    turn::Params,
};
use serde_json::Value;

use crate::Loss;

/// How the answer is to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The provider's name of the model.
    pub model: String,
    /// Sampling parameters; what is absent is the provider's default.
    pub params: Params,
    /// Tools that the model may call.
    pub tools: Vec<Tool>,
    /// Whether it has to.
    pub tool_choice: Option<ToolChoice>,
}

/// A request ready to be sent: its bytes are what the receipt's hash is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    /// Path below the base URL that it goes to, with its query.
    pub endpoint: String,
    /// The body.
    pub body: Bytes,
    /// What was left out or rewritten.
    pub losses: Vec<Loss>,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum AdapterEvent {
    /// What the provider still allows, from the head of its answer. Comes first, if at all.
    Limits(Limits),
    /// Text of the answer.
    Text(String),
    /// Reasoning, as it is shown.
    Reasoning(String),
    /// Something that is neither, complete: a tool call, a refusal with its words, a source, or reasoning with what the
    /// provider wants echoed. To be kept with the answer and given back as parts of its message.
    Part(Part),
    /// What was used so far. The last one counts; they are never added up.
    Usage(Usage),
    /// The model has ended.
    Finish(FinishReason),
}

/// Tokens as the provider reports them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Of the request, cached ones included.
    pub input: u64,
    /// Of the answer, reasoning included.
    pub output: u64,
    /// How many of the input came from the cache.
    pub cached_input: Option<u64>,
    /// How many of the input were written to the cache, which some providers charge for.
    pub cache_write: Option<u64>,
    /// How many of the output were reasoning.
    pub reasoning: Option<u64>,
    /// The provider's own words.
    pub raw: Value,
}

/// What a provider still allows to a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests.
    pub requests: Option<Allowance>,
    /// Tokens; where a provider counts several kinds, the scarcest.
    pub tokens: Option<Allowance>,
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// How many are left.
    pub remaining: u64,
    /// Of how many.
    pub limit: Option<u64>,
    /// When it's whole again, from now.
    pub reset: Option<Duration>,
}

/// A model as its provider lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelInfo {
    /// The provider's name of it.
    pub name: String,
    /// Name for people, where the provider gives one.
    pub display_name: Option<String>,
    /// Tokens that fit, where the provider says.
    pub context_length: Option<u64>,
    /// Most tokens of an answer, where the provider says.
    pub max_output: Option<u64>,
}

/// What an adapter can carry to its provider. Whether a certain model takes it is the catalogue's to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Pictures in a prompt.
    pub images: bool,
    /// Documents other than text in a prompt.
    pub files: bool,
    /// Tools.
    pub tools: bool,
    /// Reasoning can be asked for by effort.
    pub reasoning_effort: bool,
    /// The shape of the answer can be set.
    pub response_format: bool,
    /// Tokens can be counted at the provider.
    pub count_tokens: bool,
}

impl Capabilities {
    /// Everything.
    pub const ALL: Self = Self {
        images: true,
        files: true,
        tools: true,
        reasoning_effort: true,
        response_format: true,
        count_tokens: true,
    };
}

/// Why the model ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// It was done.
    Stop,
    /// It came to a text that was to end it: to which one, where the provider says.
    StopSequence(Option<String>),
    /// It reached the most tokens.
    Length,
    /// It wants tools called.
    ToolCalls,
    /// The provider's filter cut it.
    ContentFilter,
    /// It refused.
    Refusal,
    /// Another word of the provider, at most 64 characters of it.
    Other(String),
}

impl FinishReason {
    /// Whether nothing kept it from ending.
    pub const fn is_stop(&self) -> bool {
        matches!(self, Self::Stop | Self::StopSequence(_))
    }

    /// The word of the contract.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stop | Self::StopSequence(_) => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Refusal => "refusal",
            Self::Other(word) => word,
        }
    }
}

impl From<&str> for FinishReason {
    fn from(word: &str) -> Self {
        let word = word.to_ascii_lowercase();
        match word.as_str() {
            "stop" | "eos" | "eos_token" | "end_turn" | "completed" => Self::Stop,
            "stop_sequence" => Self::StopSequence(None),
            "length" | "max_tokens" | "model_length" | "max_output_tokens" | "model_context_window_exceeded" => {
                Self::Length
            }
            "tool_calls" | "function_call" | "tool_use" => Self::ToolCalls,
            "content_filter"
            | "sensitive"
            | "safety"
            | "recitation"
            | "blocklist"
            | "prohibited_content"
            | "spii"
            | "language"
            | "image_safety"
            | "image_prohibited_content"
            | "image_recitation"
            | "model_armor" => Self::ContentFilter,
            "refusal" => Self::Refusal,
            other => Self::Other(other.chars().take(64).collect()),
        }
    }
}
