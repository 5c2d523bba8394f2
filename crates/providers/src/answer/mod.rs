//! Reading an answer, whatever its dialect. Pure: bytes in, events out.
//!
//! What counts as the end: the provider's end marker. Where a dialect has none, or a host may leave it out, a finish
//! reason before the end of the bytes. Everything else is an interruption, however cleanly the connection closed.

mod json;
mod output;

use self::json::{Splitter, Unreadable};
pub use self::output::Events;
pub(crate) use self::output::Output;
use crate::{
    AdapterEvent, ErrorKind, ProviderError,
    sse::{Decoder, SseEvent},
};
use serde_json::Value;

/// What tells one dialect from another when an answer is read.
pub(crate) trait Dialect: Send {
    /// One event of the stream; also one object of an answer that came as bare JSON, with an empty name.
    fn event(&mut self, event: SseEvent<'_>, out: &mut Output);

    /// Whether a finish reason alone is no end.
    fn needs_end_marker(&self) -> bool;

    /// Nothing more comes. What was held back is given out, and calls of tools only if the answer is complete: those that
    /// may lack their last fragments are nobody's to act on.
    fn end(&mut self, complete: bool, out: &mut Output);
}

/// In which form the answer comes. Told by its first byte: content types lie.
enum Form {
    /// Nothing but blanks so far.
    Unknown,
    /// The stream that was asked for.
    Stream(Box<Decoder>),
    /// JSON without a frame.
    Json(Splitter),
}

/// Turns one answer into events.
pub struct Converter {
    form: Form,
    dialect: Box<dyn Dialect>,
    out: Output,
    /// Something came at all.
    heard: bool,
}

impl Converter {
    pub(crate) fn new(dialect: impl Dialect + 'static) -> Self {
        Self { form: Form::Unknown, dialect: Box::new(dialect), out: Output::default(), heard: false }
    }

    /// Whether the end marker was read.
    pub const fn is_done(&self) -> bool {
        self.out.done
    }

    /// Whether a finish reason was read, so that what follows is only the trailer.
    pub const fn is_finished(&self) -> bool {
        self.out.finish.is_some()
    }

    /// Whether the answer grew since the last call without making an event, for example by fragments of a tool call.
    pub fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.out.progress)
    }

    /// Takes bytes.
    pub fn feed(&mut self, bytes: &[u8], events: &mut Events) {
        std::mem::swap(&mut self.out.events, events);
        self.take(bytes);
        std::mem::swap(&mut self.out.events, events);
    }

    /// The bytes have ended, or what follows the end marker isn't waited for any longer.
    pub fn finish(&mut self, events: &mut Events) {
        std::mem::swap(&mut self.out.events, events);
        self.end();
        std::mem::swap(&mut self.out.events, events);
    }

    /// Something outside has ended the answer.
    pub fn abort(&mut self, kind: ErrorKind, events: &mut Events) {
        std::mem::swap(&mut self.out.events, events);
        self.fail(kind);
        std::mem::swap(&mut self.out.events, events);
    }

    fn fail(&mut self, kind: ErrorKind) {
        if !self.out.failed {
            self.dialect.end(false, &mut self.out);
            self.out.fail(ProviderError::of(kind));
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.out.failed {
            return;
        }
        if matches!(self.form, Form::Unknown) {
            match bytes.trim_ascii_start().first() {
                // Blanks are empty lines of a stream, and nothing in JSON.
                None => return,
                Some(b'{' | b'[') => self.form = Form::Json(Splitter::default()),
                // A gateway's page with a good conscience and a status of 200.
                Some(b'<') => return self.fail(ErrorKind::Protocol),
                Some(_) => self.form = Form::Stream(Box::default()),
            }
        }
        let (dialect, out, heard) = (&mut self.dialect, &mut self.out, &mut self.heard);
        let failed = match &mut self.form {
            Form::Unknown => None,
            Form::Stream(decoder) => {
                let fed = decoder.feed(bytes, &mut |event| read(dialect, event, out, heard));
                fed.err().map(|_| ErrorKind::ResponseTooLarge)
            }
            Form::Json(splitter) => {
                out.progress = true;
                let fed = splitter.feed(bytes, &mut |data| read(dialect, SseEvent { event: "", data }, out, heard));
                fed.err().map(|error| match error {
                    Unreadable::NoObject => ErrorKind::Protocol,
                    Unreadable::TooLarge => ErrorKind::ResponseTooLarge,
                })
            }
        };
        if let Some(kind) = failed {
            self.fail(kind);
        }
    }

    fn end(&mut self) {
        if self.out.failed || std::mem::replace(&mut self.out.ended, true) {
            return;
        }
        if let Form::Stream(decoder) = &mut self.form {
            let (dialect, out, heard) = (&mut self.dialect, &mut self.out, &mut self.heard);
            decoder.finish(&mut |event| read(dialect, event, out, heard));
        }
        if self.out.failed {
            return;
        }
        // A whole JSON value is its own end marker.
        let marked = self.out.done || matches!(self.form, Form::Json(_)) || !self.dialect.needs_end_marker();
        let complete = marked && self.out.finish.is_some();
        self.dialect.end(complete, &mut self.out);
        if self.out.failed {
            return;
        }
        match self.out.finish.take() {
            Some(reason) if complete => {
                self.out.release_citations();
                self.out.events.push(Ok(AdapterEvent::Finish(reason)));
            }
            // Not broken off, but another language, or none.
            _ if self.heard && !self.out.understood => self.out.fail(ProviderError::of(ErrorKind::Protocol)),
            _ => self.out.fail(ProviderError::of(ErrorKind::Interrupted)),
        }
    }
}

/// Reads one event.
fn read(dialect: &mut Box<dyn Dialect>, event: SseEvent<'_>, out: &mut Output, heard: &mut bool) {
    if out.failed {
        return;
    }
    // An event without its blank line may be a piece of one.
    *heard |= !out.ended;
    let data = event.data.trim();
    if data == "[DONE]" {
        // Everybody's end marker but Anthropic's and Gemini's, who never say it.
        out.mark_done();
    } else if event.event == "error" && !out.done {
        let error = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
        dialect.end(false, out);
        out.fail_as_said(&error);
    } else {
        dialect.event(SseEvent { event: event.event, data }, out);
        if out.failed {
            // What was held back belongs before the error.
            hold_before_error(dialect, out);
        }
    }
}

/// Gives out what the dialect holds back, and puts the error behind it.
fn hold_before_error(dialect: &mut Box<dyn Dialect>, out: &mut Output) {
    let error = out.events.pop();
    dialect.end(false, out);
    out.events.extend(error);
}
