//! A response as it is given out.

use polyphony_domain::{content::ToolCall, ids::AnswerId};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::routes::v1::listen::Outcome;

/// A response, begun or complete.
#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiResponse)]
pub struct Response {
    #[schema(example = "resp_0199000000007000800000000000000a")]
    id: String,
    #[schema(example = "response")]
    object: &'static str,
    /// Seconds since 1970.
    created_at: i64,
    /// `provider/name` of the model that answers.
    #[schema(example = "demo/demo")]
    model: String,
    /// `in_progress`, `completed` or `incomplete`.
    #[schema(example = "completed")]
    pub status: &'static str,
    /// Always null: a failure is an error of the call.
    #[schema(value_type = Option<Object>)]
    error: Option<()>,
    incomplete_details: Option<Incomplete>,
    instructions: Option<String>,
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
    output: Vec<Item>,
    parallel_tool_calls: bool,
    temperature: Option<f32>,
    #[schema(example = "auto")]
    tool_choice: &'static str,
    tools: Vec<Value>,
    top_p: Option<f32>,
    usage: Option<Usage>,
}

/// Why a response is incomplete: `max_output_tokens` or `content_filter`.
#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiIncomplete)]
struct Incomplete {
    reason: &'static str,
}

/// A part of a response.
#[derive(Clone, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = OpenAiItem)]
pub enum Item {
    /// Text.
    Message { id: String, status: &'static str, role: &'static str, content: Vec<Text> },
    /// What the model thought, where its provider shows that.
    Reasoning { id: String, summary: Vec<Summary> },
    /// A call of a tool; the arguments are JSON as text.
    FunctionCall { id: String, status: &'static str, call_id: String, name: String, arguments: String },
}

/// A text.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = OpenAiText)]
pub struct Text {
    #[serde(rename = "type")]
    #[schema(example = "output_text")]
    kind: &'static str,
    text: String,
    annotations: Vec<Value>,
    logprobs: Vec<Value>,
}

/// What was thought.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = OpenAiSummary)]
pub struct Summary {
    #[serde(rename = "type")]
    #[schema(example = "summary_text")]
    kind: &'static str,
    text: String,
}

/// Tokens.
#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiUsage)]
struct Usage {
    /// Cached ones included.
    input_tokens: u64,
    input_tokens_details: InputTokens,
    /// Those of reasoning included.
    output_tokens: u64,
    output_tokens_details: OutputTokens,
    total_tokens: u64,
}

/// Tokens of the input by kind.
#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiInputTokens)]
struct InputTokens {
    cached_tokens: u64,
}

/// Tokens of the output by kind.
#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiOutputTokens)]
struct OutputTokens {
    reasoning_tokens: u64,
}

/// The ids of an answer, and of its parts, in this SDK's world.
pub fn id(prefix: &str, answer: AnswerId, part: usize) -> String {
    let answer = answer.as_uuid().simple();
    if part == 0 { format!("{prefix}_{answer}") } else { format!("{prefix}_{answer}{part}") }
}

impl Text {
    pub const fn new(text: String) -> Self {
        Self { kind: "output_text", text, annotations: vec![], logprobs: vec![] }
    }
}

impl Summary {
    pub const fn new(text: String) -> Self {
        Self { kind: "summary_text", text }
    }
}

impl Item {
    /// A text that is complete.
    pub fn text(id: String, text: String) -> Self {
        Self::Message { id, status: "completed", role: "assistant", content: vec![Text::new(text)] }
    }

    /// A text of which nothing is there yet.
    pub const fn no_text(id: String) -> Self {
        Self::Message { id, status: "in_progress", role: "assistant", content: vec![] }
    }

    /// What was thought; none yet.
    pub fn reasoning(id: String, text: Option<String>) -> Self {
        Self::Reasoning { id, summary: text.map(Summary::new).into_iter().collect() }
    }

    fn call(id: String, call: &ToolCall) -> Self {
        let (call_id, name) = (call.call_id.clone(), call.name.clone());
        Self::FunctionCall { id, status: "completed", call_id, name, arguments: call.arguments.as_str().to_owned() }
    }

    /// The calls that the caller is to run; `from` counts the items before them.
    pub fn calls(outcome: &Outcome, from: usize) -> Vec<Self> {
        let calls = outcome.calls().enumerate();
        calls.map(|(index, call)| Self::call(id("fc", outcome.answer_id, from + index), call)).collect()
    }

    /// All items of an answer.
    pub fn all(outcome: &Outcome) -> Vec<Self> {
        let mut items: Vec<Self> = Vec::new();
        if let Some(reasoning) = outcome.reasoning() {
            items.push(Self::reasoning(id("rs", outcome.answer_id, 0), Some(reasoning.to_owned())));
        }
        if !outcome.text().is_empty() {
            items.push(Self::text(id("msg", outcome.answer_id, items.len()), outcome.text().to_owned()));
        }
        items.extend(Self::calls(outcome, items.len()));
        items
    }
}

impl Response {
    /// A response of which nothing is there yet.
    pub fn begun(answer: AnswerId, model: &str, created_at: i64) -> Self {
        Self {
            id: id("resp", answer, 0),
            object: "response",
            created_at,
            model: model.to_owned(),
            status: "in_progress",
            error: None,
            incomplete_details: None,
            instructions: None,
            metadata: Map::new(),
            output: vec![],
            parallel_tool_calls: true,
            temperature: None,
            tool_choice: "auto",
            tools: vec![],
            top_p: None,
            usage: None,
        }
    }

    /// A response that is complete.
    pub fn of(outcome: &Outcome, created_at: i64, output: Vec<Item>) -> Self {
        let usage = &outcome.record.usage;
        let reason = match outcome.finish.as_str() {
            "length" => Some("max_output_tokens"),
            "content_filter" => Some("content_filter"),
            _ => None,
        };
        Self {
            status: if reason.is_some() { "incomplete" } else { "completed" },
            incomplete_details: reason.map(|reason| Incomplete { reason }),
            output,
            usage: Some(Usage {
                input_tokens: usage.input,
                input_tokens_details: InputTokens { cached_tokens: usage.cached_input },
                output_tokens: usage.output,
                output_tokens_details: OutputTokens { reasoning_tokens: usage.reasoning },
                total_tokens: usage.input + usage.output,
            }),
            ..Self::begun(outcome.answer_id, &outcome.model, created_at)
        }
    }
}
