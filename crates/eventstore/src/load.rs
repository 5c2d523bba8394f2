//! Loading: one aggregate, or everything under one session.

use std::collections::{BTreeMap, HashMap, HashSet};

use cqrs_es::{Aggregate, EventEnvelope};
use polyphony_domain::{
    ids::{AccountId, AnswerId, SessionId, TurnId},
    record::StoredEvent,
    session::Session,
    turn::Turn,
};
use serde_json::Value;
use sqlx::Row;
use uuid::Uuid;

use crate::{Store, StoreError, frame, sealing::Binding};

pub use frame::decode;

/// Where an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerPlace {
    /// The answer.
    pub answer_id: AnswerId,
    /// Its turn.
    pub turn_id: TurnId,
    /// Its session.
    pub session_id: SessionId,
    /// Whose.
    pub owner_id: AccountId,
}

/// An aggregate with the sequence of its last event.
#[derive(Clone, Debug, Default)]
pub struct Versioned<A> {
    /// The aggregate.
    pub aggregate: A,
    /// Sequence of its last event; 0 when there is none.
    pub version: u64,
}

/// A session with all its turns, folded from the log.
#[derive(Clone, Debug, Default)]
pub struct SessionLog {
    /// The session.
    pub session: Versioned<Session>,
    /// Its turns (ids are UUIDv7, so about in order of time).
    pub turns: BTreeMap<TurnId, Versioned<Turn>>,
}

impl SessionLog {
    /// The turn that an answer belongs to.
    pub fn turn_of(&self, answer: AnswerId) -> Option<(TurnId, &Versioned<Turn>)> {
        self.turns.iter().find(|(_, turn)| turn.aggregate.answers.contains_key(&answer)).map(|(id, turn)| (*id, turn))
    }

    /// The turns from the root to `turn`, in order. A parent that isn't there ends the path.
    pub fn path_to(&self, turn: TurnId) -> Vec<(TurnId, &Turn)> {
        let owners: HashMap<AnswerId, TurnId> = self
            .turns
            .iter()
            .flat_map(|(id, turn)| turn.aggregate.answers.keys().map(|answer| (*answer, *id)))
            .collect();
        let (mut path, mut seen, mut next) = (Vec::new(), HashSet::new(), Some(turn));
        while let Some(id) = next.filter(|id| seen.insert(*id)) {
            let Some(turn) = self.turns.get(&id) else { break };
            path.push((id, &turn.aggregate));
            next = turn.aggregate.parent().and_then(|answer| owners.get(&answer).copied());
        }
        path.reverse();
        path
    }
}

fn fold<A: Aggregate>(into: &mut Versioned<A>, event: StoredEvent) -> Result<(), StoreError> {
    into.version = event.sequence;
    into.aggregate.apply(frame::decode::<A>(event)?);
    Ok(())
}

impl Store {
    /// Opens the personal fields of events; those whose key is gone become tombstones.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when a field was changed, [`StoreError::NoDataKey`] when a root has no key at all.
    pub async fn open(&self, mut events: Vec<StoredEvent>) -> Result<Vec<StoredEvent>, StoreError> {
        let roots: HashSet<Uuid> = events.iter().map(|event| event.root_id).collect();
        let keys = self.data_keys(&roots.into_iter().collect::<Vec<_>>()).await?;
        for event in &mut events {
            let key = keys.get(&event.root_id).ok_or(StoreError::NoDataKey)?.as_deref();
            let binding = Binding {
                event_id: event.event_id,
                aggregate_type: &event.aggregate_type,
                aggregate_id: event.aggregate_id,
                sequence: event.sequence,
                event_type: &event.event_type,
            };
            binding.open_payload(key, &mut event.payload)?;
            if let Value::Object(metadata) = &mut event.metadata {
                binding.open_metadata(key, metadata)?;
            }
        }
        Ok(events)
    }

    pub(crate) async fn select(&self, condition: &str, id: impl Into<Id>) -> Result<Vec<StoredEvent>, StoreError> {
        let sql = format!("SELECT {} FROM events WHERE {condition}", frame::COLUMNS);
        let query = sqlx::query(&sql);
        let query = match id.into() {
            Id::Text(text) => query.bind(text),
            Id::Uuid(id) => query.bind(id),
        };
        frame::stored(query.fetch_all(&self.pool).await?)
    }

    async fn aggregate_events<A: Aggregate>(&self, id: &str) -> Result<Vec<StoredEvent>, StoreError> {
        let condition = format!("aggregate_type = '{}' AND aggregate_id = $1 ORDER BY sequence", A::TYPE);
        self.open(self.select(&condition, id.to_owned()).await?).await
    }

    pub(crate) async fn envelopes<A: Aggregate>(&self, id: &str) -> Result<Vec<EventEnvelope<A>>, StoreError> {
        let events = self.aggregate_events::<A>(id).await?;
        events
            .into_iter()
            .map(|event| {
                let aggregate_id = event.aggregate_id.to_string();
                let sequence = usize::try_from(event.sequence).unwrap_or(usize::MAX);
                let metadata = serde_json::from_value(event.metadata.clone())?;
                Ok(EventEnvelope { aggregate_id, sequence, payload: frame::decode::<A>(event)?, metadata })
            })
            .collect()
    }

    /// Folds one aggregate; version 0 when there is none.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] for an event that this build doesn't know.
    pub async fn load<A: Aggregate>(&self, id: Uuid) -> Result<(A, u64), StoreError> {
        let mut loaded = Versioned { aggregate: A::default(), version: 0 };
        for event in self.aggregate_events::<A>(&id.to_string()).await? {
            fold(&mut loaded, event)?;
        }
        Ok((loaded.aggregate, loaded.version))
    }

    /// Folds a session and its turns.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] for an event that this build doesn't know.
    pub async fn session_log(&self, session: SessionId) -> Result<SessionLog, StoreError> {
        let events = self.events_of_root(session.as_uuid()).await?;
        let mut log = SessionLog::default();
        for event in self.open(events).await? {
            match event.aggregate_type.as_str() {
                Session::TYPE => fold(&mut log.session, event)?,
                Turn::TYPE => fold(log.turns.entry(TurnId::new(event.aggregate_id)).or_default(), event)?,
                _ => {}
            }
        }
        Ok(log)
    }

    /// The turn that was posted last in a session.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] for an event that this build doesn't know.
    pub async fn newest_turn(&self, session: SessionId) -> Result<Option<(TurnId, Versioned<Turn>)>, StoreError> {
        // Commit order of the prompts, not their ids: those carry the clocks of different nodes.
        let condition = "aggregate_type = 'turn' AND aggregate_id = \
             (SELECT aggregate_id FROM events WHERE root_id = $1 AND event_type = 'prompt_posted' \
              ORDER BY xid DESC, position DESC LIMIT 1) ORDER BY sequence";
        let events = self.open(self.select(condition, session.as_uuid()).await?).await?;
        let Some(id) = events.first().map(|event| TurnId::new(event.aggregate_id)) else { return Ok(None) };
        let mut turn = Versioned::default();
        for event in events {
            fold(&mut turn, event)?;
        }
        Ok(Some((id, turn)))
    }

    /// Where an answer is; `None` for an id that never was one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn answer(&self, answer: AnswerId) -> Result<Option<AnswerPlace>, StoreError> {
        let row = sqlx::query("SELECT turn_id, session_id, owner_id FROM ops.answers WHERE answer_id = $1")
            .bind(answer.as_uuid())
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(AnswerPlace {
            answer_id: answer,
            turn_id: TurnId::new(row.try_get(0)?),
            session_id: SessionId::new(row.try_get(1)?),
            owner_id: AccountId::new(row.try_get(2)?),
        }))
    }
}

/// What a condition on the log is about.
pub(crate) enum Id {
    Text(String),
    Uuid(Uuid),
}

impl From<String> for Id {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Uuid> for Id {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}
