//! The facts of usage, built in ClickHouse under the next epoch.
//!
//! No lock is held meanwhile: the live projector goes on under its epoch, is fenced out by the switch, and goes on
//! from where the new tables end. A build that breaks off leaves tables that nobody reads, and the next one drops.

use std::time::Duration;

use clickhouse::Client;

use super::{Replay, count};
use crate::{
    ProjectionError,
    checkpoint::{self, Checkpoint},
    usage::{self, Fact},
};

/// Events read at a time; one in four or five is a fact.
pub(super) const BATCH: u32 = 5_000;
/// How often a batch is sent that ClickHouse doesn't take.
const TRIES: u32 = 5;
/// Pause between them.
const PAUSE: Duration = Duration::from_secs(1);

/// Builds the tables of the next epoch and switches over to them.
pub(super) async fn build(replay: &mut Replay<'_>, clickhouse: &Client) -> Result<(), ProjectionError> {
    let pool = replay.store.pool().clone();
    let old = checkpoint::load(&pool, usage::NAME).await?.epoch;
    let new = old + 1;
    usage::drop_tables(clickhouse, new).await?;
    usage::ensure(clickhouse, new).await?;
    let expected = count(replay.store, None).await?;
    let mut from = Checkpoint { cursor: replay.at, epoch: new };
    while let Some(events) = replay.next(BATCH, usage::wants).await? {
        let facts: Vec<Fact> = events.iter().filter_map(Fact::of).collect();
        insert(clickhouse, from, replay, &facts).await?;
        from.cursor = replay.at;
    }
    replay.expect_whole(expected).await?;
    let mut transaction = polyphony_eventstore::begin(&pool).await?;
    let live = checkpoint::lock(&mut transaction, usage::NAME).await?;
    // Batches on their way belong to tables that are about to go.
    sqlx::query("DELETE FROM read.usage_batches WHERE epoch <= $1").bind(old).execute(&mut *transaction).await?;
    replay.finish(&mut transaction).await?;
    checkpoint::begin_epoch(&mut transaction, usage::NAME, live, replay.at).await?;
    transaction.commit().await?;
    if let Err(error) = usage::drop_tables(clickhouse, old).await {
        tracing::warn!(error = &error as &dyn std::error::Error, epoch = old, "old tables of usage stay behind");
    }
    Ok(())
}

/// Sends a batch, several times if need be.
pub(super) async fn insert(
    clickhouse: &Client,
    from: Checkpoint,
    replay: &Replay<'_>,
    facts: &[Fact],
) -> Result<(), ProjectionError> {
    let token = usage::token(from, replay.at);
    for _ in 1..TRIES {
        match usage::insert(clickhouse, from.epoch, &token, facts).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                replay.bar.println(format!("ClickHouse did not take a batch, it is sent again: {error}"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    usage::insert(clickhouse, from.epoch, &token, facts).await
}
