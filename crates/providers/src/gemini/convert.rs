//! From Gemini's chunks to events. They come as server-sent events, or as the elements of one JSON array. A finish reason is
//! the only end marker there is.

use polyphony_domain::content::{Part, ToolCall};
use serde_json::{Value, json};

use super::{partial_args::Arguments, usage::usage};
use crate::{
    ErrorKind, FinishReason, ProviderError,
    answer::{Dialect, Output},
    sse::SseEvent,
};

/// Most parts that are kept until the answer is complete, and most bytes of their texts.
const MOST_HELD: usize = 1_024;
const MOST_BYTES: usize = 8 << 20;

/// One answer of Gemini.
#[derive(Default)]
pub(crate) struct Chunks {
    /// A call whose arguments still come.
    open: Option<(ToolCall, Arguments)>,
    /// Complete, and given out when the answer is.
    held: Vec<Part>,
    held_bytes: usize,
}

impl Chunks {
    fn chunk(&mut self, chunk: &Value, out: &mut Output) {
        let candidates = chunk["candidates"].as_array();
        if candidates.is_some() || chunk["promptFeedback"].is_object() || chunk["usageMetadata"].is_object() {
            out.understand();
        }
        // A second candidate is an alternative that nobody asked for.
        let first = candidates.into_iter().flatten().find(|it| it["index"].as_u64().unwrap_or(0) == 0);
        if let Some(candidate) = first {
            self.candidate(candidate, out);
        }
        out.usage(usage(chunk["usageMetadata"].clone()));
        let blocked = chunk["promptFeedback"]["blockReason"].as_str().is_some_and(|reason| !reason.is_empty());
        if blocked && first.is_none() {
            out.fail(ProviderError::of(ErrorKind::ContentFilter));
        }
    }

    fn candidate(&mut self, candidate: &Value, out: &mut Output) {
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            self.part(part, out);
        }
        for source in candidate["groundingMetadata"]["groundingChunks"].as_array().into_iter().flatten() {
            let found = ["web", "retrievedContext", "maps"].into_iter().find_map(|name| source.get(name));
            found.into_iter().for_each(|found| cite(found, out));
        }
        for name in ["citations", "citationSources"] {
            let sources = candidate["citationMetadata"][name].as_array();
            sources.into_iter().flatten().for_each(|source| cite(source, out));
        }
        match candidate["finishReason"].as_str().unwrap_or_default() {
            "" | "FINISH_REASON_UNSPECIFIED" => {}
            reason => out.finish(FinishReason::from(reason)),
        }
        if self.held.len() > MOST_HELD || self.held_bytes > MOST_BYTES {
            out.fail(ProviderError::of(ErrorKind::ResponseTooLarge));
        }
    }

    fn part(&mut self, part: &Value, out: &mut Output) {
        let signature = part["thoughtSignature"].as_str().filter(|signature| !signature.is_empty());
        let opaque = signature.map(Into::into);
        self.held_bytes += signature.map_or(0, str::len);
        if part["functionCall"].is_object() {
            out.grow();
            return self.call(&part["functionCall"], opaque);
        }
        let text = part["text"].as_str().unwrap_or_default();
        if part["thought"] == true {
            out.reasoning(text);
        } else {
            // Pictures and what the provider runs itself have no place in the answer.
            out.text(text);
        }
        if opaque.is_some() {
            self.held.push(Part::Reasoning { text: String::new().into(), opaque });
        }
    }

    /// A call comes at once, or opens with its name, goes on with `partialArgs`, and closes with an empty object.
    fn call(&mut self, call: &Value, opaque: Option<polyphony_domain::personal::Personal>) {
        let name = call["name"].as_str().unwrap_or_default();
        if !name.is_empty() {
            self.close();
            let call_id = call["id"].as_str().unwrap_or_default().to_owned();
            let opened = ToolCall { call_id, name: name.to_owned(), arguments: String::new().into(), opaque };
            self.open = Some((opened, Arguments::new(&call["args"])));
        }
        if let Some((_, arguments)) = &mut self.open {
            for partial in call["partialArgs"].as_array().into_iter().flatten() {
                self.held_bytes += partial["stringValue"].as_str().map_or(1, str::len);
                arguments.add(partial);
            }
        }
        if call["willContinue"] != json!(true) {
            self.close();
        }
    }

    fn close(&mut self) {
        if let Some((mut call, arguments)) = self.open.take() {
            call.arguments = arguments.into_json().into();
            self.held.push(Part::ToolCall(call));
        }
    }
}

fn cite(source: &Value, out: &mut Output) {
    let text = |name: &str| source[name].as_str().unwrap_or_default();
    out.cite(text("uri"), text("title"));
}

impl Dialect for Chunks {
    fn event(&mut self, event: SseEvent<'_>, out: &mut Output) {
        let Some(chunk) = out.parse::<Value>(event.data) else { return };
        if chunk["error"].is_object() {
            return out.fail_as_said(&chunk);
        }
        // Vertex wraps its chunks when they come through some gateways.
        let chunk = if chunk["response"].is_object() { &chunk["response"] } else { &chunk };
        self.chunk(chunk, out);
    }

    fn needs_end_marker(&self) -> bool {
        false
    }

    fn end(&mut self, complete: bool, out: &mut Output) {
        if !complete {
            return;
        }
        self.close();
        out.release(std::mem::take(&mut self.held));
    }
}
