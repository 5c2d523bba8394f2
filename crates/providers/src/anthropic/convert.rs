//! From the events of the Messages dialect to ours. Unknown events, blocks and deltas are passed over: there are new ones
//! every season. What the provider runs itself (searches, code) is its own business and makes no event.

use std::collections::BTreeMap;

use polyphony_domain::content::{Part, ToolCall};
use serde_json::{Map, Value, json};

use super::usage::usage;
use crate::{
    FinishReason,
    answer::{Dialect, Output},
    sse::SseEvent,
};

/// Most bytes of one answer's tool arguments and signatures.
const MOST_HELD: usize = 8 << 20;

/// A block that is open.
enum Block {
    /// Reasoning, with the signature that must go back with it.
    Thinking { text: String, signature: String },
    /// Reasoning that nobody may read, but that must go back.
    Redacted(String),
    /// A call of a tool: its arguments as given at once, and as streamed.
    Tool { id: String, name: String, given: Value, streamed: String },
    /// Text, which is given out as it comes, and everything else.
    Other,
}

/// One answer in the Messages dialect.
#[derive(Default)]
pub(crate) struct Messages {
    open: BTreeMap<u64, Block>,
    /// Of the newest block, for deltas without an index.
    newest: u64,
    /// Complete, and given out when the answer is.
    held: Vec<Part>,
    held_bytes: usize,
    /// What was reported so far: later fields replace earlier ones.
    usage: Map<String, Value>,
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of.get(name).and_then(Value::as_str).unwrap_or_default()
}

impl Messages {
    fn start(&mut self, index: u64, block: &Value, out: &mut Output) {
        // The same index again: the block before it never said that it stopped.
        self.stop(index);
        out.grow();
        self.newest = index;
        let opened = match text(block, "type") {
            "text" => {
                out.text(text(block, "text"));
                block["citations"].as_array().into_iter().flatten().for_each(|source| cite(source, out));
                Block::Other
            }
            "thinking" => {
                out.reasoning(text(block, "thinking"));
                let signature = text(block, "signature").to_owned();
                Block::Thinking { text: text(block, "thinking").to_owned(), signature }
            }
            "redacted_thinking" => Block::Redacted(text(block, "data").to_owned()),
            "tool_use" => Block::Tool {
                id: text(block, "id").to_owned(),
                name: text(block, "name").to_owned(),
                given: block["input"].clone(),
                streamed: String::new(),
            },
            _ => Block::Other,
        };
        self.open.insert(index, opened);
    }

    fn delta(&mut self, index: u64, delta: &Value, out: &mut Output) {
        let block = self.open.get_mut(&index);
        match (text(delta, "type"), block) {
            ("text_delta", _) => out.text(text(delta, "text")),
            ("citations_delta", _) => cite(&delta["citation"], out),
            ("thinking_delta", block) => {
                out.reasoning(text(delta, "thinking"));
                if let Some(Block::Thinking { text: thought, .. }) = block {
                    thought.push_str(text(delta, "thinking"));
                }
            }
            ("signature_delta", Some(Block::Thinking { signature, .. })) => {
                out.grow();
                signature.push_str(text(delta, "signature"));
                self.held_bytes += text(delta, "signature").len();
            }
            ("input_json_delta", Some(Block::Tool { streamed, .. })) => {
                out.grow();
                streamed.push_str(text(delta, "partial_json"));
                self.held_bytes += text(delta, "partial_json").len();
            }
            ("input_json_delta", _) => out.grow(),
            _ => {}
        }
        if self.held_bytes > MOST_HELD {
            out.fail(crate::ProviderError::of(crate::ErrorKind::ResponseTooLarge));
        }
    }

    fn stop(&mut self, index: u64) {
        match self.open.remove(&index) {
            Some(Block::Thinking { text, signature }) if !signature.is_empty() => {
                let opaque = json!({"type": "thinking", "signature": signature}).to_string();
                self.held.push(Part::Reasoning { text: text.into(), opaque: Some(opaque.into()) });
            }
            Some(Block::Redacted(data)) => {
                let opaque = json!({"type": "redacted_thinking", "data": data}).to_string();
                self.held.push(Part::Reasoning { text: String::new().into(), opaque: Some(opaque.into()) });
            }
            Some(Block::Tool { id, name, given, streamed }) => {
                let whole = || given.as_object().filter(|given| !given.is_empty()).map(|_| given.to_string());
                let arguments = if streamed.trim().is_empty() { whole().unwrap_or_default() } else { streamed };
                let call = ToolCall { call_id: id, name, arguments: arguments.into(), opaque: None };
                self.held.push(Part::ToolCall(call));
            }
            _ => {}
        }
    }

    fn stop_all(&mut self) {
        while let Some(index) = self.open.keys().next().copied() {
            self.stop(index);
        }
    }

    fn report(&mut self, reported: &Value, out: &mut Output) {
        let Some(reported) = reported.as_object() else { return };
        for (name, value) in reported {
            // Some hosts know the input at the beginning only, and write a zero at the end.
            let blank = value.is_null() || (name == "input_tokens" && value == 0);
            if !blank || !self.usage.contains_key(name) {
                self.usage.insert(name.clone(), value.clone());
            }
        }
        out.usage(usage(Value::Object(self.usage.clone())));
    }

    fn ended(message: &Value, out: &mut Output) {
        match text(message, "stop_reason") {
            "" => {}
            reason => out.finish(match FinishReason::from(reason) {
                FinishReason::StopSequence(_) => {
                    FinishReason::StopSequence(message["stop_sequence"].as_str().map(str::to_owned))
                }
                reason => reason,
            }),
        }
    }

    /// An answer that came whole, although a stream was asked for.
    fn whole(&mut self, message: &Value, out: &mut Output) {
        for (index, block) in message["content"].as_array().into_iter().flatten().enumerate() {
            self.start(index as u64, block, out);
        }
        self.report(&message["usage"], out);
        Self::ended(message, out);
        out.mark_done();
    }
}

fn cite(source: &Value, out: &mut Output) {
    let title = [text(source, "title"), text(source, "document_title")].into_iter().find(|title| !title.is_empty());
    let url = [text(source, "url"), text(source, "source")].into_iter().find(|url| !url.is_empty());
    out.cite(url.unwrap_or_default(), title.unwrap_or_default());
}

impl Dialect for Messages {
    fn event(&mut self, event: SseEvent<'_>, out: &mut Output) {
        if out.is_done() {
            return;
        }
        let Some(data) = out.parse::<Value>(event.data) else { return };
        let index = data["index"].as_u64();
        match data["type"].as_str().unwrap_or(event.event) {
            // Proxies repeat it.
            "message_start" => {
                out.understand();
                self.report(&data["message"]["usage"], out);
            }
            "content_block_start" => {
                let index = index.unwrap_or_else(|| self.open.keys().last().map_or(0, |last| last + 1));
                self.start(index, &data["content_block"], out);
            }
            "content_block_delta" => self.delta(index.unwrap_or(self.newest), &data["delta"], out),
            "content_block_stop" => self.stop(index.unwrap_or(self.newest)),
            "message_delta" => {
                Self::ended(&data["delta"], out);
                self.report(&data["usage"], out);
            }
            "message_stop" => out.mark_done(),
            "message" => self.whole(&data, out),
            "error" => out.fail_as_said(&data),
            // A host's error that isn't of this dialect.
            _ if data["error"].is_object() => out.fail_as_said(&data),
            _ => {}
        }
    }

    fn needs_end_marker(&self) -> bool {
        true
    }

    fn end(&mut self, complete: bool, out: &mut Output) {
        if !complete {
            return;
        }
        self.stop_all();
        out.release(std::mem::take(&mut self.held));
    }
}
