//! Rows of the log exactly as they are stored, as texts: what the audit chain is made of, and what the relay publishes.

use polyphony_audit_verify::event::LoggedEvent;
use polyphony_domain::{
    ids::{AccountId, EventId},
    record::{Cursor, StoredEvent},
};
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use crate::{Store, StoreError};

/// Every column as text. Names differ from the columns' where an order is asked for by them.
const COLUMNS: &str = "event_id::text AS id, xid::text AS xid_text, position, aggregate_type, aggregate_id, sequence, \
     event_type, event_version, root_id::text AS root, owner_id::text AS owner, \
     to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS recorded, \
     payload::text AS payload_text, metadata::text AS metadata_text";

fn logged(row: &PgRow) -> Result<LoggedEvent, StoreError> {
    let xid: String = row.try_get(1)?;
    Ok(LoggedEvent {
        event_id: row.try_get(0)?,
        xid: xid.parse().map_err(|_| sqlx::Error::Decode("xid".into()))?,
        position: row.try_get(2)?,
        aggregate_type: row.try_get(3)?,
        aggregate_id: row.try_get(4)?,
        sequence: row.try_get(5)?,
        event_type: row.try_get(6)?,
        event_version: row.try_get(7)?,
        root_id: row.try_get(8)?,
        owner_id: row.try_get(9)?,
        recorded_at: row.try_get(10)?,
        payload: row.try_get(11)?,
        metadata: row.try_get(12)?,
    })
}

/// The event as everyone else reads it.
///
/// # Errors
/// [`StoreError`] for a row that can't have been written by us.
pub fn stored(event: &LoggedEvent) -> Result<StoredEvent, StoreError> {
    let damaged = |what: &'static str| StoreError::Database(sqlx::Error::Decode(what.into()));
    let id = |text: &str, what| text.parse::<Uuid>().map_err(|_| damaged(what));
    Ok(StoredEvent {
        event_id: EventId::new(id(&event.event_id, "event_id")?),
        cursor: Cursor { xid: event.xid, position: event.position },
        aggregate_type: event.aggregate_type.clone(),
        aggregate_id: id(&event.aggregate_id, "aggregate_id")?,
        sequence: u64::try_from(event.sequence).map_err(|_| damaged("sequence"))?,
        event_type: event.event_type.clone(),
        event_version: event.event_version.clone(),
        root_id: id(&event.root_id, "root_id")?,
        owner_id: AccountId::new(id(&event.owner_id, "owner_id")?),
        recorded_at: event.recorded_at.parse().map_err(|_| damaged("recorded_at"))?,
        payload: serde_json::from_str(&event.payload)?,
        metadata: serde_json::from_str(&event.metadata)?,
    })
}

impl Store {
    /// The next events after `after`, at most `limit`; see [`Store::read_after`].
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn read_logged_after(&self, after: Cursor, limit: u32) -> Result<Vec<LoggedEvent>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM events WHERE (xid, position) > ($1::xid8, $2) \
             AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, position LIMIT $3"
        );
        let rows = sqlx::query(&sql)
            .bind(after.xid.to_string())
            .bind(after.position)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(logged).collect()
    }

    /// The events after one place and up to another, at most `limit`.
    pub(crate) async fn read_logged_between(
        &self,
        after: Cursor,
        to: Cursor,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM events WHERE (xid, position) > ($1::xid8, $2) \
             AND (xid, position) <= ($3::xid8, $4) ORDER BY xid, position LIMIT $5"
        );
        let rows = sqlx::query(&sql)
            .bind(after.xid.to_string())
            .bind(after.position)
            .bind(to.xid.to_string())
            .bind(to.position)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(logged).collect()
    }

    /// The events that a condition on `$1` is about.
    pub(crate) async fn logged(&self, condition: &str, id: String) -> Result<Vec<LoggedEvent>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM events WHERE {condition}");
        let rows = sqlx::query(&sql).bind(id).fetch_all(&self.pool).await?;
        rows.iter().map(logged).collect()
    }

    /// An event by its id. There is no index for it: people ask, not programs.
    pub(crate) async fn logged_event(&self, id: Uuid) -> Result<Option<LoggedEvent>, StoreError> {
        Ok(self.logged("event_id = $1::uuid", id.to_string()).await?.pop())
    }
}
