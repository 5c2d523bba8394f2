//! Reading: what a caller sees of the read models, never older than what the caller has written.
//!
//! A read waits for its projection up to two seconds; after that it applies the missing events itself, in memory.
//! Lag is never an error and never a stale answer.

use polyphony_bus::Bus;
use polyphony_domain::ids::{AccountId, KeyId, SessionId};
use polyphony_eventstore::Store;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Moment, ProjectionError,
    freshness::Freshness,
    message_thread::{self, MessagePage, MessageThread, Placed, query::MessageQuery},
    past,
    session_list::{self, SessionList, SessionRow},
    usage::{self, KeyUsage, Overview, Period},
};

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
    freshness: Freshness,
}

impl ReadModels {
    /// Reads what the projectors write.
    pub fn new(store: Store, clickhouse: clickhouse::Client) -> Self {
        Self { freshness: Freshness::new(store.clone()), store, clickhouse }
    }

    /// Follows how far the projections are, until `stop`. Without it reads are as fresh, only slower.
    pub async fn follow(&self, bus: Bus, stop: CancellationToken) {
        self.freshness.follow(bus, stop).await;
    }

    /// One page of a caller's sessions, newest activity first.
    ///
    /// # Errors
    /// [`ProjectionError`] when the database fails.
    pub async fn sessions(&self, owner: AccountId, query: SessionQuery) -> Result<Page<SessionRow>, ProjectionError> {
        let missing = self.freshness.missing::<SessionList>(owner, None).await?;
        session_list::query::page(self.store.pool(), owner, query, &missing).await
    }

    /// One session of a caller.
    ///
    /// # Errors
    /// [`ProjectionError`] when the database fails.
    pub async fn session(&self, owner: AccountId, id: SessionId) -> Result<Option<SessionRow>, ProjectionError> {
        let missing = self.freshness.missing::<SessionList>(owner, Some(id)).await?;
        session_list::query::one(self.store.pool(), owner, id.as_uuid(), &missing).await
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
        let missing = self.freshness.missing::<MessageThread>(owner, Some(session)).await?;
        let query = MessageQuery { before, limit, tree };
        message_thread::query::page(self.store.pool(), owner, session, query, &missing).await
    }

    /// One message of a caller; `None` also for one that was deleted, or hangs under one.
    ///
    /// # Errors
    /// [`ProjectionError`] when the database fails.
    pub async fn message(&self, owner: AccountId, id: Uuid) -> Result<Option<Placed>, ProjectionError> {
        let missing = self.freshness.missing::<MessageThread>(owner, None).await?;
        message_thread::query::one(self.store.pool(), owner, id, &missing).await
    }

    /// What one of a caller's keys has been used for. It waits for nothing, and says how fresh it is.
    ///
    /// # Errors
    /// [`ProjectionError::Clickhouse`] when ClickHouse fails or is too slow.
    pub async fn key_usage(&self, owner: AccountId, key: KeyId) -> Result<KeyUsage, ProjectionError> {
        usage::key_usage(self.store.pool(), &self.clickhouse, owner, key).await
    }

    /// One session of a caller as it was.
    ///
    /// # Errors
    /// [`ProjectionError`] when the database fails.
    pub async fn session_at(
        &self,
        owner: AccountId,
        id: SessionId,
        at: Moment,
    ) -> Result<Option<SessionRow>, ProjectionError> {
        past::session(&self.store, owner, id, at).await
    }

    /// [`ReadModels::messages`] as they were. `None` also when there was no such session.
    ///
    /// # Errors
    /// [`ProjectionError`] when the database fails.
    pub async fn messages_at(
        &self,
        owner: AccountId,
        session: SessionId,
        before: Option<Uuid>,
        limit: u32,
        tree: bool,
        at: Moment,
    ) -> Result<Option<MessagePage>, ProjectionError> {
        past::messages(&self.store, owner, session, MessageQuery { before, limit, tree }, at).await
    }

    /// [`ReadModels::message`] as it was.
    ///
    /// # Errors
    /// [`ProjectionError`] when the database fails.
    pub async fn message_at(&self, owner: AccountId, id: Uuid, at: Moment) -> Result<Option<Placed>, ProjectionError> {
        past::message(&self.store, owner, id, at).await
    }

    /// A message of a caller and those in its place: the answers to the same prompt, or the edited prompts.
    ///
    /// # Errors
    /// [`ProjectionError`] when the database fails.
    pub async fn versions(&self, owner: AccountId, id: Uuid) -> Result<Option<Vec<Placed>>, ProjectionError> {
        let missing = self.freshness.missing::<MessageThread>(owner, None).await?;
        message_thread::query::versions(self.store.pool(), owner, id, &missing).await
    }

    /// The overview of a caller's usage. It waits for nothing, and says how fresh it is.
    ///
    /// # Errors
    /// [`ProjectionError::Clickhouse`] when ClickHouse fails or is too slow.
    pub async fn overview(&self, owner: AccountId, period: Period) -> Result<Overview, ProjectionError> {
        usage::overview(self.store.pool(), &self.clickhouse, owner, period).await
    }
}
