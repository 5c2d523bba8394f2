//! Events as the projections see them: opened, typed, with their place.

use std::collections::HashSet;

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

use crate::ProjectionError;

/// What a projection cares about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Payload {
    Session(SessionEvent),
    Turn(Box<TurnEvent>),
    /// The account that owns it was erased.
    AccountErased,
    /// An event of another aggregate.
    Other,
}

/// An event with its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TypedEvent {
    pub(crate) event_id: EventId,
    pub(crate) cursor: Cursor,
    pub(crate) aggregate_id: Uuid,
    pub(crate) root_id: Uuid,
    pub(crate) owner_id: AccountId,
    pub(crate) at: DateTime<Utc>,
    /// Whether its data key has been destroyed: it makes no row any more.
    pub(crate) is_erased: bool,
    pub(crate) payload: Payload,
}

/// What an erasure takes out of every table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purge {
    Session(Uuid),
    Owner(AccountId),
}

impl TypedEvent {
    /// What has to go with this event.
    pub(crate) const fn purge(&self) -> Option<Purge> {
        match self.payload {
            Payload::Session(SessionEvent::SessionErased {}) => Some(Purge::Session(self.root_id)),
            Payload::AccountErased => Some(Purge::Owner(self.owner_id)),
            _ => None,
        }
    }
}

/// An event that can't be understood, and why.
#[derive(Clone, Debug)]
pub(crate) struct Poison {
    pub(crate) event_id: EventId,
    pub(crate) cursor: Cursor,
    pub(crate) error: String,
}

impl From<Poison> for ProjectionError {
    fn from(poison: Poison) -> Self {
        Self::Unreadable { position: poison.cursor.position, reason: poison.error }
    }
}

/// Whether an event says that something was erased.
pub(crate) fn is_erasure(event: &StoredEvent) -> bool {
    ["session_erased", ACCOUNT_ERASED].contains(&event.event_type.as_str())
}

/// Stored type of the event that ends an account.
const ACCOUNT_ERASED: &str = "account_erased";

/// Whether an event belongs to a session or a turn and is none of `unused`. Opening an event costs a decryption, so
/// a projection says what it has no use for; a type that nobody knows is looked at, and found unreadable.
pub(crate) fn is_of_sessions(event: &StoredEvent, unused: &[&str]) -> bool {
    [Session::TYPE, Turn::TYPE].contains(&event.aggregate_type.as_str()) && !unused.contains(&event.event_type.as_str())
}

fn typed(event: StoredEvent, is_erased: bool) -> Result<TypedEvent, StoreError> {
    let (event_id, cursor, aggregate_id) = (event.event_id, event.cursor, event.aggregate_id);
    let (root_id, owner_id, at) = (event.root_id, event.owner_id, event.recorded_at);
    let payload = match event.aggregate_type.as_str() {
        Session::TYPE => Payload::Session(decode::<Session>(event)?),
        Turn::TYPE => Payload::Turn(Box::new(decode::<Turn>(event)?)),
        _ if event.event_type == ACCOUNT_ERASED => Payload::AccountErased,
        _ => Payload::Other,
    };
    Ok(TypedEvent { event_id, cursor, aggregate_id, root_id, owner_id, at, is_erased, payload })
}

/// Whether the event is to blame. Its source says why it can't be read, which the error itself does not.
fn reason(error: &StoreError) -> Option<String> {
    match error {
        StoreError::Unreadable { source, .. } => Some(format!("{error}: {source}")),
        StoreError::Sealed | StoreError::NoDataKey | StoreError::Json(_) => Some(error.to_string()),
        _ => None,
    }
}

/// Opens and reads events. Those that can't be understood are set apart.
///
/// # Errors
/// The database's, and that of a key ring which doesn't open the data keys: that would make poison of the whole log.
pub(crate) async fn read(
    store: &Store,
    events: Vec<StoredEvent>,
) -> Result<(Vec<TypedEvent>, Vec<Poison>), StoreError> {
    // A key that is still in memory must not open what has been erased.
    for erasure in events.iter().filter(|event| is_erasure(event)) {
        store.forget_keys(erasure.root_id);
    }
    let roots: HashSet<Uuid> = events.iter().map(|event| event.root_id).collect();
    let keys = store.data_keys(&roots.into_iter().collect::<Vec<_>>()).await?;
    let erased: HashSet<Uuid> = keys.into_iter().filter(|(_, key)| key.is_none()).map(|(root, _)| root).collect();
    let (mut good, mut bad) = (Vec::with_capacity(events.len()), Vec::new());
    // One that doesn't open spoils them all; then each is looked at alone.
    let mut whole = match store.open(events.clone()).await {
        Ok(opened) => Some(opened.into_iter()),
        Err(error) if reason(&error).is_some() => None,
        Err(error) => return Err(error),
    };
    for event in events {
        let (event_id, cursor, is_erased) = (event.event_id, event.cursor, erased.contains(&event.root_id));
        let opened = match &mut whole {
            Some(opened) => opened.next().ok_or(StoreError::Sealed),
            None => store.open(vec![event]).await.and_then(|mut opened| opened.pop().ok_or(StoreError::Sealed)),
        };
        match opened.and_then(|event| typed(event, is_erased)) {
            Ok(event) => good.push(event),
            Err(error) => match reason(&error) {
                Some(error) => bad.push(Poison { event_id, cursor, error }),
                None => return Err(error),
            },
        }
    }
    Ok((good, bad))
}

/// Opens and reads events, all of them.
///
/// # Errors
/// [`ProjectionError::Unreadable`] for the first that can't be understood; see also [`read`].
pub(crate) async fn read_all(store: &Store, events: Vec<StoredEvent>) -> Result<Vec<TypedEvent>, ProjectionError> {
    let (events, poison) = read(store, events).await?;
    poison.into_iter().next().map_or(Ok(events), |poison| Err(poison.into()))
}
