//! The conversation in Gemini's dialect.

use polyphony_domain::content::{Media, MediaSource, Part, Role};
use serde_json::{Value, json};

use crate::conversation::{Echo, Files, IdRule, NameRule, Prepared, Target};

/// What Gemini takes.
pub(super) const fn target(provider: &str) -> Target<'_> {
    Target {
        provider,
        echo: Echo::Signed,
        system_inside: false,
        alternates: true,
        refusals: false,
        images: &["image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"],
        files: Files::Any,
        ids: IdRule::Word(64),
        names: NameRule::Dotted(64),
    }
}

/// In the place of a signature, where a call was another model's: newer models refuse calls without any.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// The `contents` field.
pub(super) fn contents(prepared: &Prepared, wants_signatures: bool) -> Vec<Value> {
    prepared
        .messages
        .iter()
        .map(|message| {
            let mut parts: Vec<Value> = message.parts.iter().filter_map(part).collect();
            // Signatures of the text itself come after it.
            parts.sort_by_key(|part| u8::from(part.get("functionCall").is_some()) * 2 + u8::from(part["text"] == ""));
            let first_call = parts.iter_mut().find(|part| part.get("functionCall").is_some());
            if let (true, Some(call)) = (wants_signatures, first_call)
                && call.get("thoughtSignature").is_none()
            {
                call["thoughtSignature"] = NO_SIGNATURE.into();
            }
            json!({"role": if message.role == Role::Assistant { "model" } else { "user" }, "parts": parts})
        })
        .collect()
}

fn part(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text { text } => json!({"text": text.as_str()}),
        Part::Image { media } | Part::File { media, .. } => blob(media),
        Part::Reasoning { opaque, .. } => json!({"text": "", "thoughtSignature": opaque.as_ref()?.as_str()}),
        Part::ToolCall(call) => {
            let args: Value = serde_json::from_str(call.arguments.as_str()).ok()?;
            let mut written = json!({"functionCall": {"id": call.call_id, "name": call.name, "args": args}});
            if let Some(signature) = &call.opaque {
                written["thoughtSignature"] = signature.as_str().into();
            }
            written
        }
        Part::ToolResult(result) => {
            let field = if result.is_error { "error" } else { "output" };
            let response = json!({field: result.content.as_str()});
            json!({"functionResponse": {"id": result.call_id, "name": result.name, "response": response}})
        }
        _ => return None,
    })
}

fn blob(media: &Media) -> Value {
    match &media.source {
        MediaSource::Inline(data) => json!({"inlineData": {"mimeType": media.media_type, "data": data.as_str()}}),
        MediaSource::Url(url) if media.media_type.is_empty() => json!({"fileData": {"fileUri": url.as_str()}}),
        MediaSource::Url(url) => json!({"fileData": {"mimeType": media.media_type, "fileUri": url.as_str()}}),
        MediaSource::Stored(_) => Value::Null,
    }
}
