//! Building a read model anew from the log, beside the live one, which goes on serving and following.
//!
//! A Postgres model is built in a table of its own; the last step, under the lock of its checkpoint, reads the rest
//! and swaps the tables. The facts in ClickHouse are built in the tables of the next epoch, and one row in Postgres
//! switches over to them. A build of a Postgres model that broke off goes on where it was; one of the facts, which
//! are few and quick, begins again.

mod facts;
mod progress;
mod rows;
mod verify;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use polyphony_domain::record::{Cursor, StoredEvent};
use polyphony_eventstore::Store;
use sqlx::{Connection, PgConnection, Row};

use crate::{
    ProjectionError,
    message_thread::MessageThread,
    model::RowModel,
    session_list::SessionList,
    typed::{self, Poison, TypedEvent},
    usage,
};

pub use self::verify::Verdict;

/// All projections that can be built anew.
pub const NAMES: [&str; 3] = [SessionList::NAME, MessageThread::NAME, usage::NAME];
/// After every place in the log.
const LAST: Cursor = Cursor { xid: u64::MAX, position: i64::MAX };

/// What a build did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Built {
    /// Events that went into it.
    pub events: u64,
    /// How many of them an earlier build had read that broke off.
    pub resumed_at: u64,
}

/// Builds one projection anew, showing its progress.
///
/// # Errors
/// [`ProjectionError::Incomplete`] when the log could not be read whole, [`ProjectionError::Busy`] while another
/// process builds it, [`ProjectionError::Unknown`] for a name that is none of [`NAMES`]. The live model is then as
/// it was.
pub async fn rebuild(store: &Store, clickhouse: &clickhouse::Client, name: &str) -> Result<Built, ProjectionError> {
    let guard = lock(store, name).await?;
    let mut replay = Replay::begin(store, name).await?;
    let built = match name {
        SessionList::NAME => rows::build::<SessionList>(&mut replay).await,
        MessageThread::NAME => rows::build::<MessageThread>(&mut replay).await,
        _ => facts::build(&mut replay, clickhouse).await,
    };
    replay.end(built.is_ok());
    guard.close().await.map_err(polyphony_eventstore::StoreError::from)?;
    built.map(|()| Built { events: replay.read, resumed_at: replay.resumed_at })
}

/// Builds one projection in scratch tables and compares them, row by row, with what is live at one place of the log.
/// The live model goes on meanwhile.
///
/// # Errors
/// As [`rebuild`]; that the two differ is no error but the verdict.
pub async fn verify(store: &Store, clickhouse: &clickhouse::Client, name: &str) -> Result<Verdict, ProjectionError> {
    let guard = lock(store, name).await?;
    let mut replay = Replay::begin(store, name).await?;
    let verdict = match name {
        SessionList::NAME => verify::rows::<SessionList>(&mut replay).await,
        MessageThread::NAME => verify::rows::<MessageThread>(&mut replay).await,
        _ => verify::facts(&mut replay, clickhouse).await,
    };
    replay.end(verdict.is_ok());
    guard.close().await.map_err(polyphony_eventstore::StoreError::from)?;
    verdict
}

/// One rebuild of a projection at a time. The lock ends with its connection, whatever becomes of the process.
pub(crate) async fn lock(store: &Store, name: &str) -> Result<PgConnection, ProjectionError> {
    if !NAMES.contains(&name) {
        return Err(ProjectionError::Unknown(name.to_owned()));
    }
    let mut connection = PgConnection::connect_with(&store.pool().connect_options()).await?;
    let row = sqlx::query("SELECT pg_try_advisory_lock(hashtextextended('rebuild ' || $1, 0))")
        .bind(name)
        .fetch_one(&mut connection)
        .await?;
    if row.try_get(0)? { Ok(connection) } else { Err(ProjectionError::Busy(name.to_owned())) }
}

/// Reading the log from its beginning, with a bar that shows how far it is.
pub(crate) struct Replay<'a> {
    store: &'a Store,
    name: &'a str,
    bar: ProgressBar,
    /// Place of the last event read.
    at: Cursor,
    /// Events read.
    pub(crate) read: u64,
    /// How many of them by an earlier build.
    resumed_at: u64,
    /// Events that can't be understood. They are parked when the new model goes live.
    poison: Vec<Poison>,
}

impl<'a> Replay<'a> {
    pub(crate) async fn begin(store: &'a Store, name: &'a str) -> Result<Self, ProjectionError> {
        let bar = ProgressBar::new(count(store, None).await?);
        let style = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} events, {per_sec}, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar.set_message(name.to_owned());
        Ok(Self { store, name, bar, at: Cursor::default(), read: 0, resumed_at: 0, poison: vec![] })
    }

    fn end(&self, is_well: bool) {
        if is_well { self.bar.finish() } else { self.bar.abandon() }
    }

    /// The next events that are wanted; `None` when level with the log.
    pub(crate) async fn next(
        &mut self,
        limit: u32,
        wants: fn(&StoredEvent) -> bool,
    ) -> Result<Option<Vec<TypedEvent>>, ProjectionError> {
        self.next_until(limit, wants, LAST).await
    }

    /// The next events that are wanted, up to a place; `None` when there.
    async fn next_until(
        &mut self,
        limit: u32,
        wants: fn(&StoredEvent) -> bool,
        until: Cursor,
    ) -> Result<Option<Vec<TypedEvent>>, ProjectionError> {
        let mut events = self.store.read_after(self.at, limit).await?;
        events.retain(|event| event.cursor <= until);
        let Some(last) = events.last().map(|event| event.cursor) else { return Ok(None) };
        self.read += events.len() as u64;
        events.retain(wants);
        let (events, mut poison) = typed::read(self.store, events).await?;
        self.poison.append(&mut poison);
        self.at = last;
        self.bar.set_length(self.bar.length().unwrap_or_default().max(self.read));
        self.bar.set_position(self.read);
        Ok(Some(events))
    }

    /// Whether all was read that the log has: a read that ended early must not pass for the whole.
    ///
    /// `expected` is a count from before the last look into the log, which found nothing more.
    pub(crate) async fn expect_whole(&self, expected: u64) -> Result<(), ProjectionError> {
        let up_to_here = count(self.store, Some(self.at)).await?;
        if self.read == up_to_here && self.read >= expected {
            Ok(())
        } else {
            Err(self.incomplete(up_to_here.max(expected)))
        }
    }

    /// Whether all was read up to a place that somebody else has reached.
    async fn expect_at(&self, place: Cursor) -> Result<(), ProjectionError> {
        let expected = count(self.store, Some(place)).await?;
        if self.read == expected && self.at == place { Ok(()) } else { Err(self.incomplete(expected)) }
    }

    fn incomplete(&self, expected: u64) -> ProjectionError {
        ProjectionError::Incomplete { name: self.name.to_owned(), read: self.read, expected }
    }
}

/// How many events the log has up to a place, or below its horizon. It may take longer than other statements.
async fn count(store: &Store, up_to: Option<Cursor>) -> Result<u64, ProjectionError> {
    let mut transaction = store.begin().await?;
    sqlx::query("SET LOCAL statement_timeout = '10min'").execute(&mut *transaction).await?;
    let query = match up_to {
        None => sqlx::query("SELECT count(*) FROM events WHERE xid < pg_snapshot_xmin(pg_current_snapshot())"),
        Some(at) => sqlx::query("SELECT count(*) FROM events WHERE (xid, position) <= ($1::xid8, $2)")
            .bind(at.xid.to_string())
            .bind(at.position),
    };
    let row = query.fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0))
}
