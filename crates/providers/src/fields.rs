//! Fields that several dialects write alike.

use polyphony_domain::{content::ToolResult, personal::Personal, turn::ResponseFormat};
use serde_json::{Value, json};

use crate::{Loss, LossKind, conversation::Losses};

/// A number as a person wrote it: the nearest double of `0.7_f32` is not 0.7.
pub(crate) fn number(value: f32) -> Value {
    serde_json::from_str(&value.to_string()).unwrap_or(Value::Null)
}

/// A schema, which is kept as JSON text; one that can't be read allows any object.
pub(crate) fn parsed(schema: &Personal) -> Value {
    match serde_json::from_str(schema.as_str()) {
        Ok(schema @ Value::Object(_)) => schema,
        _ => json!({"type": "object", "properties": {}}),
    }
}

/// What a tool answered, where the dialect has no place to say that it failed.
pub(crate) fn tool_answer(result: &ToolResult) -> String {
    let content = result.content.as_str();
    if result.is_error { format!("[The tool failed]\n{content}") } else { content.to_owned() }
}

/// Asks for the shape of the answer in words, where the dialect can't or can't wholly: appended to the system prompt.
pub(crate) fn format_in_words(format: &ResponseFormat, system: &mut String, losses: &mut Losses) {
    let words = match format {
        ResponseFormat::JsonObject => "Answer with a JSON object and nothing else.".to_owned(),
        ResponseFormat::JsonSchema { schema, .. } => {
            format!("Answer with JSON of this schema and nothing else: {}", schema.as_str())
        }
    };
    losses.say(Loss::of(LossKind::Parameter, "response_format: asked for in words"));
    if !system.is_empty() {
        system.push_str("\n\n");
    }
    system.push_str(&words);
}
