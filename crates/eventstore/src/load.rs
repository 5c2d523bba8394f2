//! Loading: one aggregate, or everything under one session.

use std::collections::{BTreeMap, HashMap, HashSet};

use cqrs_es::{Aggregate, EventEnvelope};
use polyphony_domain::{
    branch::{Node, Tree},
    context::History,
    ids::{AccountId, AnswerId, SessionId, TurnId},
    record::{Cursor, StoredEvent},
    session::{Session, SessionEvent},
    turn::{Prompt, Turn, TurnEvent},
};
use serde_json::Value;
use sqlx::Row;
use uuid::Uuid;

use crate::{Store, StoreError, frame, sealing::Binding};

pub use frame::decode;

/// Whether a `prompt` is of a turn that is no conversation: only those name their purpose.
const HIDDEN: &str = "(prompt.payload #> '{prompt_posted,purpose}') IS NOT NULL";

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
    /// Where each message came into the log.
    pub first: HashMap<Uuid, Cursor>,
    /// Where a message was chosen last.
    pub chosen: HashMap<Uuid, Cursor>,
}

impl SessionLog {
    /// The tree of its messages.
    pub fn tree(&self) -> Tree {
        let node = |id: Uuid| Node {
            id,
            parent: None,
            standing: None,
            first: self.first.get(&id).copied().unwrap_or_default(),
            chosen: self.chosen.get(&id).copied(),
            is_deleted: self.session.aggregate.deleted.contains(&id),
            is_hidden: false,
        };
        let nodes = self.turns.iter().flat_map(|(turn_id, turn)| {
            let (turn, turn_id) = (&turn.aggregate, turn_id.as_uuid());
            let parent = turn.parent().map(|parent| parent.as_uuid());
            let prompt = Node { parent, is_hidden: !turn.is_conversation(), ..node(turn_id) };
            let answers = turn.answers.iter().map(move |(id, answer)| Node {
                parent: Some(turn_id),
                standing: Some(answer.standing()),
                ..node(id.as_uuid())
            });
            std::iter::once(prompt).chain(answers)
        });
        nodes.collect()
    }

    /// The turn that an answer belongs to.
    pub fn turn_of(&self, answer: AnswerId) -> Option<(TurnId, &Versioned<Turn>)> {
        self.turns.iter().find(|(_, turn)| turn.aggregate.answers.contains_key(&answer)).map(|(id, turn)| (*id, turn))
    }

    /// The session's turns and the ways through them.
    pub fn history(&self) -> History<'_> {
        History::new(&self.session.aggregate, self.turns.iter().map(|(id, turn)| (*id, &turn.aggregate)))
    }

    /// The turns from the root to `turn`, in order. A parent that isn't there ends the path.
    pub fn path_to(&self, turn: TurnId) -> Vec<(TurnId, &Turn)> {
        self.history().path_to(turn)
    }
}

fn fold<A: Aggregate>(into: &mut Versioned<A>, event: StoredEvent) -> Result<(), StoreError> {
    into.version = event.sequence;
    into.aggregate.apply(frame::decode::<A>(event)?);
    Ok(())
}

impl SessionLog {
    /// Applies the next event of the session.
    pub(crate) fn add(&mut self, event: StoredEvent) -> Result<(), StoreError> {
        let (cursor, id, sequence) = (event.cursor, event.aggregate_id, event.sequence);
        match event.aggregate_type.as_str() {
            Session::TYPE => {
                let event = frame::decode::<Session>(event)?;
                if let SessionEvent::BranchActivated { message_id } = &event {
                    self.chosen.insert(*message_id, cursor);
                }
                self.session.version = sequence;
                self.session.aggregate.apply(event);
            }
            Turn::TYPE => {
                let event = frame::decode::<Turn>(event)?;
                match &event {
                    TurnEvent::PromptPosted(_) => self.first.insert(id, cursor),
                    TurnEvent::AnswerRequested { answer_id, .. } => self.first.insert(answer_id.as_uuid(), cursor),
                    _ => None,
                };
                let turn = self.turns.entry(TurnId::new(id)).or_default();
                turn.version = sequence;
                turn.aggregate.apply(event);
            }
            _ => {}
        }
        Ok(())
    }
}

/// The turn that was posted last in a session's conversation.
#[derive(Clone, Debug)]
pub struct NewestTurn {
    /// The turn.
    pub turn_id: TurnId,
    /// Its state.
    pub turn: Turn,
    /// Whether the active branch ends in it: nothing else was added, chosen or deleted since.
    pub is_tip: bool,
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

    /// Folds a session as far as the answers of one of its turns need it: whole, unless the prompt brought the
    /// conversation with it. Then it needs nothing of a session that may be very long.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] for an event that this build doesn't know.
    pub async fn log_for(&self, id: SessionId, turn_id: TurnId) -> Result<SessionLog, StoreError> {
        let (aggregate, version) = self.load::<Turn>(turn_id.as_uuid()).await?;
        let is_whole = |prompt: &Prompt| prompt.given.is_some() && prompt.session_id == id && prompt.quote.is_none();
        if !aggregate.prompt.as_ref().is_some_and(is_whole) {
            return self.session_log(id).await;
        }
        let turns = BTreeMap::from([(turn_id, Versioned { aggregate, version })]);
        let (aggregate, version) = self.load::<Session>(id.as_uuid()).await?;
        Ok(SessionLog { session: Versioned { aggregate, version }, turns, ..SessionLog::default() })
    }

    /// A session, and the turn that was posted last in its conversation.
    ///
    /// What it costs doesn't grow with the conversation: it looks at the end of the session's log only.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] for an event that this build doesn't know.
    pub async fn newest_turn(&self, id: SessionId) -> Result<(Session, Option<NewestTurn>), StoreError> {
        // Commit order of the prompts, not their ids: those carry the clocks of different nodes.
        let sql = format!(
            "SELECT {columns} FROM events WHERE aggregate_type = 'session' AND aggregate_id = $1::uuid::text \
             UNION ALL SELECT {columns} FROM events WHERE aggregate_type = 'turn' AND aggregate_id = \
             (SELECT prompt.aggregate_id FROM events AS prompt WHERE prompt.root_id = $1 \
              AND prompt.event_type = 'prompt_posted' AND NOT {HIDDEN} \
              ORDER BY prompt.xid DESC, prompt.position DESC LIMIT 1) ORDER BY aggregate_type, sequence",
            columns = frame::COLUMNS
        );
        let rows = sqlx::query(&sql).bind(id.as_uuid()).fetch_all(&self.pool).await?;
        let (mut session, mut turn) = (Versioned::<Session>::default(), Versioned::<Turn>::default());
        let mut posted = None;
        for event in self.open(frame::stored(rows)?).await? {
            if event.aggregate_type == Session::TYPE {
                fold(&mut session, event)?;
            } else {
                posted = posted.or(Some((TurnId::new(event.aggregate_id), event.cursor)));
                fold(&mut turn, event)?;
            }
        }
        let Some((turn_id, posted)) = posted else { return Ok((session.aggregate, None)) };
        let is_tip = !self.touched_elsewhere(id, turn_id, posted).await?;
        Ok((session.aggregate, Some(NewestTurn { turn_id, turn: turn.aggregate, is_tip })))
    }

    /// Whether something happened in a session after `since` that may have led its active branch away from `turn`.
    async fn touched_elsewhere(&self, session: SessionId, turn: TurnId, since: Cursor) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT EXISTS (SELECT FROM events AS e WHERE e.root_id = $1 AND (e.xid, e.position) > ($2::xid8, $3) \
             AND (e.event_type IN ('branch_activated', 'message_deleted') \
              OR (e.event_type = 'answer_requested' AND e.aggregate_id <> $4 AND NOT EXISTS \
                  (SELECT FROM events AS prompt WHERE prompt.aggregate_type = 'turn' \
                   AND prompt.aggregate_id = e.aggregate_id AND prompt.sequence = 1 AND {HIDDEN}))))"
        );
        let row = sqlx::query(&sql)
            .bind(session.as_uuid())
            .bind(since.xid.to_string())
            .bind(since.position)
            .bind(turn.to_string())
            .fetch_one(&self.pool)
            .await?;
        Ok(row.try_get(0)?)
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
