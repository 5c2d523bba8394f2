//! The conversation in the Messages dialect.

use polyphony_domain::content::{Media, MediaSource, Part, Role};
use serde_json::{Value, json};

use crate::conversation::{Echo, Files, IdRule, NameRule, Prepared, Prompted, Target};

/// What Anthropic takes.
pub(super) const fn target(provider: &str) -> Target<'_> {
    Target {
        provider,
        echo: Echo::Signed,
        system_inside: false,
        alternates: true,
        refusals: false,
        images: &["image/png", "image/jpeg", "image/gif", "image/webp"],
        files: Files::PdfOrUrl,
        ids: IdRule::Word(64),
        names: NameRule::Word(128),
    }
}

/// The `messages` field.
pub(super) fn messages(prepared: &Prepared) -> Vec<Value> {
    let count = prepared.messages.len();
    let mut written: Vec<Value> =
        prepared.messages.iter().enumerate().map(|(n, it)| message(it, n + 1 == count)).collect();
    // A conversation goes on: what is said so far is read from the cache next time. The last mark but one is where the
    // time before put it. A first prompt may remain the only one, and writing to the cache costs.
    if prepared.messages.iter().any(|message| message.role == Role::Assistant) {
        let sides = written.iter_mut().rev().filter(|message| message["role"] == "user").take(2);
        sides.for_each(mark);
    }
    written
}

/// Marks the end of a message as the end of a cached beginning.
fn mark(message: &mut Value) {
    if let Some(last) = message["content"].as_array_mut().and_then(|blocks| blocks.last_mut()) {
        last["cache_control"] = cache_control();
    }
}

pub(super) fn cache_control() -> Value {
    json!({"type": "ephemeral"})
}

fn message(message: &Prompted, is_last: bool) -> Value {
    let assistant = message.role == Role::Assistant;
    let mut blocks: Vec<Value> = message.parts.iter().filter_map(block).collect();
    // A prefix that the model is to go on with mustn't end in a blank.
    if assistant
        && is_last
        && let Some(last) = blocks.last_mut()
        && let Some(text) = last["text"].as_str().map(|text| text.trim_end().to_owned())
    {
        last["text"] = text.into();
    }
    json!({"role": if assistant { "assistant" } else { "user" }, "content": blocks})
}

fn block(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text { text } => json!({"type": "text", "text": text.as_str()}),
        Part::Image { media } => json!({"type": "image", "source": source(media)}),
        Part::File { name, media } => json!({"type": "document", "source": source(media), "title": name.as_str()}),
        Part::Reasoning { text, opaque } => {
            let mut block: Value = serde_json::from_str(opaque.as_ref()?.as_str()).ok()?;
            if block["type"] == "thinking" {
                block["thinking"] = text.as_str().into();
            }
            block
        }
        Part::ToolCall(call) => {
            let input: Value = serde_json::from_str(call.arguments.as_str()).ok()?;
            json!({"type": "tool_use", "id": call.call_id, "name": call.name, "input": input})
        }
        Part::ToolResult(result) => json!({"type": "tool_result", "tool_use_id": result.call_id,
            "content": result.content.as_str(), "is_error": result.is_error}),
        _ => return None,
    })
}

fn source(media: &Media) -> Value {
    match &media.source {
        MediaSource::Inline(data) => json!({"type": "base64", "media_type": media.media_type, "data": data.as_str()}),
        MediaSource::Url(url) => json!({"type": "url", "url": url.as_str()}),
        MediaSource::Stored(_) => Value::Null,
    }
}
