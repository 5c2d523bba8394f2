//! How the read models are, for `polyphony doctor`.

use std::time::Duration;

use polyphony_domain::record::Cursor;
use polyphony_eventstore::Store;
use sqlx::Row;

use crate::{ProjectionError, checkpoint, rebuild::NAMES, usage};

/// Most events that are counted.
const LIMIT: u32 = 100_000;
/// Longest wait for ClickHouse.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How one projection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelVitals {
    /// Its name.
    pub name: &'static str,
    /// Where it is.
    pub at: Cursor,
    /// Events that it has not seen, counted up to 100,000.
    pub behind: u64,
    /// Seconds since the oldest of them was recorded.
    pub behind_seconds: i64,
    /// Events that it could not apply.
    pub parked: i64,
}

/// How all projections are.
///
/// # Errors
/// [`ProjectionError`] when the database fails.
pub async fn models(store: &Store) -> Result<Vec<ModelVitals>, ProjectionError> {
    let mut found = Vec::with_capacity(NAMES.len());
    for name in NAMES {
        let at = checkpoint::load(store.pool(), name).await?.cursor;
        let behind = store.count_after(at, LIMIT).await?;
        let oldest = store.read_after(at, 1).await?.pop();
        let behind_seconds = oldest.map_or(0, |event| (chrono::Utc::now() - event.recorded_at).num_seconds());
        let parked = sqlx::query("SELECT count(*) FROM read.parked_events WHERE projection = $1")
            .bind(name)
            .fetch_one(store.pool())
            .await?
            .try_get(0)?;
        found.push(ModelVitals { name, at, behind, behind_seconds, parked });
    }
    Ok(found)
}

/// Version of ClickHouse, and whether the tables of the live facts are there.
///
/// # Errors
/// [`ProjectionError`] when it doesn't answer.
pub async fn analytics(store: &Store, client: &clickhouse::Client) -> Result<(String, bool), ProjectionError> {
    let epoch = checkpoint::load(store.pool(), usage::NAME).await?.epoch;
    let version = usage::within(TIMEOUT, client.query("SELECT version()").fetch_one::<String>()).await?;
    let sql = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = ?";
    let table = client.query(sql).bind(usage::table("usage_events", epoch)).fetch_one::<u64>();
    Ok((version, usage::within(TIMEOUT, table).await? == 1))
}
