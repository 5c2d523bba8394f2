//! From the host's stream to events. Pure: bytes in, events out.
//!
//! What counts as the end: `[DONE]` together with a finish reason, or a finish reason before a clean end (many hosts
//! leave `[DONE]` out). An end without a finish reason is an interruption, however cleanly the connection closed.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Value, value::RawValue};

use super::{
    presets::Quirks,
    wire::{Chunk, ContentPart, Delta, ToolFragment},
};
use crate::{
    AdapterEvent, ErrorKind, FinishReason, ProviderError, Usage,
    sse::{Decoder, SseEvent},
};

type Events = Vec<Result<AdapterEvent, ProviderError>>;

#[derive(Default)]
struct Tool {
    id: String,
    name: String,
    arguments: String,
}

/// Where `<think>` in the text stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Think {
    /// The host doesn't write it, or it's over.
    Off,
    /// The text has not begun.
    Before,
    /// Inside.
    Inside,
}

/// Turns one answer into events.
pub struct Converter {
    decoder: Decoder,
    tools: BTreeMap<u64, Tool>,
    finish: Option<FinishReason>,
    done: bool,
    failed: bool,
    ended: bool,
    think: Think,
    /// Text that may be the beginning of a tag.
    held: String,
}

impl Converter {
    /// For one answer of a host with these quirks.
    pub fn new(quirks: Quirks) -> Self {
        Self {
            decoder: Decoder::default(),
            tools: BTreeMap::new(),
            finish: None,
            done: false,
            failed: false,
            ended: false,
            think: if quirks.think_tags { Think::Before } else { Think::Off },
            held: String::new(),
        }
    }

    /// Whether the end marker was read.
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// Whether a finish reason was read, so that the end of the connection is the end of the answer.
    pub const fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Takes bytes.
    pub fn feed(&mut self, bytes: &[u8], events: &mut Events) {
        let mut decoder = std::mem::take(&mut self.decoder);
        let fed = decoder.feed(bytes, &mut |event| self.event(&event, events));
        self.decoder = decoder;
        if fed.is_err() && !self.failed {
            self.fail(ProviderError::of(ErrorKind::ResponseTooLarge), events);
        }
    }

    /// The connection has ended, or the end marker was read.
    pub fn finish(&mut self, events: &mut Events) {
        let mut decoder = std::mem::take(&mut self.decoder);
        decoder.finish(&mut |event| self.event(&event, events));
        if self.failed || std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.release(events);
        for (_, tool) in std::mem::take(&mut self.tools) {
            let arguments = if tool.arguments.is_empty() { "{}".to_owned() } else { tool.arguments };
            events.push(Ok(AdapterEvent::ToolCall { id: tool.id, name: tool.name, arguments }));
        }
        match self.finish.take() {
            Some(reason) => events.push(Ok(AdapterEvent::Finish(reason))),
            None => events.push(Err(ProviderError::of(ErrorKind::Interrupted))),
        }
    }

    /// Takes a whole answer that came as one JSON object.
    pub fn whole(&mut self, body: &[u8], events: &mut Events) {
        match std::str::from_utf8(body) {
            Ok(text) => self.chunk(text, events),
            Err(_) => self.fail(ProviderError::of(ErrorKind::Protocol), events),
        }
        self.finish(events);
    }

    fn fail(&mut self, error: ProviderError, events: &mut Events) {
        self.release(events);
        self.failed = true;
        events.push(Err(error));
    }

    fn event(&mut self, event: &SseEvent, events: &mut Events) {
        if self.failed || self.done {
            return;
        }
        let data = event.data.trim();
        if data == "[DONE]" {
            self.done = true;
        } else if event.event == "error" {
            let error: Value = serde_json::from_str(data).unwrap_or_else(|_| data.into());
            let error = error.get("error").unwrap_or(&error);
            self.fail(ProviderError::described(None, error), events);
        } else if !data.is_empty() {
            self.chunk(data, events);
        }
    }

    fn chunk(&mut self, data: &str, events: &mut Events) {
        let Ok(chunk) = serde_json::from_str::<Chunk<'_>>(data) else {
            return self.fail(ProviderError::of(ErrorKind::Protocol), events);
        };
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            if let Some(usage) = chunk.usage.and_then(usage) {
                events.push(Ok(AdapterEvent::Usage(usage)));
            }
            return self.fail(ProviderError::described(None, &error), events);
        }
        // A second choice is an alternative that nobody asked for.
        for choice in chunk.choices.into_iter().flatten().filter(|choice| choice.index == 0) {
            if let Some(delta) = choice.delta.or(choice.message) {
                self.delta(delta, events);
            }
            if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
                self.finish = Some(FinishReason::from(reason.as_ref()));
            }
            if let Some(usage) = choice.usage.and_then(usage) {
                events.push(Ok(AdapterEvent::Usage(usage)));
            }
        }
        let reported = chunk.usage.or_else(|| chunk.x_groq.and_then(|groq| groq.usage));
        if let Some(usage) = reported.and_then(usage) {
            events.push(Ok(AdapterEvent::Usage(usage)));
        }
    }

    fn delta(&mut self, delta: Delta<'_>, events: &mut Events) {
        let thought = delta.reasoning_content.filter(|text| !text.is_empty()).or(delta.reasoning);
        reasoning(thought.unwrap_or_default(), events);
        if let Some(content) = delta.content {
            self.content(content, events);
        }
        // A refusal is what the model has to say.
        self.text(&delta.refusal.unwrap_or_default(), events);
        for fragment in delta.tool_calls.into_iter().flatten() {
            self.tool(fragment);
        }
    }

    fn content(&mut self, content: &RawValue, events: &mut Events) {
        match content.get().as_bytes().first() {
            Some(b'"') => {
                if let Ok(text) = serde_json::from_str::<Borrowed<'_>>(content.get()) {
                    self.text(&text.0, events);
                }
            }
            Some(b'[') => {
                for part in serde_json::from_str::<Vec<ContentPart>>(content.get()).unwrap_or_default() {
                    match part {
                        ContentPart::Text { text } => self.text(&text, events),
                        ContentPart::Thinking { thinking } => {
                            for part in thinking {
                                if let ContentPart::Text { text } = part {
                                    reasoning(text.into(), events);
                                }
                            }
                        }
                        ContentPart::Other => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn tool(&mut self, fragment: ToolFragment) {
        // Hosts that don't number their calls send each whole.
        let next = self.tools.keys().next_back().map_or(0, |last| last + 1);
        let tool = self.tools.entry(fragment.index.unwrap_or(next)).or_default();
        if let Some(id) = fragment.id.filter(|id| !id.is_empty()) {
            tool.id = id;
        }
        let Some(function) = fragment.function else { return };
        if let Some(name) = function.name.filter(|name| !name.is_empty()) {
            tool.name = name;
        }
        match function.arguments {
            Some(Value::String(piece)) => tool.arguments.push_str(&piece),
            Some(Value::Null) | None => {}
            Some(whole) => tool.arguments = whole.to_string(),
        }
    }

    /// Passes text on, with `<think>…</think>` at its beginning turned into reasoning.
    fn text(&mut self, text: &str, events: &mut Events) {
        if self.think == Think::Off {
            return push_text(text, events);
        }
        self.held.push_str(text);
        if self.think == Think::Before {
            let begun = self.held.trim_start();
            if let Some(rest) = begun.strip_prefix("<think>") {
                self.held = rest.to_owned();
                self.think = Think::Inside;
            } else if "<think>".starts_with(begun) {
                return;
            } else {
                self.think = Think::Off;
                return self.release(events);
            }
        }
        if let Some((thought, rest)) = self.held.split_once("</think>") {
            reasoning(thought.to_owned().into(), events);
            let rest = rest.trim_start_matches('\n').to_owned();
            self.held.clear();
            self.think = Think::Off;
            return push_text(&rest, events);
        }
        // What may be the beginning of the closing tag waits for the next piece.
        let keep = (1.."</think>".len()).rev().find(|length| self.held.ends_with(&"</think>"[..*length])).unwrap_or(0);
        let tail = self.held.split_off(self.held.len() - keep);
        reasoning(std::mem::replace(&mut self.held, tail).into(), events);
    }

    /// Lets go of text that was held back.
    fn release(&mut self, events: &mut Events) {
        let held = std::mem::take(&mut self.held);
        if self.think == Think::Inside { reasoning(held.into(), events) } else { push_text(&held, events) }
    }
}

#[derive(serde::Deserialize)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

fn push_text(text: &str, events: &mut Events) {
    if !text.is_empty() {
        events.push(Ok(AdapterEvent::Text(text.to_owned())));
    }
}

fn reasoning(text: Cow<'_, str>, events: &mut Events) {
    if !text.is_empty() {
        events.push(Ok(AdapterEvent::Reasoning(text.into_owned())));
    }
}

/// Reads a usage object; `None` for null and for objects without counts.
fn usage(raw: Value) -> Option<Usage> {
    let number = |object: &Value, name: &str| object.get(name).and_then(Value::as_u64);
    let input = number(&raw, "prompt_tokens");
    let output = number(&raw, "completion_tokens");
    if input.is_none() && output.is_none() {
        return None;
    }
    let cached = raw.get("prompt_tokens_details").and_then(|details| number(details, "cached_tokens"));
    let cached = cached.or_else(|| number(&raw, "prompt_cache_hit_tokens")).or_else(|| number(&raw, "cached_tokens"));
    let reasoning = raw.get("completion_tokens_details").and_then(|details| number(details, "reasoning_tokens"));
    let (input, mut output) = (input.unwrap_or(0), output.unwrap_or(0));
    // xAI counts reasoning beside the completion: then, and only then, the total says so.
    if let (Some(total), Some(reasoning)) = (number(&raw, "total_tokens"), reasoning)
        && reasoning > 0
        && total == input + output + reasoning
    {
        output += reasoning;
    }
    Some(Usage { input, output, cached_input: cached, reasoning, raw })
}
