//! A Postgres read model, built in a table beside the live one.

use polyphony_domain::record::Cursor;
use sqlx::{PgConnection, Row};

use super::{Replay, count};
use crate::{
    ProjectionError, checkpoint,
    model::{self, RowModel},
};

/// Events read at a time.
pub(super) const BATCH: u32 = 1_000;

/// Builds the model and puts it in the place of the live one.
pub(super) async fn build<M: RowModel>(replay: &mut Replay<'_>) -> Result<(), ProjectionError> {
    let pool = replay.store.pool().clone();
    let shadow = format!("{}_rebuild", M::TABLE);
    if !replay.resume(&shadow).await? {
        replay.begin_table(&shadow, M::TABLE).await?;
    }
    // The bulk, while the live model goes on. What comes during one round is read in the next.
    let mut expected = count(replay.store, None).await?;
    while let Some(events) = replay.next(BATCH, M::wants).await? {
        let mut transaction = polyphony_eventstore::begin(&pool).await?;
        model::apply::<M>(&mut transaction, &shadow, &events).await?;
        replay.keep(&mut transaction).await?;
        transaction.commit().await?;
    }
    replay.expect_whole(expected).await?;
    let (bulk, bulk_at) = (replay.read, replay.at);
    // The rest, while it stands still: a moment, since this transaction also holds back the horizon of the log.
    let mut transaction = polyphony_eventstore::begin(&pool).await?;
    let live = checkpoint::lock(&mut transaction, M::NAME).await?;
    while let Some(events) = replay.next(BATCH, M::wants).await? {
        model::apply::<M>(&mut transaction, &shadow, &events).await?;
    }
    let rest = count_between(&mut transaction, bulk_at, replay.at).await?;
    expected = bulk + rest;
    if replay.read != expected || replay.at < live.cursor {
        return Err(replay.incomplete(expected));
    }
    let table = M::TABLE.rsplit('.').next().unwrap_or(M::TABLE);
    for statement in [format!("DROP TABLE {}", M::TABLE), format!("ALTER TABLE {shadow} RENAME TO {table}")] {
        sqlx::query(&statement).execute(&mut *transaction).await?;
    }
    replay.finish(&mut transaction).await?;
    checkpoint::begin_epoch(&mut transaction, M::NAME, live, replay.at).await?;
    transaction.commit().await?;
    Ok(())
}

async fn count_between(connection: &mut PgConnection, after: Cursor, up_to: Cursor) -> Result<u64, ProjectionError> {
    let row = sqlx::query(
        "SELECT count(*) FROM events WHERE (xid, position) > ($1::xid8, $2) AND (xid, position) <= ($3::xid8, $4)",
    )
    .bind(after.xid.to_string())
    .bind(after.position)
    .bind(up_to.xid.to_string())
    .bind(up_to.position)
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0))
}
