//! From the host's chat chunks to events.

use serde_json::{Value, json};

use super::{
    hosts::Quirks,
    think::ThinkTags,
    tools::Tools,
    usage::usage,
    wire::{Choice, Chunk, Delta, Loose, ToolFragment, tidy},
};
use crate::{
    ErrorKind, FinishReason, ProviderError,
    answer::{Dialect, Output},
    sse::SseEvent,
};

/// One answer in the chat dialect.
pub(crate) struct Chat {
    tools: Tools,
    think: ThinkTags,
    /// A refusal is kept until it's whole.
    refusal: String,
    marked: bool,
}

impl Chat {
    /// For one answer of a host with these quirks.
    pub(crate) fn new(quirks: &Quirks) -> Self {
        Self {
            tools: Tools::default(),
            think: ThinkTags::new(quirks.think_tags),
            refusal: String::new(),
            marked: quirks.ends_with_done,
        }
    }

    fn take(&mut self, chunk: Chunk<'_>, out: &mut Output) {
        if out.is_done() {
            // Late usage still counts; late content would come after what everybody took for the end.
            out.usage(chunk.usage.and_then(usage));
        } else {
            self.chunk(chunk, out);
        }
    }

    fn chunk(&mut self, chunk: Chunk<'_>, out: &mut Output) {
        if chunk.choices.is_some() {
            out.understand();
        }
        let bare_error = chunk.choices.is_none()
            && chunk.usage.is_none()
            && (chunk.object.text() == "error" || !chunk.message.text().is_empty() || !chunk.detail.text().is_empty());
        // A second choice is an alternative that nobody asked for.
        let mut broken = None;
        for choice in chunk.choices.into_iter().flatten().filter(|choice| choice.index.number().unwrap_or(0) == 0) {
            broken = self.choice(choice, out).err().or(broken);
        }
        cite_all(chunk.citations.as_ref(), out);
        out.usage(chunk.usage.and_then(usage).or_else(|| chunk.x_groq?.usage.and_then(usage)));
        let said = |error: &Value| match error {
            Value::Null | Value::Bool(_) => false,
            Value::String(text) => !text.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            Value::Number(_) | Value::Array(_) => true,
        };
        if let Some(error) = chunk.error.filter(said) {
            out.fail_as_said(&error);
        } else if bare_error {
            let words = [&chunk.message, &chunk.detail].map(Loose::text).join(" ");
            out.fail_as_said(&json!({"message": words, "code": chunk.code.to_json(), "type": chunk.kind.to_json()}));
        } else if let Some(kind) = broken {
            out.fail(ProviderError::of(kind));
        }
    }

    /// # Errors
    /// The kind of a failure that the host wrote in the place of a finish reason, or of one that we see.
    fn choice(&mut self, choice: Choice<'_>, out: &mut Output) -> Result<(), ErrorKind> {
        let whole = choice.message.is_some();
        if let Some(delta) = choice.delta.or(choice.message) {
            self.delta(delta, out)?;
        }
        out.usage(choice.usage.and_then(usage));
        match choice.finish_reason.text() {
            "" | "null" if whole && out.finished().is_none() => out.finish(FinishReason::Stop),
            "" | "null" => {}
            "error" | "network_error" | "insufficient_system_resource" => return Err(ErrorKind::Overloaded),
            reason => {
                let stopped_by = [choice.stop_reason.text(), choice.matched_stop.text()];
                let stopped_by = stopped_by.into_iter().find(|text| !text.is_empty());
                out.finish(match (FinishReason::from(reason), stopped_by) {
                    (reason, Some(text)) if reason.is_stop() => FinishReason::StopSequence(Some(text.to_owned())),
                    (reason, _) => reason,
                });
            }
        }
        Ok(())
    }

    fn delta(&mut self, delta: Delta<'_>, out: &mut Output) -> Result<(), ErrorKind> {
        // Hosts that send both mean the same.
        let thoughts = [delta.reasoning_content.text(), delta.reasoning.text()];
        let thought = thoughts.into_iter().find(|text| !text.is_empty());
        match &delta.reasoning_details {
            Loose::Parts(details) if thought.is_none() => details.iter().for_each(|it| out.reasoning(it.text.text())),
            _ => out.reasoning(thought.unwrap_or_default()),
        }
        match &delta.content {
            Loose::Text(text) => self.think.text(text, out),
            Loose::Parts(parts) => {
                for part in parts {
                    match &part.thinking {
                        Loose::Parts(thoughts) => thoughts.iter().for_each(|it| out.reasoning(it.text.text())),
                        thought => out.reasoning(thought.text()),
                    }
                    self.think.text(part.text.text(), out);
                }
            }
            Loose::Nothing | Loose::Number(_) => {}
        }
        // What a speaking model says, in letters.
        self.think.text(delta.audio.as_ref().and_then(|audio| audio["transcript"].as_str()).unwrap_or_default(), out);
        self.refusal.push_str(delta.refusal.text());
        cite_all(delta.annotations.as_ref(), out);
        let old = delta.function_call.map(|function| ToolFragment {
            index: Loose::Number(0),
            id: Loose::Nothing,
            function: Some(function),
        });
        for fragment in delta.tool_calls.into_iter().flatten().chain(old) {
            out.grow();
            self.tools.fragment(fragment).map_err(|_| ErrorKind::ResponseTooLarge)?;
        }
        Ok(())
    }
}

impl Dialect for Chat {
    fn event(&mut self, event: SseEvent<'_>, out: &mut Output) {
        // A field of a strange form must not cost the rest of the chunk; that's rare, so it's looked at second.
        if !event.data.starts_with('{') {
            return;
        }
        let tidied = match serde_json::from_str(event.data) {
            Ok(chunk) => return self.take(chunk, out),
            Err(error) => Some(error).filter(serde_json::Error::is_data).and_then(|_| tidy(event.data)),
        };
        if let Some(chunk) = out.parse(tidied.as_deref().unwrap_or(event.data)) {
            self.take(chunk, out);
        }
    }

    fn needs_end_marker(&self) -> bool {
        self.marked
    }

    fn end(&mut self, complete: bool, out: &mut Output) {
        self.think.release(out);
        out.refusal(std::mem::take(&mut self.refusal));
        if complete && !self.tools.is_empty() {
            // Some hosts say "stop" after tool calls too.
            if out.finished().is_some_and(FinishReason::is_stop) {
                out.finish(FinishReason::ToolCalls);
            }
            self.tools.finish(out);
        }
    }
}

/// Sources: addresses (Perplexity, xAI) or OpenAI's `url_citation` objects.
fn cite_all(list: Option<&Value>, out: &mut Output) {
    for source in list.and_then(Value::as_array).into_iter().flatten() {
        let named = source.get("url_citation").unwrap_or(source);
        let text = |name: &str| named.get(name).and_then(Value::as_str).unwrap_or_default();
        out.cite(source.as_str().unwrap_or_else(|| text("url")), text("title"));
    }
}
