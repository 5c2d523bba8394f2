//! Reading the log in commit order.
//!
//! The pair `(xid, position)` below the snapshot's horizon is the only order in which nothing is ever missed: a
//! position is taken before its transaction commits, so a later position can become visible first.

use polyphony_domain::{
    ids::AccountId,
    record::{Cursor, StoredEvent},
};
use polyphony_platform::mutated;
use sqlx::Row;

use crate::{Store, StoreError, frame};

impl Store {
    /// The next events after `after`, at most `limit`, sealed as they stand. Empty means level with the horizon.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn read_after(&self, after: Cursor, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let sql = format!(
            "SELECT {} FROM events WHERE (xid, position) > ($1::xid8, $2) \
             AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, position LIMIT $3",
            frame::COLUMNS
        );
        let sql = if mutated!("position_only") { by_position() } else { sql };
        let rows = sqlx::query(&sql)
            .bind(after.xid.to_string())
            .bind(after.position)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        frame::stored(rows)
    }

    /// The newest place in commit order that a reader may have reached.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn head(&self) -> Result<Cursor, StoreError> {
        let row = sqlx::query(
            "SELECT xid::text AS xid_text, position FROM events WHERE xid < pg_snapshot_xmin(pg_current_snapshot()) \
             ORDER BY xid DESC, position DESC LIMIT 1",
        )
        .fetch_optional(&self.pool)
        .await?;
        cursor(row)
    }

    /// The newest committed event of an account: what its next read must show.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn newest_of_owner(&self, owner: AccountId) -> Result<Cursor, StoreError> {
        let row = sqlx::query(
            "SELECT xid::text AS xid_text, position FROM events WHERE owner_id = $1 ORDER BY xid DESC, position DESC LIMIT 1",
        )
        .bind(owner.as_uuid())
        .fetch_optional(&self.pool)
        .await?;
        cursor(row)
    }

    /// An account's committed events after `after`, sealed, in commit order.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn read_owner_after(&self, owner: AccountId, after: Cursor) -> Result<Vec<StoredEvent>, StoreError> {
        let sql = format!(
            "SELECT {} FROM events WHERE owner_id = $1 AND (xid, position) > ($2::xid8, $3) ORDER BY xid, position",
            frame::COLUMNS
        );
        let rows = sqlx::query(&sql)
            .bind(owner.as_uuid())
            .bind(after.xid.to_string())
            .bind(after.position)
            .fetch_all(&self.pool)
            .await?;
        frame::stored(rows)
    }

    /// Seconds since the oldest transaction began that holds the horizon back; 0 when none does.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn horizon_age_seconds(&self) -> Result<f64, StoreError> {
        let row = sqlx::query(
            "SELECT coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)), 0)::float8 \
             FROM pg_stat_activity WHERE backend_xid IS NOT NULL",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(row.try_get::<f64, _>(0)?.max(0.0))
    }

    /// How many events lie between `after` and the newest, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn count_after(&self, after: Cursor, limit: u32) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) FROM (SELECT FROM events WHERE (xid, position) > ($1::xid8, $2) LIMIT $3) AS later",
        )
        .bind(after.xid.to_string())
        .bind(after.position)
        .bind(i64::from(limit))
        .fetch_one(&self.pool)
        .await?;
        Ok(u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0))
    }
}

/// The mistake of a reader that takes positions for the order of commits.
fn by_position() -> String {
    format!(
        "SELECT {} FROM events WHERE $1::xid8 IS NOT NULL AND position > $2 ORDER BY position LIMIT $3",
        frame::COLUMNS
    )
}

fn cursor(row: Option<sqlx::postgres::PgRow>) -> Result<Cursor, StoreError> {
    let Some(row) = row else { return Ok(Cursor::default()) };
    let xid: String = row.try_get(0)?;
    Ok(Cursor { xid: xid.parse().map_err(|_| sqlx::Error::Decode("xid".into()))?, position: row.try_get(1)? })
}
