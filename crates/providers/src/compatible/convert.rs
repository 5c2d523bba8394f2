//! From the host's answer to events. Pure: bytes in, events out.
//!
//! What counts as the end: `[DONE]` together with a finish reason, or a finish reason before a clean end (many hosts
//! leave `[DONE]` out). An end without a finish reason is an interruption, however cleanly the connection closed. An
//! answer that came as one JSON object is its own end marker.

use serde_json::{Value, json};

use super::{
    output::{Events, push_reasoning},
    presets::Quirks,
    think::ThinkTags,
    tools::Tools,
    usage::usage,
    wire::{Choice, Chunk, Delta, Loose, ToolFragment, is_cut},
};
use crate::{
    AdapterEvent, ErrorKind, FinishReason, ProviderError,
    sse::{Decoder, SseEvent},
};

/// Most bytes of an answer that comes as JSON although a stream was asked for.
const LONGEST_JSON: usize = 8 << 20;

/// In which form the answer comes. Told by its first byte: content types lie.
enum Form {
    /// Nothing but blanks so far.
    Unknown,
    /// The stream that was asked for.
    Stream,
    /// One JSON object, or several, collected.
    Json(Vec<u8>),
}

/// Turns one answer into events.
pub struct Converter {
    form: Form,
    decoder: Decoder,
    tools: Tools,
    think: ThinkTags,
    finish: Option<FinishReason>,
    /// The end marker was read.
    done: bool,
    /// An error was given out: nothing after it counts.
    failed: bool,
    /// The bytes have ended.
    ended: bool,
    /// Something came that makes no event yet.
    progress: bool,
}

impl Converter {
    /// For one answer of a host with these quirks.
    pub fn new(quirks: Quirks) -> Self {
        Self {
            form: Form::Unknown,
            decoder: Decoder::default(),
            tools: Tools::default(),
            think: ThinkTags::new(quirks.think_tags),
            finish: None,
            done: false,
            failed: false,
            ended: false,
            progress: false,
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

    /// Whether the answer grew since the last call without making an event: by fragments of a tool call, or by JSON.
    pub fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    /// Takes bytes.
    pub fn feed(&mut self, bytes: &[u8], events: &mut Events) {
        if self.failed {
            return;
        }
        match &mut self.form {
            Form::Stream => {}
            Form::Json(body) => {
                body.extend_from_slice(bytes);
                self.progress = true;
                if body.len() > LONGEST_JSON {
                    self.fail(ProviderError::of(ErrorKind::ResponseTooLarge), events);
                }
                return;
            }
            Form::Unknown => match bytes.trim_ascii_start().first() {
                None => {}
                Some(b'{' | b'[') => {
                    self.form = Form::Json(Vec::new());
                    return self.feed(bytes, events);
                }
                // A gateway's page with a good conscience and a status of 200.
                Some(b'<') => return self.fail(ProviderError::of(ErrorKind::Protocol), events),
                Some(_) => self.form = Form::Stream,
            },
        }
        // Leading blanks go through as well: they are empty lines.
        let mut decoder = std::mem::take(&mut self.decoder);
        let fed = decoder.feed(bytes, &mut |event| self.event(event, events));
        self.decoder = decoder;
        if fed.is_err() && !self.failed {
            self.fail(ProviderError::of(ErrorKind::ResponseTooLarge), events);
        }
    }

    /// The bytes have ended, or what follows the end marker isn't waited for any longer.
    pub fn finish(&mut self, events: &mut Events) {
        if self.failed || std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let Form::Json(body) = &mut self.form {
            let body = std::mem::take(body);
            self.json(&body, events);
        }
        let mut decoder = std::mem::take(&mut self.decoder);
        decoder.finish(&mut |event| self.event(event, events));
        if self.failed {
            return;
        }
        self.think.release(events);
        match self.finish.take() {
            // Some hosts say "stop" after tool calls too.
            Some(FinishReason::Stop) if !self.tools.is_empty() => {
                self.tools.finish(events);
                events.push(Ok(AdapterEvent::Finish(FinishReason::ToolCalls)));
            }
            Some(reason) => {
                self.tools.finish(events);
                events.push(Ok(AdapterEvent::Finish(reason)));
            }
            // Calls that may lack their last fragments are nobody's to act on.
            None => events.push(Err(ProviderError::of(ErrorKind::Interrupted))),
        }
    }

    /// Takes an answer that came as JSON: an error, one whole answer, or a chunk per line.
    fn json(&mut self, body: &[u8], events: &mut Events) {
        if body.trim_ascii_start().starts_with(b"[") {
            let error = serde_json::from_slice(body).unwrap_or_default();
            return self.fail(ProviderError::described(None, &error), events);
        }
        for chunk in serde_json::Deserializer::from_slice(body).into_iter::<Chunk<'_>>() {
            match chunk {
                Ok(chunk) => self.chunk(chunk, events),
                Err(error) if error.is_eof() => return,
                Err(_) => return self.fail(ProviderError::of(ErrorKind::Protocol), events),
            }
        }
    }

    /// Something outside has ended the answer.
    pub fn abort(&mut self, kind: ErrorKind, events: &mut Events) {
        self.fail(ProviderError::of(kind), events);
    }

    fn fail(&mut self, error: ProviderError, events: &mut Events) {
        if !std::mem::replace(&mut self.failed, true) {
            self.think.release(events);
            events.push(Err(error));
        }
    }

    fn event(&mut self, event: SseEvent<'_>, events: &mut Events) {
        if self.failed {
            return;
        }
        let data = event.data.trim();
        if data == "[DONE]" {
            self.done = true;
        } else if event.event == "error" && !self.done {
            let error = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
            self.fail(ProviderError::described(None, &error), events);
        } else if data.starts_with('{') {
            match serde_json::from_str::<Chunk<'_>>(data) {
                Ok(chunk) if self.done => {
                    // Late usage still counts; late content would come after what everybody took for the end.
                    events.extend(chunk.usage.and_then(usage).map(AdapterEvent::Usage).map(Ok));
                }
                Ok(chunk) => self.chunk(chunk, events),
                // The connection closed within this event: not its garbling but its end is what went wrong.
                Err(_) if self.done || (self.ended && is_cut(data)) => {}
                Err(_) => self.fail(ProviderError::of(ErrorKind::Protocol), events),
            }
        }
        // Anything else is a ping in a costume of its own.
    }

    fn chunk(&mut self, chunk: Chunk<'_>, events: &mut Events) {
        let bare_error = chunk.choices.is_none()
            && chunk.usage.is_none()
            && (chunk.object.text() == "error" || !chunk.message.text().is_empty() || !chunk.detail.text().is_empty());
        // A second choice is an alternative that nobody asked for.
        let mut broken = None;
        for choice in chunk.choices.into_iter().flatten().filter(|choice| choice.index.number().unwrap_or(0) == 0) {
            broken = self.choice(choice, events).err().or(broken);
        }
        let reported = chunk.usage.and_then(usage).or_else(|| chunk.x_groq?.usage.and_then(usage));
        events.extend(reported.map(AdapterEvent::Usage).map(Ok));
        let said = |error: &Value| match error {
            Value::Null | Value::Bool(_) => false,
            Value::String(text) => !text.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            Value::Number(_) | Value::Array(_) => true,
        };
        let error = if let Some(error) = chunk.error.filter(said) {
            Some(ProviderError::described(None, &error))
        } else if bare_error {
            let words = [&chunk.message, &chunk.detail].map(Loose::text).join(" ");
            let error = json!({"message": words, "code": chunk.code.to_json(), "type": chunk.kind.to_json()});
            Some(ProviderError::described(None, &error))
        } else {
            broken.map(ProviderError::of)
        };
        if let Some(error) = error {
            self.fail(error, events);
        }
    }

    /// # Errors
    /// The kind of a failure that the host wrote in the place of a finish reason, or of one that we see.
    fn choice(&mut self, choice: Choice<'_>, events: &mut Events) -> Result<(), ErrorKind> {
        let whole = choice.message.is_some();
        if let Some(delta) = choice.delta.or(choice.message) {
            self.delta(delta, events)?;
        }
        events.extend(choice.usage.and_then(usage).map(AdapterEvent::Usage).map(Ok));
        match choice.finish_reason.text() {
            "" | "null" if whole => self.finish = self.finish.take().or(Some(FinishReason::Stop)),
            "" | "null" => {}
            "error" | "network_error" | "insufficient_system_resource" => return Err(ErrorKind::Overloaded),
            reason => self.finish = Some(FinishReason::from(reason)),
        }
        Ok(())
    }

    fn delta(&mut self, delta: Delta<'_>, events: &mut Events) -> Result<(), ErrorKind> {
        // Hosts that send both mean the same.
        let thoughts = [delta.reasoning_content.text(), delta.reasoning.text()];
        push_reasoning(thoughts.into_iter().find(|text| !text.is_empty()).unwrap_or_default(), events);
        match &delta.content {
            Loose::Text(text) => self.think.text(text, events),
            Loose::Parts(parts) => {
                for part in parts {
                    match &part.thinking {
                        Loose::Parts(thoughts) => thoughts.iter().for_each(|it| push_reasoning(it.text.text(), events)),
                        thought => push_reasoning(thought.text(), events),
                    }
                    self.think.text(part.text.text(), events);
                }
            }
            Loose::Nothing | Loose::Number(_) => {}
        }
        // A refusal is what the model has to say.
        self.think.text(delta.refusal.text(), events);
        let old = delta.function_call.map(|function| ToolFragment {
            index: Loose::Number(0),
            id: Loose::Nothing,
            function: Some(function),
        });
        for fragment in delta.tool_calls.into_iter().flatten().chain(old) {
            self.progress = true;
            self.tools.fragment(fragment).map_err(|_| ErrorKind::ResponseTooLarge)?;
        }
        Ok(())
    }
}
