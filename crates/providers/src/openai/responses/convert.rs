//! From the events of the Responses dialect to ours. Unknown events and items are passed over; what the provider runs itself
//! (searches, code, MCP) is its own business.

use std::collections::BTreeMap;

use polyphony_domain::content::{Part, ToolCall};
use serde_json::{Value, json};

use super::usage::usage;
use crate::{
    ErrorKind, FinishReason, ProviderError,
    answer::{Dialect, Output},
    sse::SseEvent,
};

/// Most bytes of one answer's tool arguments.
const MOST_BYTES: usize = 4 << 20;
/// Most items of one answer.
const MOST_ITEMS: usize = 1_024;

/// One item of the answer, as far as it came.
#[derive(Default)]
struct Item {
    /// The item, of which the newest form counts.
    item: Value,
    /// Arguments that were streamed.
    arguments: String,
    /// Which of its texts were shown.
    said: bool,
    refused: bool,
    thought: bool,
}

/// One answer in the Responses dialect.
#[derive(Default)]
pub(crate) struct Responses {
    items: BTreeMap<u64, Item>,
    bytes: usize,
    refusal: String,
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of.get(name).and_then(Value::as_str).unwrap_or_default()
}

impl Responses {
    /// The item that an event is about: by its number, else by its id, else the newest.
    fn place(&self, event: &Value) -> u64 {
        let id = ["item_id", "id"].into_iter().map(|name| text(event, name)).find(|id| !id.is_empty());
        let by_id = || self.items.iter().find(|(_, it)| Some(text(&it.item, "id")) == id).map(|(index, _)| *index);
        let newest = || self.items.keys().last().copied().unwrap_or(0);
        event["output_index"].as_u64().or_else(by_id).unwrap_or_else(newest)
    }

    fn item(&mut self, event: &Value, out: &mut Output) -> &mut Item {
        let place = self.place(event);
        if self.items.len() > MOST_ITEMS {
            out.fail(ProviderError::of(ErrorKind::ResponseTooLarge));
        }
        self.items.entry(place).or_default()
    }

    fn delta(&mut self, kind: &str, event: &Value, out: &mut Output) {
        let delta = text(event, "delta");
        match kind {
            "response.output_text.delta" => {
                out.text(delta);
                self.item(event, out).said = true;
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                out.reasoning(delta);
                self.item(event, out).thought = true;
            }
            "response.refusal.delta" => {
                self.refusal.push_str(delta);
                self.item(event, out).refused = true;
            }
            "response.function_call_arguments.delta" => {
                self.bytes += delta.len();
                self.item(event, out).arguments.push_str(delta);
                if self.bytes > MOST_BYTES {
                    out.fail(ProviderError::of(ErrorKind::ResponseTooLarge));
                }
            }
            _ => {}
        }
        out.grow();
    }

    /// An item has begun.
    fn begin(&mut self, place: u64, item: &Value, out: &mut Output) {
        out.grow();
        self.items.entry(place).or_default().item = item.clone();
    }

    /// An item is complete: what was not streamed of it is given out.
    fn complete(&mut self, place: u64, item: &Value, out: &mut Output) {
        self.begin(place, item, out);
        let Some(known) = self.items.get_mut(&place) else { return };
        for part in item["content"].as_array().into_iter().flatten() {
            part["annotations"].as_array().into_iter().flatten().for_each(|source| cite(source, out));
            match text(part, "type") {
                "output_text" if !known.said => out.text(text(part, "text")),
                "refusal" if !known.refused => self.refusal.push_str(text(part, "refusal")),
                "reasoning_text" if !known.thought => out.reasoning(text(part, "text")),
                _ => {}
            }
        }
        if text(item, "type") == "reasoning" && !known.thought {
            item["summary"].as_array().into_iter().flatten().for_each(|part| out.reasoning(text(part, "text")));
        }
        (known.said, known.refused, known.thought) = (true, true, true);
    }

    /// The response as a whole, at its end.
    fn close(&mut self, response: &Value, out: &mut Output) {
        for (place, item) in response["output"].as_array().into_iter().flatten().enumerate() {
            // Numbers and ids may differ from those in the stream, so only what never came is taken from here.
            let id = text(item, "id");
            let seen = |known: &Item| text(&known.item, "id") == id && text(&known.item, "type") == text(item, "type");
            if !self.items.values().any(seen) && !self.items.contains_key(&(place as u64)) {
                self.complete(place as u64, item, out);
            }
        }
        out.usage(usage(response["usage"].clone()));
        let why = text(&response["incomplete_details"], "reason");
        match text(response, "status") {
            "failed" => out.fail_as_said(&response["error"]),
            "cancelled" => out.fail(ProviderError::of(ErrorKind::Interrupted)),
            _ if !why.is_empty() => out.finish(FinishReason::from(why)),
            "incomplete" => out.finish(FinishReason::Length),
            _ => out.finish(FinishReason::Stop),
        }
        out.mark_done();
    }
}

/// The parts that an item leaves besides what was shown.
fn part(item: Item) -> Option<Part> {
    let of = &item.item;
    match text(of, "type") {
        "function_call" => {
            let whole = text(of, "arguments");
            let arguments = if whole.trim().is_empty() { item.arguments } else { whole.to_owned() };
            let (call_id, name) = (text(of, "call_id").to_owned(), text(of, "name").to_owned());
            Some(Part::ToolCall(ToolCall { call_id, name, arguments: arguments.into(), opaque: None }))
        }
        "reasoning" => {
            let encrypted = Some(text(of, "encrypted_content")).filter(|encrypted| !encrypted.is_empty())?;
            let opaque = json!({"id": text(of, "id"), "encrypted_content": encrypted}).to_string();
            let summary: Vec<&str> = of["summary"].as_array()?.iter().map(|part| text(part, "text")).collect();
            Some(Part::Reasoning { text: summary.join("\n\n").into(), opaque: Some(opaque.into()) })
        }
        _ => None,
    }
}

fn cite(source: &Value, out: &mut Output) {
    let title = [text(source, "title"), text(source, "filename")].into_iter().find(|title| !title.is_empty());
    out.cite(text(source, "url"), title.unwrap_or_default());
}

impl Dialect for Responses {
    fn event(&mut self, event: SseEvent<'_>, out: &mut Output) {
        if out.is_done() {
            return;
        }
        let Some(data) = out.parse::<Value>(event.data) else { return };
        match data["type"].as_str().unwrap_or(event.event) {
            "response.created" | "response.in_progress" | "response.queued" => out.understand(),
            kind if kind.starts_with("response.") && kind.ends_with(".delta") => self.delta(kind, &data, out),
            "response.output_item.added" => {
                let next = self.items.keys().last().map_or(0, |last| last + 1);
                self.begin(data["output_index"].as_u64().unwrap_or(next), &data["item"], out);
            }
            "response.output_item.done" => {
                let place = data["output_index"].as_u64().unwrap_or_else(|| self.place(&data["item"]));
                self.complete(place, &data["item"], out);
            }
            "response.function_call_arguments.done" => {
                let whole = text(&data, "arguments").to_owned();
                let item = self.item(&data, out);
                if !whole.is_empty() {
                    item.arguments = whole;
                }
            }
            "response.output_text.annotation.added" => cite(&data["annotation"], out),
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
                self.close(&data["response"], out);
            }
            "error" => out.fail_as_said(&data),
            _ if data["object"] == "response" => self.close(&data, out),
            _ if data["error"].is_object() => out.fail_as_said(&data),
            _ => {}
        }
    }

    fn needs_end_marker(&self) -> bool {
        true
    }

    fn end(&mut self, complete: bool, out: &mut Output) {
        out.refusal(std::mem::take(&mut self.refusal));
        if !complete {
            return;
        }
        out.release(std::mem::take(&mut self.items).into_values().filter_map(part).collect());
    }
}
