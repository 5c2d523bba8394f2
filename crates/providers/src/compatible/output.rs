//! The events of one answer, being collected.

use crate::{AdapterEvent, ProviderError};

/// What a read made of its bytes, in order.
pub type Events = Vec<Result<AdapterEvent, ProviderError>>;

/// Adds text. Neighbouring pieces of one read come out as one event: what arrived together is shown together.
pub(super) fn push_text(text: &str, events: &mut Events) {
    if text.is_empty() {
        return;
    }
    if let Some(Ok(AdapterEvent::Text(last))) = events.last_mut() {
        last.push_str(text);
    } else {
        events.push(Ok(AdapterEvent::Text(text.to_owned())));
    }
}

/// Adds reasoning, likewise.
pub(super) fn push_reasoning(text: &str, events: &mut Events) {
    if text.is_empty() {
        return;
    }
    if let Some(Ok(AdapterEvent::Reasoning(last))) = events.last_mut() {
        last.push_str(text);
    } else {
        events.push(Ok(AdapterEvent::Reasoning(text.to_owned())));
    }
}
