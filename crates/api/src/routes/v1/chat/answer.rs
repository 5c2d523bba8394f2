//! A chat completion as it is given out.

use chrono::Utc;
use polyphony_domain::ids::AnswerId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::routes::v1::listen::Outcome;

/// A whole answer.
#[derive(Serialize, ToSchema)]
pub struct ChatCompletion {
    #[schema(example = "chatcmpl-0199000000007000800000000000000a")]
    id: String,
    #[schema(example = "chat.completion")]
    object: &'static str,
    /// Seconds since 1970.
    created: i64,
    /// `provider/name` of the model that answered.
    #[schema(example = "demo/demo")]
    model: String,
    system_fingerprint: Option<String>,
    /// Exactly one.
    choices: Vec<ChatChoice>,
    usage: ChatUsage,
}

/// An answer, and why it ends there.
#[derive(Serialize, ToSchema)]
struct ChatChoice {
    index: u32,
    message: ChatReply,
    #[schema(value_type = Option<Object>)]
    logprobs: Option<()>,
    /// `stop`, `length`, `tool_calls` or `content_filter`.
    #[schema(example = "stop")]
    finish_reason: &'static str,
}

/// What a model says.
#[derive(Serialize, ToSchema)]
struct ChatReply {
    #[schema(example = "assistant")]
    role: &'static str,
    /// Null only beside calls of tools.
    content: Option<String>,
    refusal: Option<String>,
    /// What it thought, where its provider shows that.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<ChatToolCall>>,
}

/// A call of a tool.
#[derive(Serialize, ToSchema)]
pub struct ChatToolCall {
    id: String,
    #[serde(rename = "type")]
    #[schema(example = "function")]
    kind: &'static str,
    function: ChatFunctionCall,
}

/// What is called, with what.
#[derive(Serialize, ToSchema)]
struct ChatFunctionCall {
    name: String,
    /// JSON as text.
    #[schema(example = "{}")]
    arguments: String,
}

/// Tokens.
#[derive(Serialize, ToSchema)]
pub struct ChatUsage {
    /// Cached ones included.
    prompt_tokens: u64,
    /// Those of reasoning included.
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptTokens,
    completion_tokens_details: CompletionTokens,
}

/// Tokens of the prompt by kind.
#[derive(Serialize, ToSchema)]
struct PromptTokens {
    cached_tokens: u64,
    audio_tokens: u64,
}

/// Tokens of the answer by kind.
#[derive(Serialize, ToSchema)]
struct CompletionTokens {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

/// The id of an answer in this SDK's world.
pub fn completion_id(answer: AnswerId) -> String {
    format!("chatcmpl-{}", answer.as_uuid().simple())
}

/// Why an answer ends there, in this SDK's word.
pub fn finish(outcome: &Outcome) -> &'static str {
    match outcome.finish.as_str() {
        "length" => "length",
        "tool_calls" => "tool_calls",
        "content_filter" => "content_filter",
        _ => "stop",
    }
}

impl ChatUsage {
    pub fn of(outcome: &Outcome) -> Self {
        let usage = &outcome.record.usage;
        Self {
            prompt_tokens: usage.input,
            completion_tokens: usage.output,
            total_tokens: usage.input + usage.output,
            prompt_tokens_details: PromptTokens { cached_tokens: usage.cached_input, audio_tokens: 0 },
            completion_tokens_details: CompletionTokens {
                reasoning_tokens: usage.reasoning,
                audio_tokens: 0,
                accepted_prediction_tokens: 0,
                rejected_prediction_tokens: 0,
            },
        }
    }
}

impl ChatToolCall {
    /// The calls that the caller is to run.
    pub fn all(outcome: &Outcome) -> Vec<Self> {
        let call = |call: &polyphony_domain::content::ToolCall| {
            let function = ChatFunctionCall { name: call.name.clone(), arguments: call.arguments.as_str().to_owned() };
            Self { id: call.call_id.clone(), kind: "function", function }
        };
        outcome.calls().map(call).collect()
    }
}

impl ChatCompletion {
    pub fn of(outcome: &Outcome) -> Self {
        let tool_calls = ChatToolCall::all(outcome);
        let content = (!outcome.text().is_empty() || tool_calls.is_empty()).then(|| outcome.text().to_owned());
        let reasoning_content = outcome.reasoning().map(str::to_owned);
        let tool_calls = (!tool_calls.is_empty()).then_some(tool_calls);
        let message = ChatReply { role: "assistant", content, refusal: None, reasoning_content, tool_calls };
        Self {
            id: completion_id(outcome.answer_id),
            object: "chat.completion",
            created: Utc::now().timestamp(),
            model: outcome.model.clone(),
            system_fingerprint: None,
            choices: vec![ChatChoice { index: 0, message, logprobs: None, finish_reason: finish(outcome) }],
            usage: ChatUsage::of(outcome),
        }
    }
}
