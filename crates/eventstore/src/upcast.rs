//! Upcasters: how an event of an older version becomes one of the current version.
//!
//! Each is a function for one `(event_type, version)`; they run one after another until none fits, so a payload
//! that is three versions old passes through three of them. They work on opened payloads.

use cqrs_es::persist::{EventUpcaster, SemanticVersionEventUpcaster, SerializedEvent};

/// The upcasters of every event that has had more than one version.
fn upcasters() -> &'static [SemanticVersionEventUpcaster] {
    &[]
}

/// Brings an event up to its current version.
pub(crate) fn upcast(event: SerializedEvent) -> SerializedEvent {
    upcast_with(upcasters(), event)
}

fn upcast_with<U: EventUpcaster>(upcasters: &[U], event: SerializedEvent) -> SerializedEvent {
    upcasters.iter().fold(event, |event, upcaster| {
        if upcaster.can_upcast(&event.event_type, &event.event_version) { upcaster.upcast(event) } else { event }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn old() -> SerializedEvent {
        SerializedEvent::new(
            "id".into(),
            1,
            "thing".into(),
            "thing_named".into(),
            "1".into(),
            json!({"n": "x"}),
            json!({}),
        )
    }

    #[test]
    fn an_old_event_passes_through_each_version_in_turn() {
        let rename = |from: &'static str, to: &'static str| -> Box<dyn Fn(Value) -> Value + Send + Sync> {
            Box::new(move |mut payload| {
                let value = payload[from].take();
                json!({ to: value })
            })
        };
        let chain = [
            SemanticVersionEventUpcaster::new("thing_named", "2", rename("n", "name")),
            SemanticVersionEventUpcaster::new("thing_named", "3", rename("name", "title")),
        ];
        let event = upcast_with(&chain, old());
        assert_eq!((event.event_version.as_str(), event.payload), ("3.0.0", json!({"title": "x"})));
        assert_eq!(upcast(old()), old());
    }
}
