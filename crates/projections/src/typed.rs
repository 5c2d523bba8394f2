//! Events as the projections see them: opened, typed, with their place.

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use polyphony_domain::{
    ids::{AccountId, EventId},
    record::{Cursor, StoredEvent},
    session::{Session, SessionEvent},
    turn::{Turn, TurnEvent},
};
use polyphony_eventstore::{Store, StoreError, load::decode};
use uuid::Uuid;

/// What a projection cares about.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    Session(SessionEvent),
    Turn(Box<TurnEvent>),
    /// An event of another aggregate.
    Other,
}

/// An event with its place.
#[derive(Clone, Debug)]
pub(crate) struct TypedEvent {
    pub(crate) event_id: EventId,
    pub(crate) cursor: Cursor,
    pub(crate) aggregate_id: Uuid,
    pub(crate) root_id: Uuid,
    pub(crate) owner_id: AccountId,
    pub(crate) at: DateTime<Utc>,
    pub(crate) payload: Payload,
}

/// An event that can't be understood, and why.
#[derive(Clone, Debug)]
pub(crate) struct Poison {
    pub(crate) event_id: EventId,
    pub(crate) cursor: Cursor,
    pub(crate) error: String,
}

fn typed(event: StoredEvent) -> Result<TypedEvent, StoreError> {
    let (event_id, cursor, aggregate_id) = (event.event_id, event.cursor, event.aggregate_id);
    let (root_id, owner_id, at) = (event.root_id, event.owner_id, event.recorded_at);
    let payload = match event.aggregate_type.as_str() {
        Session::TYPE => Payload::Session(decode::<Session>(event)?),
        Turn::TYPE => Payload::Turn(Box::new(decode::<Turn>(event)?)),
        _ => Payload::Other,
    };
    Ok(TypedEvent { event_id, cursor, aggregate_id, root_id, owner_id, at, payload })
}

/// Opens and reads events. Those that can't be understood are set apart; only a failing database is an error.
pub(crate) async fn read(
    store: &Store,
    events: Vec<StoredEvent>,
) -> Result<(Vec<TypedEvent>, Vec<Poison>), StoreError> {
    let is_poison = |error: &StoreError| {
        matches!(
            error,
            StoreError::Unreadable { .. } | StoreError::Sealed | StoreError::NoDataKey | StoreError::Json(_)
        )
    };
    let (mut good, mut bad) = (Vec::with_capacity(events.len()), Vec::new());
    match store.open(events.clone()).await {
        Ok(opened) => {
            for event in opened {
                let (event_id, cursor) = (event.event_id, event.cursor);
                match typed(event) {
                    Ok(event) => good.push(event),
                    Err(error) => bad.push(Poison { event_id, cursor, error: error.to_string() }),
                }
            }
        }
        // One of them doesn't open: look at each alone.
        Err(error) if is_poison(&error) => {
            for event in events {
                let (event_id, cursor) = (event.event_id, event.cursor);
                let opened = match store.open(vec![event]).await {
                    Ok(mut opened) => opened.pop().map_or(Err(StoreError::Sealed), typed),
                    Err(error) if is_poison(&error) => Err(error),
                    Err(error) => return Err(error),
                };
                match opened {
                    Ok(event) => good.push(event),
                    Err(error) => bad.push(Poison { event_id, cursor, error: error.to_string() }),
                }
            }
        }
        Err(error) => return Err(error),
    }
    Ok((good, bad))
}
