//! The conversation in the chat dialect.

use polyphony_domain::content::{Part, Role, ToolChoice};
use serde_json::{Value, json};

use super::Quirks;
use crate::{
    Loss, LossKind, Options,
    conversation::{Echo, Files, IdRule, Losses, NameRule, Prepared, Prompted, Target, data_url},
    fields::{parsed, tool_answer},
};

/// What a host takes.
pub(super) fn target<'a>(quirks: &Quirks, provider: &'a str) -> Target<'a> {
    Target {
        provider,
        echo: if quirks.echoes_reasoning { Echo::TextWithCalls } else { Echo::Never },
        system_inside: !quirks.strict_turns,
        alternates: quirks.strict_turns,
        refusals: quirks.refusals,
        images: if quirks.images { &["image/png", "image/jpeg", "image/gif", "image/webp"] } else { &[] },
        files: if quirks.pdf { Files::Pdf } else { Files::No },
        ids: if quirks.short_ids { IdRule::Nine } else { IdRule::Word(40) },
        names: NameRule::Word(64),
    }
}

/// The `messages` field.
pub(super) fn messages(quirks: &Quirks, prepared: &Prepared, losses: &mut Losses) -> Vec<Value> {
    let mut messages = Vec::with_capacity(prepared.messages.len() + 1);
    if !prepared.system.is_empty() {
        messages.push(json!({"role": quirks.system_role, "content": prepared.system}));
    }
    for message in &prepared.messages {
        match message.role {
            Role::Assistant => messages.push(assistant(message)),
            Role::User => user("user", message, &mut messages),
            Role::System => user(quirks.system_role, message, &mut messages),
        }
    }
    if quirks.strict_turns { answered(messages, losses) } else { messages }
}

/// Puts a word of the assistant between the results of tools and what the person says after them.
fn answered(messages: Vec<Value>, losses: &mut Losses) -> Vec<Value> {
    let mut answered: Vec<Value> = Vec::with_capacity(messages.len());
    for message in messages {
        if message["role"] == "user" && answered.last().is_some_and(|last| last["role"] == "tool") {
            losses.say(Loss::of(
                LossKind::Message,
                "results of tools: an answer was put between them and the next prompt",
            ));
            answered.push(json!({"role": "assistant", "content": "I have the results."}));
        }
        answered.push(message);
    }
    answered
}

/// The results of tools are messages of their own.
fn user(role: &str, message: &Prompted, messages: &mut Vec<Value>) {
    let mut parts = Vec::new();
    for part in &message.parts {
        match part {
            Part::Text { text } => parts.push(json!({"type": "text", "text": text.as_str()})),
            Part::Image { media } => {
                parts.push(json!({"type": "image_url", "image_url": {"url": data_url(media)}}));
            }
            Part::File { name, media } => {
                parts.push(json!({"type": "file", "file": {"filename": name.as_str(), "file_data": data_url(media)}}));
            }
            Part::ToolResult(result) => {
                messages.push(json!({"role": "tool", "tool_call_id": result.call_id, "content": tool_answer(result)}))
            }
            _ => {}
        }
    }
    let texts: Option<Vec<&str>> = parts.iter().map(|part| part["text"].as_str()).collect();
    match texts {
        Some(texts) if texts.is_empty() => {}
        // Small hosts take nothing but a string.
        Some(texts) => messages.push(json!({"role": role, "content": texts.join("\n\n")})),
        None => messages.push(json!({"role": role, "content": parts})),
    }
}

fn assistant(message: &Prompted) -> Value {
    let (mut said, mut thought, mut refused, mut calls) = (String::new(), String::new(), String::new(), Vec::new());
    for part in &message.parts {
        match part {
            Part::Text { text } => said += text.as_str(),
            Part::Reasoning { text, .. } => thought += text.as_str(),
            Part::Refusal { text } => refused += text.as_str(),
            Part::ToolCall(call) => calls.push(json!({"id": call.call_id, "type": "function",
                "function": {"name": call.name, "arguments": call.arguments.as_str()}})),
            _ => {}
        }
    }
    let mut written = json!({"role": "assistant", "content": said});
    if said.is_empty() && !(calls.is_empty() && refused.is_empty()) {
        written["content"] = Value::Null;
    }
    for (name, value) in [("reasoning_content", thought), ("refusal", refused)] {
        if !value.is_empty() {
            written[name] = value.into();
        }
    }
    if !calls.is_empty() {
        written["tool_calls"] = calls.into();
    }
    written
}

/// Writes `tools` and `tool_choice`.
pub(super) fn tools(options: &Options, body: &mut Value) {
    if options.tools.is_empty() {
        return;
    }
    let tool = |tool: &polyphony_domain::content::Tool| {
        let mut function = json!({"name": tool.name, "parameters": parsed(&tool.parameters)});
        if let Some(description) = &tool.description {
            function["description"] = description.as_str().into();
        }
        if let Some(strict) = tool.strict {
            function["strict"] = strict.into();
        }
        json!({"type": "function", "function": function})
    };
    body["tools"] = options.tools.iter().map(tool).collect();
    if let Some(choice) = &options.tool_choice {
        body["tool_choice"] = match choice {
            ToolChoice::Auto => "auto".into(),
            ToolChoice::None => "none".into(),
            ToolChoice::Required => "required".into(),
            ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
        };
    }
}
