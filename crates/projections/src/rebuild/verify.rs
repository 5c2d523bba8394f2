//! Comparing the live models with the log: built once more in scratch tables, up to where the live one is, row by row.
//!
//! The live side is read in one snapshot that only reads, so nothing waits for it, the horizon of the log included.

use std::{collections::BTreeSet, pin::pin};

use clickhouse::Client;
use futures::{Stream, TryStreamExt};
use polyphony_domain::record::Cursor;
use sqlx::{PgPool, Postgres, Row, Transaction};
use uuid::Uuid;

use super::{Replay, facts, rows as building};
use crate::{
    ProjectionError, checkpoint,
    model::{self, RowModel},
    usage::{self, Fact},
};

/// Ids that a verdict names.
const NAMED: usize = 10;
/// Most differences that are looked at one by one.
const LOOKED_AT: usize = 10_000;

/// What comparing a live model with the log has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Place in the log at which the two were compared.
    pub at: Cursor,
    /// Rows of the live model.
    pub live: u64,
    /// Rows that the log makes.
    pub rebuilt: u64,
    /// How many are missing, too many or different.
    pub differing: u64,
    /// What the first of them are.
    pub first: Vec<String>,
}

impl Verdict {
    /// Whether the live model is what the log makes.
    pub const fn is_equal(&self) -> bool {
        self.differing == 0
    }
}

/// Verifies a Postgres model.
pub(super) async fn rows<M: RowModel>(replay: &mut Replay<'_>) -> Result<Verdict, ProjectionError> {
    let pool = replay.store.pool().clone();
    let scratch = format!("{}_verify", M::TABLE);
    let drop = format!("DROP TABLE IF EXISTS {scratch}");
    sqlx::query(&drop).execute(&pool).await?;
    let create = format!("CREATE UNLOGGED TABLE {scratch} (LIKE {} INCLUDING ALL)", M::TABLE);
    sqlx::query(&create).execute(&pool).await?;
    let verdict = compare::<M>(replay, &pool, &scratch).await;
    sqlx::query(&drop).execute(&pool).await?;
    verdict
}

async fn compare<M: RowModel>(
    replay: &mut Replay<'_>,
    pool: &PgPool,
    scratch: &str,
) -> Result<Verdict, ProjectionError> {
    // The bulk goes no further than the live model, which is read after it.
    let near = checkpoint::load(pool, M::NAME).await?.cursor;
    fill::<M>(replay, pool, scratch, near).await?;
    let mut snapshot = snapshot(pool).await?;
    let at = checkpoint::load(&mut *snapshot, M::NAME).await?.cursor;
    fill::<M>(replay, pool, scratch, at).await?;
    replay.expect_at(at).await?;
    let (live, rebuilt) = (hashes(M::TABLE), hashes(scratch));
    let live = sqlx::query(&live).fetch(&mut *snapshot).map_err(ProjectionError::from).and_then(pair);
    let rebuilt = sqlx::query(&rebuilt).fetch(pool).map_err(ProjectionError::from).and_then(pair);
    let mut found = merge(live, rebuilt).await?;
    // A session whose key has just been destroyed still has rows until its end is projected: no difference.
    let ids: Vec<Uuid> = found.differing.iter().copied().collect();
    let going = format!(
        "SELECT row.id FROM {} AS row JOIN ops.data_keys AS key ON key.root_id = row.{} \
         WHERE row.id = ANY($1) AND key.destroyed_at IS NOT NULL",
        M::TABLE,
        M::SESSION
    );
    for row in sqlx::query(&going).bind(ids).fetch_all(pool).await? {
        found.forgive(row.try_get(0)?);
    }
    Ok(found.verdict(at))
}

/// A transaction that sees one moment and takes no id, so that it holds nothing up.
async fn snapshot(pool: &PgPool) -> Result<Transaction<'static, Postgres>, ProjectionError> {
    let mut snapshot = polyphony_eventstore::begin(pool).await?;
    for statement in [
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
        "SET LOCAL idle_in_transaction_session_timeout = 0",
        "SET LOCAL statement_timeout = 0",
    ] {
        sqlx::query(statement).execute(&mut *snapshot).await?;
    }
    Ok(snapshot)
}

async fn fill<M: RowModel>(
    replay: &mut Replay<'_>,
    pool: &PgPool,
    scratch: &str,
    until: Cursor,
) -> Result<(), ProjectionError> {
    while let Some(events) = replay.next_until(building::BATCH, M::wants, until).await? {
        let mut connection = pool.acquire().await?;
        model::apply::<M>(&mut connection, scratch, &events).await?;
    }
    Ok(())
}

fn hashes(table: &str) -> String {
    format!("SELECT id, md5(row::text) FROM {table} AS row ORDER BY id")
}

async fn pair(row: sqlx::postgres::PgRow) -> Result<(Uuid, String), ProjectionError> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Verifies the facts and the rollups in ClickHouse.
pub(super) async fn facts(replay: &mut Replay<'_>, clickhouse: &Client) -> Result<Verdict, ProjectionError> {
    usage::drop_tables(clickhouse, usage::SCRATCH).await?;
    usage::ensure(clickhouse, usage::SCRATCH).await?;
    let verdict = compare_facts(replay, clickhouse).await;
    usage::drop_tables(clickhouse, usage::SCRATCH).await?;
    verdict
}

async fn compare_facts(replay: &mut Replay<'_>, clickhouse: &Client) -> Result<Verdict, ProjectionError> {
    let pool = replay.store.pool().clone();
    let live = checkpoint::load(&pool, usage::NAME).await?;
    let mut from = checkpoint::Checkpoint { epoch: usage::SCRATCH, ..checkpoint::Checkpoint::default() };
    while let Some(events) = replay.next_until(facts::BATCH, usage::wants, live.cursor).await? {
        let facts: Vec<Fact> = events.iter().filter_map(Fact::of).collect();
        facts::insert(clickhouse, from, replay, &facts).await?;
        from.cursor = replay.at;
    }
    replay.expect_at(live.cursor).await?;
    let mut found = merge(usage::hashes(clickhouse, live.epoch)?, usage::hashes(clickhouse, usage::SCRATCH)?).await?;
    // Facts of later events are there already: the live projector goes on.
    let ids: Vec<Uuid> = found.differing.iter().copied().collect();
    let later = "SELECT event_id FROM events WHERE (xid, position) > ($1::xid8, $2) AND event_id = ANY($3)";
    let later = sqlx::query(later).bind(live.cursor.xid.to_string()).bind(live.cursor.position).bind(ids);
    for row in later.fetch_all(&pool).await? {
        found.forgive(row.try_get(0)?);
    }
    let mut verdict = found.verdict(live.cursor);
    let rollups = usage::differing_rollups(clickhouse, live.epoch).await?;
    verdict.differing += rollups.len() as u64;
    verdict.first.extend(rollups);
    verdict.first.truncate(NAMED);
    Ok(verdict)
}

#[derive(Default)]
struct Found {
    live: u64,
    rebuilt: u64,
    /// More than are looked at.
    more: u64,
    differing: BTreeSet<Uuid>,
}

impl Found {
    fn differs(&mut self, id: Uuid) {
        if self.differing.len() < LOOKED_AT {
            self.differing.insert(id);
        } else {
            self.more += 1;
        }
    }

    fn forgive(&mut self, id: Uuid) {
        self.differing.remove(&id);
    }

    fn verdict(self, at: Cursor) -> Verdict {
        let differing = self.differing.len() as u64 + self.more;
        let first = self.differing.iter().take(NAMED).map(Uuid::to_string).collect();
        Verdict { at, live: self.live, rebuilt: self.rebuilt, differing, first }
    }
}

/// Walks through two lists of ids and hashes, both in the order of the ids. An id that comes twice differs.
async fn merge(
    live: impl Stream<Item = Result<(Uuid, String), ProjectionError>>,
    rebuilt: impl Stream<Item = Result<(Uuid, String), ProjectionError>>,
) -> Result<Found, ProjectionError> {
    let (mut live, mut rebuilt) = (pin!(live), pin!(rebuilt));
    let mut found = Found::default();
    let (mut left, mut right) = (live.try_next().await?, rebuilt.try_next().await?);
    loop {
        let order = match (&left, &right) {
            (None, None) => return Ok(found),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((left, _)), Some((right, _))) => left.cmp(right),
        };
        if order.is_eq() && left != right || order.is_ne() {
            let id = if order.is_gt() { &right } else { &left };
            if let Some((id, _)) = id {
                found.differs(*id);
            }
        }
        if order.is_le() {
            found.live += 1;
            left = live.try_next().await?;
        }
        if order.is_ge() {
            found.rebuilt += 1;
            right = rebuilt.try_next().await?;
        }
    }
}
