//! Rows of the log and typed events: reading, opening and upcasting in one place.

use cqrs_es::{Aggregate, persist::SerializedEvent};
use polyphony_domain::{
    ids::{AccountId, EventId},
    record::{Cursor, StoredEvent},
};
use serde_json::Value;
use sqlx::{
    FromRow,
    postgres::PgRow,
    types::chrono::{DateTime, Utc},
};
use uuid::Uuid;

use crate::{StoreError, upcast};

/// The columns of [`Row`]. The transaction id goes by another name than its column: `ORDER BY` means an output
/// column first, and as text 999 comes after 1000.
pub(crate) const COLUMNS: &str = "aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, \
     position, xid::text AS xid_text, event_id, root_id, owner_id, recorded_at";

/// One row of the log.
#[derive(FromRow)]
pub(crate) struct Row {
    aggregate_type: String,
    aggregate_id: String,
    sequence: i64,
    event_type: String,
    event_version: String,
    payload: Value,
    metadata: Value,
    position: i64,
    xid_text: String,
    event_id: Uuid,
    root_id: Uuid,
    owner_id: Uuid,
    recorded_at: DateTime<Utc>,
}

impl TryFrom<Row> for StoredEvent {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let damaged = |what: &'static str| StoreError::Database(sqlx::Error::Decode(what.into()));
        Ok(Self {
            event_id: EventId::new(row.event_id),
            cursor: Cursor { xid: row.xid_text.parse().map_err(|_| damaged("xid"))?, position: row.position },
            aggregate_type: row.aggregate_type,
            aggregate_id: row.aggregate_id.parse().map_err(|_| damaged("aggregate_id"))?,
            sequence: u64::try_from(row.sequence).map_err(|_| damaged("sequence"))?,
            event_type: row.event_type,
            event_version: row.event_version,
            root_id: row.root_id,
            owner_id: AccountId::new(row.owner_id),
            recorded_at: row.recorded_at,
            payload: row.payload,
            metadata: row.metadata,
        })
    }
}

/// Reads rows as stored events.
pub(crate) fn stored(rows: Vec<PgRow>) -> Result<Vec<StoredEvent>, StoreError> {
    rows.iter().map(|row| StoredEvent::try_from(Row::from_row(row)?)).collect()
}

/// The typed event inside an opened one, brought up to the current version first.
///
/// # Errors
/// [`StoreError::Unreadable`] for a type or version that this build doesn't know.
pub fn decode<A: Aggregate>(event: StoredEvent) -> Result<A::Event, StoreError> {
    let position = event.cursor.position;
    let serialized = upcast::upcast(SerializedEvent::new(
        event.aggregate_id.to_string(),
        usize::try_from(event.sequence).unwrap_or(usize::MAX),
        event.aggregate_type,
        event.event_type,
        event.event_version,
        event.payload,
        event.metadata,
    ));
    let (event_type, event_version) = (serialized.event_type, serialized.event_version);
    serde_json::from_value(serialized.payload).map_err(|source| StoreError::Unreadable {
        event_type,
        event_version,
        position,
        source,
    })
}
