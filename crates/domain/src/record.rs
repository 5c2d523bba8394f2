//! The stored form of an event and its place in commit order.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::ids::{AccountId, EventId};

/// A place in commit order: every event up to and including `(xid, position)`.
///
/// Neither part alone is an order: positions are taken before commit, and one transaction has many of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cursor {
    /// Transaction id (`xid8`) that wrote the event.
    pub xid: u64,
    /// Value of the global sequence.
    pub position: i64,
}

/// One row of the event log, as it stands there: personal fields are sealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// The event's own id.
    pub event_id: EventId,
    /// Place in commit order.
    pub cursor: Cursor,
    /// `Aggregate::TYPE`.
    pub aggregate_type: String,
    /// Id of the aggregate.
    pub aggregate_id: Uuid,
    /// 1, 2, 3 … within the aggregate.
    pub sequence: u64,
    /// Stored event type, snake case.
    pub event_type: String,
    /// Version of the payload's shape.
    pub event_version: String,
    /// Session or account whose data key seals the personal fields.
    pub root_id: Uuid,
    /// Account that the event belongs to.
    pub owner_id: AccountId,
    /// Time of the transaction, by the database's clock.
    pub recorded_at: DateTime<Utc>,
    /// The event as JSON.
    pub payload: Value,
    /// Actor, correlation, causation, request id, address, agent and trace.
    pub metadata: Value,
}
