//! A message as it is given out.

use polyphony_domain::{content::ToolCall, ids::AnswerId};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::thoughts;
use crate::routes::v1::listen::Outcome;

/// A whole answer.
#[derive(Serialize, ToSchema)]
#[schema(as = AnthropicMessage)]
pub struct Message {
    #[schema(example = "msg_0199000000007000800000000000000a")]
    id: String,
    #[serde(rename = "type")]
    #[schema(example = "message")]
    kind: &'static str,
    #[schema(example = "assistant")]
    role: &'static str,
    /// `provider/name` of the model that answered.
    #[schema(example = "demo/demo")]
    model: String,
    content: Vec<Block>,
    /// `end_turn`, `max_tokens`, `stop_sequence`, `tool_use` or `refusal`.
    #[schema(example = "end_turn")]
    stop_reason: &'static str,
    /// The text of `stop_sequences` that ended the answer. Anthropic says so, vLLM and SGLang do; most providers say only
    /// that the answer ended, which is `end_turn`.
    stop_sequence: Option<String>,
    usage: Usage,
}

/// A part of an answer.
#[derive(Clone, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = AnthropicBlock)]
pub enum Block {
    /// Text.
    Text { text: String },
    /// What the model thought. The signature is the provider's own where it signs, else it says whose the thought is. It
    /// is to be sent back unchanged.
    Thinking { thinking: String, signature: String },
    /// What the model thought and nobody may read.
    RedactedThinking { data: String },
    /// A call of a tool.
    ToolUse { id: String, name: String, input: Value },
}

/// Tokens. Those of the cache are counted by themselves.
#[derive(Serialize, ToSchema)]
#[schema(as = AnthropicUsage)]
pub struct Usage {
    input_tokens: u64,
    cache_read_input_tokens: u64,
    cache_creation_input_tokens: u64,
    output_tokens: u64,
}

/// What a message would be asked with.
#[derive(Serialize, ToSchema)]
#[schema(as = AnthropicTokens)]
pub struct Tokens {
    pub input_tokens: u64,
}

/// The id of an answer in this SDK's world.
pub fn message_id(answer: AnswerId) -> String {
    format!("msg_{}", answer.as_uuid().simple())
}

/// Why an answer ends there, in this SDK's word.
pub fn stop_reason(outcome: &Outcome) -> &'static str {
    match outcome.finish.as_str() {
        "length" => "max_tokens",
        "tool_calls" => "tool_use",
        "content_filter" | "refusal" => "refusal",
        "stop" if outcome.stop_sequence.is_some() => "stop_sequence",
        _ => "end_turn",
    }
}

/// The text that ended it, where that is known.
pub fn stop_sequence(outcome: &Outcome) -> Option<&str> {
    outcome.stop_sequence.as_deref().filter(|text| !text.is_empty() && outcome.finish == "stop")
}

impl Usage {
    pub fn of(outcome: &Outcome) -> Self {
        let usage = &outcome.record.usage;
        Self {
            input_tokens: usage.input.saturating_sub(usage.cached_input + usage.cache_write),
            cache_read_input_tokens: usage.cached_input,
            cache_creation_input_tokens: usage.cache_write,
            output_tokens: usage.output,
        }
    }
}

impl Block {
    /// A call, with its arguments.
    pub fn of_call(call: &ToolCall) -> Self {
        let input = serde_json::from_str(call.arguments.as_str()).unwrap_or_else(|_| json!({}));
        Self::ToolUse { id: call.call_id.clone(), name: call.name.clone(), input }
    }
}

impl Message {
    pub fn of(outcome: &Outcome) -> Self {
        let mut content = thoughts::blocks(outcome);
        let uses: Vec<Block> = outcome.calls().map(Block::of_call).collect();
        if !outcome.text().is_empty() || uses.is_empty() {
            content.push(Block::Text { text: outcome.text().to_owned() });
        }
        content.extend(uses);
        Self {
            id: message_id(outcome.answer_id),
            kind: "message",
            role: "assistant",
            model: outcome.model.clone(),
            content,
            stop_reason: stop_reason(outcome),
            stop_sequence: stop_sequence(outcome).map(str::to_owned),
            usage: Usage::of(outcome),
        }
    }
}
