//! The read models as they were: the log up to a moment, folded by the very reducers that keep the tables.

use std::{collections::HashMap, str::FromStr};

use chrono::{DateTime, Utc};
use polyphony_domain::{
    ids::{AccountId, SessionId},
    record::StoredEvent,
};
use polyphony_eventstore::{Store, history::Happening};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    ProjectionError,
    message_thread::{
        MessagePage, MessageThread, Placed,
        query::{self, MessageQuery},
    },
    model::{self, RowModel},
    session_list::{SessionList, SessionRow},
    typed::{self, TypedEvent},
};

/// A moment in a session's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// After everything that had been recorded by then.
    Time(DateTime<Utc>),
    /// After the event at this place of the log.
    Position(i64),
}

/// A text is neither a time nor a position.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("neither an RFC 3339 time nor a position in the log")]
pub struct NoMoment;

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        if let Ok(position) = text.parse() {
            return Ok(Self::Position(position));
        }
        DateTime::parse_from_rfc3339(text).map(|time| Self::Time(time.to_utc())).map_err(|_| NoMoment)
    }
}

/// Something with a place in the log.
pub trait Occurred {
    /// When it was recorded, and its position.
    fn place(&self) -> (DateTime<Utc>, i64);
}

impl Occurred for StoredEvent {
    fn place(&self) -> (DateTime<Utc>, i64) {
        (self.recorded_at, self.cursor.position)
    }
}

impl Occurred for Happening {
    fn place(&self) -> (DateTime<Utc>, i64) {
        (self.at, self.position)
    }
}

impl Moment {
    /// How many of a session's events, which are in commit order, had happened by then. Times and positions are taken
    /// before a transaction commits, so neither is the order itself: what counts is the last event that fits.
    pub fn cut<E: Occurred>(self, events: &[E]) -> usize {
        let last = match self {
            Self::Time(time) => events.iter().rposition(|event| event.place().0 <= time),
            Self::Position(position) => events
                .iter()
                .position(|event| event.place().1 == position)
                .or_else(|| events.iter().rposition(|event| event.place().1 < position)),
        };
        last.map_or(0, |last| last + 1)
    }
}

/// Whether the last word on a session is that it was deleted.
fn is_deleted(events: &[StoredEvent]) -> bool {
    let last = events.iter().rev().find_map(|event| match event.event_type.as_str() {
        "session_deleted" | "session_erased" => Some(true),
        "session_restored" => Some(false),
        _ => None,
    });
    last.unwrap_or(false)
}

/// A session's events that a model wants, up to a moment. `None` where there is nothing to see: the session isn't the caller's, had not
/// been opened, was deleted then or is now.
async fn events_until<M: RowModel>(
    store: &Store,
    owner: AccountId,
    session: SessionId,
    at: Moment,
) -> Result<Option<Vec<TypedEvent>>, ProjectionError> {
    let mut events = store.events_of_root(session.as_uuid()).await?;
    if events.iter().any(|event| event.owner_id != owner) || is_deleted(&events) {
        return Ok(None);
    }
    events.truncate(at.cut(&events));
    if events.is_empty() || is_deleted(&events) {
        return Ok(None);
    }
    events.retain(M::wants);
    // What can't be read is parked by the projector, too: it never showed anywhere.
    Ok(Some(typed::read(store, events).await?.0))
}

fn rows<M: RowModel>(events: &[TypedEvent]) -> HashMap<Uuid, M::Row> {
    let mut rows = HashMap::new();
    model::reduce_all::<M>(&mut rows, events);
    rows
}

/// One session as it was.
pub(crate) async fn session(
    store: &Store,
    owner: AccountId,
    id: SessionId,
    at: Moment,
) -> Result<Option<SessionRow>, ProjectionError> {
    let events = events_until::<SessionList>(store, owner, id, at).await?;
    Ok(events.and_then(|events| rows::<SessionList>(&events).remove(&id.as_uuid())))
}

/// Some messages of a session as they were.
pub(crate) async fn messages(
    store: &Store,
    owner: AccountId,
    session: SessionId,
    page: MessageQuery,
    at: Moment,
) -> Result<Option<MessagePage>, ProjectionError> {
    let events = events_until::<MessageThread>(store, owner, session, at).await?;
    Ok(events.and_then(|events| query::of_rows(rows::<MessageThread>(&events), page)))
}

/// One message as it was.
pub(crate) async fn message(
    store: &Store,
    owner: AccountId,
    id: Uuid,
    at: Moment,
) -> Result<Option<Placed>, ProjectionError> {
    let place = store.place_of_message(id).await?.filter(|(_, whose)| *whose == owner);
    let Some((session, _)) = place else { return Ok(None) };
    let events = events_until::<MessageThread>(store, owner, session.into(), at).await?;
    Ok(events.and_then(|events| query::of_rows_one(rows::<MessageThread>(&events), id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_a_position() {
        assert_eq!("17".parse(), Ok(Moment::Position(17)));
        let time = DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
        assert_eq!("2023-11-14T22:13:20.123456Z".parse(), Ok(Moment::Time(time)));
        assert_eq!("2023-11-15T06:13:20.123456+08:00".parse(), Ok(Moment::Time(time)));
        for text in ["", "now", "2023-11-14", "1.5"] {
            assert_eq!(text.parse::<Moment>(), Err(NoMoment), "{text}");
        }
    }
}
