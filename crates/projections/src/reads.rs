//! Reading: what a caller sees of the read models, never older than what the caller has written.
//!
//! A read compares its projection with the newest event of the caller. It waits for it up to two seconds; after that
//! it applies the missing events itself, in memory. Lag is never an error and never a stale answer.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use polyphony_bus::Bus;
use polyphony_domain::{
    ids::{AccountId, SessionId},
    record::Cursor,
};
use polyphony_eventstore::Store;
use sqlx::{Row, types::Json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    ProjectionError, checkpoint,
    message_thread::{MessagePage, MessageRole, MessageRow, MessageThread, active_branch},
    model::{self, RowModel},
    session_list::{SessionList, SessionRow},
    typed::{self, TypedEvent},
    usage::{self, Overview, Period},
};

/// How long a read waits for its projection.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks at the checkpoint itself meanwhile, in case a poke was lost.
const LOOK: Duration = Duration::from_millis(50);

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// How many there are on all pages.
    pub total: u64,
}

/// Which sessions to list.
#[derive(Clone, Copy, Debug)]
pub struct SessionQuery {
    /// From 1.
    pub page: u32,
    /// Items on a page.
    pub limit: u32,
    /// Archived ones instead of the others.
    pub archived: bool,
}

/// The read models; cheap to clone.
#[derive(Clone)]
pub struct ReadModels {
    store: Store,
    clickhouse: clickhouse::Client,
    places: Arc<watch::Sender<HashMap<String, Cursor>>>,
}

impl ReadModels {
    /// Reads what the projectors write.
    pub fn new(store: Store, clickhouse: clickhouse::Client) -> Self {
        Self { store, clickhouse, places: Arc::new(watch::Sender::default()) }
    }

    /// Follows how far the projections are, until `stop`.
    pub async fn follow(&self, bus: Bus, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Ok(mut pokes) = bus.subscribe_projection_pokes().await {
                loop {
                    let poke = tokio::select! {
                        () = stop.cancelled() => return,
                        poke = pokes.next() => poke,
                    };
                    let Some((name, cursor)) = poke else { break };
                    self.note(&name, cursor);
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn note(&self, name: &str, cursor: Cursor) {
        self.places.send_if_modified(|places| {
            let place = places.entry(name.to_owned()).or_default();
            let moved = cursor > *place;
            *place = cursor.max(*place);
            moved
        });
    }

    /// The caller's events that the projection has not applied, once waiting for it has not helped.
    async fn missing(&self, name: &str, owner: AccountId) -> Result<Vec<TypedEvent>, ProjectionError> {
        let target = self.store.newest_of_owner(owner).await?;
        let mut places = self.places.subscribe();
        let reached = |places: &HashMap<String, Cursor>| places.get(name).is_some_and(|place| *place >= target);
        if reached(&places.borrow()) {
            return Ok(vec![]);
        }
        let begun = Instant::now();
        loop {
            let place = checkpoint::load(self.store.pool(), name).await?.cursor;
            self.note(name, place);
            if place >= target {
                return Ok(vec![]);
            }
            if begun.elapsed() >= PATIENCE {
                let events = self.store.read_owner_after(owner, place).await?;
                return Ok(typed::read(&self.store, events).await?.0);
            }
            if tokio::time::timeout(LOOK, places.wait_for(|places| reached(places)))
                .await
                .is_ok_and(|seen| seen.is_ok())
            {
                return Ok(vec![]);
            }
        }
    }

    /// All rows of a caller that a condition selects, with the missing events applied.
    async fn overlaid<M: RowModel>(
        &self,
        column: &str,
        id: Uuid,
        missing: &[TypedEvent],
    ) -> Result<HashMap<Uuid, M::Row>, ProjectionError> {
        let sql = format!("SELECT id, data FROM {} WHERE {column} = $1", M::TABLE);
        let rows = sqlx::query(&sql).bind(id).fetch_all(self.store.pool()).await?;
        let mut rows: HashMap<Uuid, M::Row> = rows
            .into_iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get::<Json<M::Row>, _>(1)?.0)))
            .collect::<Result<_, sqlx::Error>>()?;
        model::reduce_all::<M>(&mut rows, missing);
        Ok(rows)
    }

    /// One page of a caller's sessions, newest activity first.
    ///
    /// # Errors
    /// [`ProjectionError`] when the database fails.
    pub async fn sessions(&self, owner: AccountId, query: SessionQuery) -> Result<Page<SessionRow>, ProjectionError> {
        let missing = self.missing(SessionList::NAME, owner).await?;
        let skip = u64::from(query.page.saturating_sub(1)) * u64::from(query.limit);
        if missing.is_empty() {
            let rows = sqlx::query(
                "SELECT data, count(*) OVER () FROM read.sessions WHERE owner_id = $1 AND archived = $2 \
                 ORDER BY updated_at DESC, id DESC LIMIT $3 OFFSET $4",
            )
            .bind(owner.as_uuid())
            .bind(query.archived)
            .bind(i64::from(query.limit))
            .bind(i64::try_from(skip).unwrap_or(i64::MAX))
            .fetch_all(self.store.pool())
            .await?;
            let mut page = Page { items: Vec::with_capacity(rows.len()), total: 0 };
            for row in &rows {
                page.items.push(row.try_get::<Json<SessionRow>, _>(0)?.0);
                page.total = u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or(0);
            }
            if rows.is_empty() && skip > 0 {
                let row = sqlx::query("SELECT count(*) FROM read.sessions WHERE owner_id = $1 AND archived = $2")
                    .bind(owner.as_uuid())
                    .bind(query.archived)
                    .fetch_one(self.store.pool())
                    .await?;
                page.total = u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0);
            }
            return Ok(page);
        }
        let rows = self.overlaid::<SessionList>("owner_id", owner.as_uuid(), &missing).await?;
        let mut items: Vec<SessionRow> =
            rows.into_values().filter(|row| row.archived_at.is_some() == query.archived).collect();
        items.sort_by_key(|row| std::cmp::Reverse((row.updated_at, row.id)));
        let total = items.len() as u64;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Ok(Page { items: items.into_iter().skip(skip).take(query.limit as usize).collect(), total })
    }

    /// One session of a caller.
    ///
    /// # Errors
    /// [`ProjectionError`] when the database fails.
    pub async fn session(&self, owner: AccountId, id: SessionId) -> Result<Option<SessionRow>, ProjectionError> {
        let missing = self.missing(SessionList::NAME, owner).await?;
        let mut rows = self.overlaid::<SessionList>("id", id.as_uuid(), &missing).await?;
        Ok(rows.remove(&id.as_uuid()).filter(|row| row.owner_id == owner))
    }

    /// The messages of a caller's session before `before`: the active branch, or the whole tree. `None` when the
    /// session isn't the caller's, or `before` isn't in it.
    ///
    /// # Errors
    /// [`ProjectionError`] when the database fails.
    pub async fn messages(
        &self,
        owner: AccountId,
        session: SessionId,
        before: Option<Uuid>,
        limit: u32,
        tree: bool,
    ) -> Result<Option<MessagePage>, ProjectionError> {
        if self.session(owner, session).await?.is_none() {
            return Ok(None);
        }
        let missing: Vec<TypedEvent> = self
            .missing(MessageThread::NAME, owner)
            .await?
            .into_iter()
            .filter(|event| event.root_id == session.as_uuid())
            .collect();
        let rows = self.overlaid::<MessageThread>("session_id", session.as_uuid(), &missing).await?;
        let mut versions: HashMap<Uuid, u32> = HashMap::new();
        for row in rows.values().filter(|row| row.role == MessageRole::Assistant) {
            *versions.entry(row.parent_id.unwrap_or_default()).or_default() += 1;
        }
        let mut ordered = if tree { rows.values().collect() } else { active_branch(&rows) };
        if tree {
            ordered.sort_by_key(|row| (row.first, row.id));
        }
        if let Some(before) = before {
            let Some(end) = ordered.iter().position(|row| row.id == before) else { return Ok(None) };
            ordered.truncate(end);
        }
        let cut = ordered.len().saturating_sub(limit as usize);
        let page = ordered.split_off(cut);
        let next_before = if cut == 0 { None } else { page.first().map(|row| row.id) };
        let count = |row: &MessageRow| match row.role {
            MessageRole::User => 1,
            MessageRole::Assistant => versions.get(&row.parent_id.unwrap_or_default()).copied().unwrap_or(1),
        };
        let messages = page.into_iter().map(|row| (row.clone(), count(row))).collect();
        Ok(Some(MessagePage { messages, next_before }))
    }

    /// One message of a caller, with the number of its versions.
    ///
    /// # Errors
    /// [`ProjectionError`] when the database fails.
    pub async fn message(&self, owner: AccountId, id: Uuid) -> Result<Option<(MessageRow, u32)>, ProjectionError> {
        let missing = self.missing(MessageThread::NAME, owner).await?;
        let mut rows = self.overlaid::<MessageThread>("id", id, &missing).await?;
        let Some(row) = rows.remove(&id).filter(|row| row.owner_id == owner) else { return Ok(None) };
        let MessageRole::Assistant = row.role else { return Ok(Some((row, 1))) };
        let rows = self.overlaid::<MessageThread>("session_id", row.session_id.as_uuid(), &missing).await?;
        let siblings = rows.values().filter(|other| other.parent_id == row.parent_id).count();
        Ok(Some((row, u32::try_from(siblings).unwrap_or(u32::MAX))))
    }

    /// The overview of a caller's usage.
    ///
    /// # Errors
    /// [`ProjectionError::Clickhouse`].
    pub async fn overview(&self, owner: AccountId, period: Period) -> Result<Overview, ProjectionError> {
        usage::overview(&self.clickhouse, owner, period).await
    }
}
