//! Building a read model anew from the log.
//!
//! A Postgres model is built beside the live one, which goes on serving and following; the last step, under the lock
//! of its checkpoint, reads the rest and swaps the tables. The facts in ClickHouse are dropped and filled again under
//! a new epoch, so that no old token hides a new row.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use polyphony_domain::record::Cursor;
use polyphony_eventstore::Store;
use sqlx::{PgConnection, Row};

use crate::{
    ProjectionError,
    checkpoint::{self, Checkpoint},
    message_thread::MessageThread,
    model::{self, RowModel},
    session_list::SessionList,
    typed,
    usage::{self, Fact},
};

/// Events read at a time.
const BATCH: u32 = 1_000;

/// All projections that can be built anew.
pub const NAMES: [&str; 3] = [SessionList::NAME, MessageThread::NAME, usage::NAME];

/// Builds one projection anew, showing its progress; returns how many events went into it.
///
/// # Errors
/// [`ProjectionError::Incomplete`] when the log could not be read whole: the live model is then as it was.
pub async fn rebuild(store: &Store, clickhouse: &clickhouse::Client, name: &str) -> Result<u64, ProjectionError> {
    let bar = ProgressBar::new(store.count_after(Cursor::default(), u32::MAX).await?);
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} events, {per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.set_message(name.to_owned());
    let read = match name {
        SessionList::NAME => rows::<SessionList>(store, &bar).await,
        MessageThread::NAME => rows::<MessageThread>(store, &bar).await,
        usage::NAME => facts(store, clickhouse, &bar).await,
        other => Err(ProjectionError::Unknown(other.to_owned())),
    }?;
    bar.finish();
    Ok(read)
}

async fn rows<M: RowModel>(store: &Store, bar: &ProgressBar) -> Result<u64, ProjectionError> {
    let shadow = format!("{}_rebuild", M::TABLE);
    for statement in
        [format!("DROP TABLE IF EXISTS {shadow}"), format!("CREATE TABLE {shadow} (LIKE {} INCLUDING ALL)", M::TABLE)]
    {
        sqlx::query(&statement).execute(store.pool()).await?;
    }
    let mut build = Build { store, bar, at: Cursor::default(), read: 0 };
    // The bulk, while the live model goes on.
    let mut connection = store.pool().acquire().await.map_err(polyphony_eventstore::StoreError::from)?;
    while build.step::<M>(&mut connection, &shadow).await? {}
    drop(connection);
    // The rest, while it stands still.
    let mut transaction = store.pool().begin().await?;
    let live = checkpoint::lock(&mut transaction, M::NAME).await?;
    while build.step::<M>(&mut transaction, &shadow).await? {}
    expect_whole(&mut transaction, M::NAME, build.read, build.at).await?;
    let table = M::TABLE.rsplit('.').next().unwrap_or(M::TABLE);
    for statement in [format!("DROP TABLE {}", M::TABLE), format!("ALTER TABLE {shadow} RENAME TO {table}")] {
        sqlx::query(&statement).execute(&mut *transaction).await?;
    }
    move_checkpoint(&mut transaction, M::NAME, live, build.at).await?;
    transaction.commit().await?;
    Ok(build.read)
}

struct Build<'a> {
    store: &'a Store,
    bar: &'a ProgressBar,
    at: Cursor,
    read: u64,
}

impl Build<'_> {
    async fn step<M: RowModel>(&mut self, connection: &mut PgConnection, table: &str) -> Result<bool, ProjectionError> {
        let events = self.store.read_after(self.at, BATCH).await?;
        let Some(last) = events.last().map(|event| event.cursor) else { return Ok(false) };
        self.read += events.len() as u64;
        let (events, poison) = typed::read(self.store, events).await?;
        checkpoint::park(connection, M::NAME, &poison).await?;
        model::apply::<M>(connection, table, &events).await?;
        self.at = last;
        self.bar.set_position(self.read);
        Ok(true)
    }
}

async fn facts(store: &Store, clickhouse: &clickhouse::Client, bar: &ProgressBar) -> Result<u64, ProjectionError> {
    let mut transaction = store.pool().begin().await?;
    let live = checkpoint::lock(&mut transaction, usage::NAME).await?;
    for table in usage::TABLES {
        clickhouse.query(&format!("TRUNCATE TABLE {table}")).execute().await?;
    }
    let epoch = live.epoch + 1;
    let (mut at, mut read) = (Cursor::default(), 0);
    loop {
        let events = store.read_after(at, BATCH).await?;
        let Some(last) = events.last().map(|event| event.cursor) else { break };
        read += events.len() as u64;
        let (events, poison) = typed::read(store, events).await?;
        checkpoint::park(&mut transaction, usage::NAME, &poison).await?;
        let facts: Vec<Fact> = events.iter().filter_map(Fact::of).collect();
        usage::insert(clickhouse, &usage::token(Checkpoint { cursor: at, epoch }, last), &facts).await?;
        at = last;
        bar.set_position(read);
    }
    expect_whole(&mut transaction, usage::NAME, read, at).await?;
    sqlx::query("DELETE FROM read.usage_batches").execute(&mut *transaction).await?;
    move_checkpoint(&mut transaction, usage::NAME, live, at).await?;
    transaction.commit().await?;
    Ok(read)
}

/// A read that ended early must not pass for the whole log.
async fn expect_whole(connection: &mut PgConnection, name: &str, read: u64, at: Cursor) -> Result<(), ProjectionError> {
    let row = sqlx::query("SELECT count(*) FROM events WHERE (xid, position) <= ($1::xid8, $2)")
        .bind(at.xid.to_string())
        .bind(at.position)
        .fetch_one(connection)
        .await?;
    let expected = u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0);
    if read == expected { Ok(()) } else { Err(ProjectionError::Incomplete { name: name.to_owned(), read, expected }) }
}

async fn move_checkpoint(
    connection: &mut PgConnection,
    name: &str,
    live: Checkpoint,
    to: Cursor,
) -> Result<(), ProjectionError> {
    sqlx::query("UPDATE read.checkpoints SET xid = $1::xid8, position = $2, epoch = $3 WHERE name = $4")
        .bind(to.xid.to_string())
        .bind(to.position)
        .bind(live.epoch + 1)
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}
