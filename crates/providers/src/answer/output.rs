//! What has been read of one answer so far: its events, and how it ended.

use std::collections::HashSet;

use polyphony_domain::content::{Citation, Part, ToolCall};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Deserializer, Value};
use uuid::Uuid;

use crate::{AdapterEvent, ErrorKind, FinishReason, ProviderError, Usage};

/// What a read made of its bytes, in order.
pub type Events = Vec<Result<AdapterEvent, ProviderError>>;

/// Most sources that one answer may name.
const MOST_CITATIONS: usize = 256;

/// The answer, being collected.
#[derive(Default)]
pub(crate) struct Output {
    pub(super) events: Events,
    pub(super) finish: Option<FinishReason>,
    /// The end marker was read.
    pub(super) done: bool,
    /// An error was given out: nothing after it counts.
    pub(super) failed: bool,
    /// The bytes have ended.
    pub(super) ended: bool,
    /// Something came that makes no event yet.
    pub(super) progress: bool,
    /// Something came that this dialect knows.
    pub(super) understood: bool,
    citations: Vec<Citation>,
    /// Ids of the calls so far.
    call_ids: HashSet<String>,
}

impl Output {
    /// Adds text. Neighbouring pieces of one read come out as one event: what arrived together is shown together.
    pub(crate) fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if let Some(Ok(AdapterEvent::Text(last))) = self.events.last_mut() {
            last.push_str(text);
        } else {
            self.events.push(Ok(AdapterEvent::Text(text.to_owned())));
        }
    }

    /// Adds reasoning, likewise.
    pub(crate) fn reasoning(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if let Some(Ok(AdapterEvent::Reasoning(last))) = self.events.last_mut() {
            last.push_str(text);
        } else {
            self.events.push(Ok(AdapterEvent::Reasoning(text.to_owned())));
        }
    }

    /// Adds a part that is neither.
    pub(crate) fn part(&mut self, part: Part) {
        self.events.push(Ok(AdapterEvent::Part(part)));
    }

    /// Adds a call of a tool; no arguments mean an empty object. Some providers leave the id out, others repeat it: the
    /// call gets one of its own then, so that its result can name it.
    pub(crate) fn tool_call(&mut self, mut call: ToolCall) {
        if call.arguments.as_str().trim().is_empty() {
            call.arguments = "{}".into();
        }
        if call.call_id.is_empty() || self.call_ids.contains(&call.call_id) {
            call.call_id = format!("call_{}", Uuid::now_v7().simple());
        }
        self.call_ids.insert(call.call_id.clone());
        self.part(Part::ToolCall(call));
    }

    /// Adds what was held back until the answer is complete. Where it calls tools, a mere stop means that.
    pub(crate) fn release(&mut self, held: Vec<Part>) {
        let calls = held.iter().any(|part| matches!(part, Part::ToolCall(_)));
        if calls && self.finish.as_ref().is_some_and(FinishReason::is_stop) {
            self.finish = Some(FinishReason::ToolCalls);
        }
        for part in held {
            match part {
                Part::ToolCall(call) => self.tool_call(call),
                other => self.part(other),
            }
        }
    }

    /// Adds a refusal; nothing for an empty one.
    pub(crate) fn refusal(&mut self, text: String) {
        if !text.is_empty() {
            self.part(Part::Refusal { text: text.into() });
        }
    }

    /// Notes a source. Providers repeat them; they are given out once, at the end.
    pub(crate) fn cite(&mut self, url: &str, title: &str) {
        let known = |seen: &Citation| {
            seen.url.as_str() == url
                && (!url.is_empty() || seen.title.as_ref().is_some_and(|seen| seen.as_str() == title))
        };
        let says_nothing = url.is_empty() && title.is_empty();
        if says_nothing || self.citations.len() == MOST_CITATIONS || self.citations.iter().any(known) {
            return;
        }
        let title = Some(title).filter(|title| !title.is_empty()).map(Into::into);
        self.citations.push(Citation { url: url.into(), title });
    }

    /// Gives the sources out.
    pub(super) fn release_citations(&mut self) {
        let citations = std::mem::take(&mut self.citations);
        self.events.extend(citations.into_iter().map(|it| Ok(AdapterEvent::Part(Part::Citation(it)))));
    }

    pub(crate) fn usage(&mut self, usage: Option<Usage>) {
        self.events.extend(usage.map(AdapterEvent::Usage).map(Ok));
    }

    /// Notes why the model ended.
    pub(crate) fn finish(&mut self, reason: FinishReason) {
        self.finish = Some(reason);
    }

    /// Why the model ended, as far as is known.
    pub(crate) const fn finished(&self) -> Option<&FinishReason> {
        self.finish.as_ref()
    }

    /// The end marker was read.
    pub(crate) const fn mark_done(&mut self) {
        self.done = true;
        self.understood = true;
    }

    /// Whether the end marker was read.
    pub(crate) const fn is_done(&self) -> bool {
        self.done
    }

    /// Something of this dialect came.
    pub(crate) const fn understand(&mut self) {
        self.understood = true;
    }

    /// The answer grew, without an event of its own.
    pub(crate) const fn grow(&mut self) {
        self.understood = true;
        self.progress = true;
    }

    /// Ends the answer with an error; the first one counts.
    pub(crate) fn fail(&mut self, error: ProviderError) {
        if !std::mem::replace(&mut self.failed, true) {
            self.events.push(Err(error));
        }
    }

    /// Ends the answer with what the provider said about its failure.
    pub(crate) fn fail_as_said(&mut self, error: &Value) {
        self.fail(ProviderError::described(None, error));
    }

    /// The events so far.
    #[cfg(test)]
    pub(crate) fn take(&mut self) -> Events {
        std::mem::take(&mut self.events)
    }

    /// Reads an event's JSON. `None` for what is no object (pings come in costumes of their own), and for an event that
    /// the connection's end cut: not its garbling but the end is what went wrong.
    pub(crate) fn parse<'a, T: Deserialize<'a>>(&mut self, data: &'a str) -> Option<T> {
        let data = data.trim();
        if !data.starts_with('{') {
            return None;
        }
        match serde_json::from_str(data) {
            Ok(object) => Some(object),
            Err(_) if self.done || (self.ended && is_cut(data)) => None,
            Err(_) => {
                // Within an answer that was understood so far, bytes were lost on the way; else it's another language.
                let kind = if self.understood { ErrorKind::Interrupted } else { ErrorKind::Protocol };
                self.fail(ProviderError::of(kind));
                None
            }
        }
    }
}

/// Whether a text is the beginning of a JSON value, for telling a cut event from a garbled one.
fn is_cut(text: &str) -> bool {
    let mut values = Deserializer::from_str(text).into_iter::<IgnoredAny>();
    values.next().is_some_and(|value| value.is_err_and(|error| error.is_eof()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_an_id_of_its_own() {
        let mut out = Output::default();
        for id in ["a", "", "a", "", "b"] {
            out.tool_call(ToolCall { call_id: id.to_owned(), ..ToolCall::default() });
        }
        let ids = out.take().into_iter().map(|event| match event.unwrap() {
            AdapterEvent::Part(Part::ToolCall(call)) => call.call_id,
            other => panic!("{other:?}"),
        });
        let ids: Vec<String> = ids.collect();
        let distinct: HashSet<&String> = ids.iter().collect();
        assert_eq!((ids[0].as_str(), ids[4].as_str(), distinct.len()), ("a", "b", 5));
        assert!(ids.iter().all(|id| !id.is_empty()));
    }
}
