//! The projection of usage: batches whose boundaries are stored before ClickHouse sees them.
//!
//! ClickHouse has no transaction with Postgres, but it drops a block that it has seen under the same token. So a
//! batch that may have been sent must be sent again as it was: the same events, in the same order, under the same
//! token. `read.usage_batches` keeps where it ends until the checkpoint has moved past it.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use cqrs_es::Aggregate;
use polyphony_domain::{
    record::{Cursor, StoredEvent},
    turn::Turn,
};
use polyphony_eventstore::Store;
use sqlx::{PgConnection, PgPool, Row};

use super::{
    fact::{self, Fact},
    schema,
};
use crate::{
    ProjectionError,
    checkpoint::{self, Checkpoint},
    runner::{Deps, Projection},
    typed::{self, Poison, is_of_sessions},
};

/// Name of the checkpoint, frozen for ever.
pub(crate) const NAME: &str = "usage_v1";
/// Shortest time between two batches: every insert is a part on disk that has to be merged.
const LINGER: Duration = Duration::from_millis(200);
/// Events read at a time where a batch is read again.
const READ: u32 = 1_000;
/// No epoch has its tables ensured.
const NONE: i64 = -1;

/// The projection.
pub(crate) struct UsageFacts {
    /// The epoch whose tables are known to be there.
    ensured: AtomicI64,
}

impl Default for UsageFacts {
    fn default() -> Self {
        Self { ensured: AtomicI64::new(NONE) }
    }
}

/// Whether an event can hold a fact: whether it ends an attempt.
pub(crate) fn wants(event: &StoredEvent) -> bool {
    event.aggregate_type == Turn::TYPE
        && is_of_sessions(event, &["prompt_posted", "answer_requested", "attempt_started", "stop_requested"])
}

/// The token of a batch.
pub(crate) fn token(from: Checkpoint, to: Cursor) -> String {
    format!("{}:{}.{}:{}.{}", from.epoch, from.cursor.xid, from.cursor.position, to.xid, to.position)
}

/// Where a batch that begins at the checkpoint was said to end, if anybody has begun to send it.
async fn begun(pool: &PgPool, from: Checkpoint) -> Result<Option<Cursor>, ProjectionError> {
    let row = sqlx::query(
        "SELECT to_xid::text AS xid_text, to_position FROM read.usage_batches \
         WHERE epoch = $1 AND from_xid = $2::xid8 AND from_position = $3",
    )
    .bind(from.epoch)
    .bind(from.cursor.xid.to_string())
    .bind(from.cursor.position)
    .fetch_optional(pool)
    .await?;
    row.map(|row| Ok(checkpoint::cursor(row.try_get(0)?, row.try_get(1)?)?)).transpose()
}

/// Stores where a batch that begins at the checkpoint ends, or says where it was said to end before.
///
/// The lock on the checkpoint is what makes this safe: without it, a projector that is late could store another end
/// for a batch that is already counted and whose row is gone.
pub(crate) async fn boundary(pool: &PgPool, from: Checkpoint, to: Cursor) -> Result<Cursor, ProjectionError> {
    let made = sqlx::query(
        "INSERT INTO read.usage_batches (epoch, from_xid, from_position, to_xid, to_position) \
         SELECT epoch, xid, position, $5::xid8, $6 FROM read.checkpoints \
         WHERE name = $1 AND epoch = $2 AND xid = $3::xid8 AND position = $4 FOR SHARE \
         ON CONFLICT DO NOTHING",
    )
    .bind(NAME)
    .bind(from.epoch)
    .bind(from.cursor.xid.to_string())
    .bind(from.cursor.position)
    .bind(to.xid.to_string())
    .bind(to.position)
    .execute(pool)
    .await?;
    if made.rows_affected() == 1 {
        return Ok(to);
    }
    // Either there is an end already, or the checkpoint has moved.
    begun(pool, from).await?.ok_or(ProjectionError::Fenced)
}

/// A batch of facts on its way.
struct Batch {
    /// The place in the log that it ends at.
    to: Cursor,
    facts: Vec<Fact>,
    /// Whether its boundary is stored, so that it may have been sent.
    is_begun: bool,
    /// Events of a batch that was begun which can't be read any more.
    poison: Vec<Poison>,
}

impl Batch {
    /// The batch that ends with `events`, or the one that has been begun at the same place.
    async fn begin(store: &Store, from: Checkpoint, events: Vec<StoredEvent>) -> Result<Self, ProjectionError> {
        if let Some(to) = begun(store.pool(), from).await? {
            return Self::again(store, from, to).await;
        }
        let last = events.last().map_or(from.cursor, |event| event.cursor);
        let events = events.into_iter().filter(wants).collect();
        let facts: Vec<Fact> = typed::read_all(store, events).await?.iter().filter_map(Fact::of).collect();
        if facts.is_empty() {
            // There's nothing that could be sent twice.
            return Ok(Self { to: last, facts, is_begun: false, poison: vec![] });
        }
        let to = boundary(store.pool(), from, last).await?;
        if to == last {
            Ok(Self { to, facts, is_begun: true, poison: vec![] })
        } else {
            Self::again(store, from, to).await
        }
    }

    /// A batch that was begun, read from the log once more.
    async fn again(store: &Store, from: Checkpoint, to: Cursor) -> Result<Self, ProjectionError> {
        let mut batch = Self { to, facts: vec![], is_begun: true, poison: vec![] };
        let mut at = from.cursor;
        while at < to {
            let mut events = store.read_after(at, READ).await?;
            events.retain(|event| event.cursor <= to);
            // Events that were once below the horizon stay there, so this would be another log.
            at = events.last().map(|event| event.cursor).ok_or(ProjectionError::Fenced)?;
            events.retain(wants);
            let (events, mut poison) = typed::read(store, events).await?;
            batch.facts.extend(events.iter().filter_map(Fact::of));
            batch.poison.append(&mut poison);
        }
        Ok(batch)
    }

    /// Moves the checkpoint past a batch that ClickHouse has.
    async fn finish(&self, connection: &mut PgConnection, from: Checkpoint) -> Result<(), ProjectionError> {
        checkpoint::advance(connection, NAME, from, self.to).await?;
        checkpoint::park(connection, NAME, &self.poison).await?;
        let done = sqlx::query(
            "DELETE FROM read.usage_batches WHERE epoch = $1 AND from_xid = $2::xid8 AND from_position = $3",
        )
        .bind(from.epoch)
        .bind(from.cursor.xid.to_string())
        .bind(from.cursor.position)
        .execute(connection)
        .await?;
        // Another projector is sending a longer batch from here, which has facts.
        if !self.is_begun && done.rows_affected() > 0 {
            return Err(ProjectionError::Fenced);
        }
        Ok(())
    }
}

impl Projection for UsageFacts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn linger(&self) -> Duration {
        LINGER
    }

    async fn prepare(&self, deps: &Deps, at: Checkpoint) -> Result<(), ProjectionError> {
        if self.ensured.load(Ordering::Relaxed) != at.epoch {
            schema::ensure(&deps.clickhouse, at.epoch).await?;
            self.ensured.store(at.epoch, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn apply(&self, deps: &Deps, from: Checkpoint, events: Vec<StoredEvent>) -> Result<Cursor, ProjectionError> {
        let batch = Batch::begin(&deps.store, from, events).await?;
        if let Err(error) = fact::insert(&deps.clickhouse, from.epoch, &token(from, batch.to), &batch.facts).await {
            // Perhaps it has lost its tables.
            self.ensured.store(NONE, Ordering::Relaxed);
            return Err(error);
        }
        let mut transaction = deps.store.begin().await?;
        batch.finish(&mut transaction, from).await?;
        transaction.commit().await?;
        Ok(batch.to)
    }

    async fn skip(&self, deps: &Deps, from: Checkpoint, event: Poison) -> Result<(), ProjectionError> {
        let batch = Batch { to: event.cursor, facts: vec![], is_begun: false, poison: vec![event] };
        let mut transaction = deps.store.begin().await?;
        batch.finish(&mut transaction, from).await?;
        Ok(transaction.commit().await?)
    }
}
