//! How the database is: what a start refuses, and what `polyphony doctor` looks at.

use std::time::Instant;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, Row};

use crate::{Store, StoreError, store::MIGRATIONS};

/// Settings that must not be off: with them off a commit that was answered may be gone after a crash.
const DURABILITY: [&str; 3] = ["fsync", "synchronous_commit", "full_page_writes"];

/// What the database says of itself and of the write side.
#[derive(Clone, Debug, PartialEq)]
pub struct Vitals {
    /// For example `18.1`.
    pub version: String,
    /// The same as a number, for example 180001.
    pub version_number: i32,
    /// Durability settings that are off.
    pub unsafe_settings: Vec<String>,
    /// Sessions of other programs that have been idle in a transaction for more than a minute. Ours are ended before.
    pub idle_in_transaction: i64,
    /// Seconds that the oldest writing transaction has held the log's horizon back.
    pub horizon_age_seconds: f64,
    /// How far the database's clock is before ours, in milliseconds, give or take half a round trip.
    pub clock_ahead_ms: i64,
    /// Whole months that have a partition of their own, from the current one on.
    pub months_ahead: i32,
    /// Events in the partition for ids that fit no month.
    pub in_default_partition: i64,
    /// Answers that nobody has worked on for five minutes.
    pub stuck_runs: i64,
    /// Versions of the key ring in use, with the number of data keys.
    pub kek_versions: Vec<(i32, i64)>,
    /// Migrations of this program that the database has not seen.
    pub pending_migrations: u64,
    /// Deleted sessions that should have been erased an hour ago.
    pub overdue_erasures: i64,
    /// Connections in use, and how many there may be.
    pub connections: (i64, i64),
}

impl Store {
    /// Durability settings that are off.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn unsafe_settings(&self) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("SELECT name FROM pg_settings WHERE name = ANY($1) AND setting = 'off' ORDER BY name")
            .bind(DURABILITY.map(str::to_owned).to_vec())
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Looks at everything; `undo_seconds` is how long a deleted session can be restored.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn vitals(&self, undo_seconds: u64) -> Result<Vitals, StoreError> {
        let asked = Instant::now();
        let now: DateTime<Utc> = sqlx::query("SELECT clock_timestamp()").fetch_one(&self.pool).await?.try_get(0)?;
        let half = chrono::Duration::from_std(asked.elapsed() / 2).unwrap_or_default();
        let clock_ahead_ms = (now - (Utc::now() - half)).num_milliseconds();
        let row = sqlx::query(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::integer, \
             (SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' \
              AND state_change < now() - interval '1 minute'), \
             (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), \
             current_setting('max_connections')::bigint, \
             (SELECT count(*) FROM events_default), \
             (SELECT count(*) FROM ops.runs WHERE requested_at < now() - interval '5 minutes' \
              AND (lease_until IS NULL OR lease_until < now() - interval '5 minutes')), \
             (SELECT count(*) FROM ops.deleted_sessions \
              WHERE deleted_at < now() - make_interval(secs => $1) - interval '1 hour'), \
             (SELECT count(*)::integer FROM generate_series(0, 12) AS month WHERE to_regclass('public.events_' || \
              to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => month), 'YYYY_MM')) \
              IS NOT NULL)",
        )
        .bind(undo_seconds as f64)
        .fetch_one(&self.pool)
        .await?;
        let keks = "SELECT kek_version, count(*) FROM ops.data_keys WHERE wrapped IS NOT NULL GROUP BY 1 ORDER BY 1";
        let keks = sqlx::query(keks).fetch_all(&self.pool).await?;
        let done: i64 = sqlx::query("SELECT count(*) FROM _sqlx_migrations WHERE success")
            .fetch_one(&self.pool)
            .await?
            .try_get(0)?;
        Ok(Vitals {
            version: row.try_get(0)?,
            version_number: row.try_get(1)?,
            unsafe_settings: self.unsafe_settings().await?,
            idle_in_transaction: row.try_get(2)?,
            horizon_age_seconds: self.horizon_age_seconds().await?,
            clock_ahead_ms,
            months_ahead: row.try_get(8)?,
            in_default_partition: row.try_get(5)?,
            stuck_runs: row.try_get(6)?,
            kek_versions: keks
                .iter()
                .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                .collect::<Result<_, sqlx::Error>>()?,
            pending_migrations: (MIGRATIONS.iter().count() as u64).saturating_sub(done.unsigned_abs()),
            overdue_erasures: row.try_get(7)?,
            connections: (row.try_get(3)?, row.try_get(4)?),
        })
    }

    /// Writes every table anew that erased texts or keys may have been in, so that no dead row of them stays on the
    /// disk; says which. Each is locked while that lasts.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn scrub(&self) -> Result<Vec<String>, StoreError> {
        let mut connection = PgConnection::connect_with(&self.pool.connect_options()).await?;
        sqlx::query("SET statement_timeout = 0").execute(&mut connection).await?;
        let tables = "SELECT schemaname || '.' || quote_ident(tablename) FROM pg_tables \
             WHERE schemaname = 'read' OR (schemaname = 'ops' AND tablename NOT LIKE 'audit_%') ORDER BY 1";
        let rows = sqlx::query(tables).fetch_all(&mut connection).await?;
        let tables = rows.into_iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        for table in &tables {
            sqlx::query(&format!("VACUUM (FULL, ANALYZE) {table}")).execute(&mut connection).await?;
        }
        // Needs a right that the service's own role may lack; the next checkpoint comes by itself.
        if let Err(error) = sqlx::query("CHECKPOINT").execute(&mut connection).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "no checkpoint was made");
        }
        connection.close().await?;
        Ok(tables)
    }
}
