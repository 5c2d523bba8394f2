//! What goes into an adapter besides the conversation, and what comes out.

use bytes::Bytes;
use polyphony_domain::{
    content::{Tool, ToolChoice},
    turn::Params,
};
use serde_json::Value;
use zeroize::Zeroizing;

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

/// Something that a target could not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// What and why, for the context receipt.
    pub what: String,
}

/// A request ready to be sent: its bytes are what the receipt's hash is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The body.
    pub body: Bytes,
    /// What was left out.
    pub losses: Vec<Loss>,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum AdapterEvent {
    /// Text of the answer.
    Text(String),
    /// Reasoning.
    Reasoning(String),
    /// A call of a tool, assembled from its fragments.
    ToolCall {
        /// The provider's id of it; may be empty or repeat.
        id: String,
        /// Tool.
        name: String,
        /// JSON; `{}` where the provider sent nothing.
        arguments: String,
    },
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
    /// How many of the output were reasoning.
    pub reasoning: Option<u64>,
    /// The provider's own words.
    pub raw: Value,
}

/// Why the model ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// It was done.
    Stop,
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
    /// The word of the contract.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stop => "stop",
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
        match word {
            "stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" => Self::Stop,
            "length" | "max_tokens" | "model_length" | "max_output_tokens" => Self::Length,
            "tool_calls" | "function_call" | "tool_use" => Self::ToolCalls,
            "content_filter" | "sensitive" | "safety" => Self::ContentFilter,
            "refusal" => Self::Refusal,
            other => Self::Other(other.chars().take(64).collect()),
        }
    }
}

/// A provider key: wiped when dropped, without `Debug`, `Clone` or `Serialize`.
pub struct ProviderKey(Zeroizing<Vec<u8>>);

impl ProviderKey {
    /// Takes a key.
    pub fn new(secret: Vec<u8>) -> Self {
        Self(Zeroizing::new(secret))
    }

    pub(crate) fn bearer(&self) -> Option<reqwest::header::HeaderValue> {
        let text = Zeroizing::new([b"Bearer ".as_slice(), &self.0].concat());
        let mut value = reqwest::header::HeaderValue::from_bytes(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}
