//! Reading one's own writes: how far a projection must be for a caller, and what it lacks.
//!
//! Whether a read may be served from the tables is decided by the database alone, in one statement: the projection's
//! checkpoint against the caller's newest event. Pokes only wake those who wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use polyphony_bus::Bus;
use polyphony_domain::{
    ids::{AccountId, SessionId},
    record::Cursor,
};
use polyphony_eventstore::Store;
use sqlx::Row;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    ProjectionError, checkpoint,
    model::RowModel,
    typed::{self, TypedEvent},
};

/// How long a read waits for its projection.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks at the checkpoint itself meanwhile, in case a poke was lost.
const LOOK: Duration = Duration::from_millis(50);
/// Time between two tries to hear pokes.
const RETRY: Duration = Duration::from_secs(1);

/// How far projections are, as far as this process has heard.
#[derive(Clone)]
pub(crate) struct Freshness {
    store: Store,
    heard: Arc<watch::Sender<HashMap<String, Cursor>>>,
    /// Where each projection stood when a read last waited in vain: while it is still there, nobody waits again.
    stuck: Arc<Mutex<HashMap<&'static str, Cursor>>>,
}

impl Freshness {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, heard: Arc::default(), stuck: Arc::default() }
    }

    /// Listens for pokes until `stop`.
    pub(crate) async fn follow(&self, bus: Bus, stop: CancellationToken) {
        let listen = async {
            loop {
                if let Ok(mut pokes) = bus.subscribe_projection_pokes().await {
                    while let Some((name, cursor)) = pokes.next().await {
                        self.note(name, cursor);
                    }
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        tokio::select! {
            () = listen => {}
            () = stop.cancelled() => {}
        }
    }

    fn note(&self, name: String, cursor: Cursor) {
        self.heard.send_if_modified(|heard| {
            let place = heard.entry(name).or_default();
            let moved = cursor > *place;
            *place = cursor.max(*place);
            moved
        });
    }

    /// The caller's events that `M` has not applied, once waiting for it has not helped; none when it is level.
    /// With a session, only that session's.
    ///
    /// Rows must be read after this: they may then be newer than the checkpoint was, never older.
    pub(crate) async fn missing<M: RowModel>(
        &self,
        owner: AccountId,
        session: Option<SessionId>,
    ) -> Result<Vec<TypedEvent>, ProjectionError> {
        let (mut at, target) = self.place(M::NAME, owner).await?;
        if at >= target {
            return Ok(vec![]);
        }
        if self.last_stuck(M::NAME) != Some(at) {
            at = self.wait(M::NAME, target).await?;
            if at >= target {
                return Ok(vec![]);
            }
            self.stuck.lock().unwrap_or_else(PoisonError::into_inner).insert(M::NAME, at);
        }
        let mut events = self.store.read_owner_after(owner, at).await?;
        events.retain(|event| M::wants(event) && session.is_none_or(|session| event.root_id == session.as_uuid()));
        // What can't be read would be parked by the projector, too: it shows nowhere.
        Ok(typed::read(&self.store, events).await?.0)
    }

    fn last_stuck(&self, name: &str) -> Option<Cursor> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    /// The projection's checkpoint and the caller's newest event, of the same moment.
    async fn place(&self, name: &str, owner: AccountId) -> Result<(Cursor, Cursor), ProjectionError> {
        let row = sqlx::query(
            "SELECT c.xid::text AS at_xid, c.position, newest.xid::text AS newest_xid, newest.position \
             FROM read.checkpoints AS c LEFT JOIN LATERAL \
             (SELECT e.xid, e.position FROM events AS e WHERE e.owner_id = $2 \
              ORDER BY e.xid DESC, e.position DESC LIMIT 1) AS newest ON true \
             WHERE c.name = $1",
        )
        .bind(name)
        .bind(owner.as_uuid())
        .fetch_optional(self.store.pool())
        .await?;
        let row = row.ok_or_else(|| ProjectionError::Unknown(name.to_owned()))?;
        let at = checkpoint::cursor(row.try_get(0)?, row.try_get(1)?)?;
        let target = match row.try_get::<Option<String>, _>(2)? {
            Some(xid) => checkpoint::cursor(xid, row.try_get(3)?)?,
            None => Cursor::default(),
        };
        Ok((at, target))
    }

    /// Waits until the projection has reached `target`, at most [`PATIENCE`]; says where it is then.
    async fn wait(&self, name: &str, target: Cursor) -> Result<Cursor, ProjectionError> {
        let mut heard = self.heard.subscribe();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let look = (Instant::now() + LOOK).min(deadline);
            let reached = heard.wait_for(|heard| heard.get(name).is_some_and(|place| *place >= target));
            let told = timeout_at(look, reached).await.is_ok();
            let at = checkpoint::load(self.store.pool(), name).await?.cursor;
            if at >= target || Instant::now() >= deadline {
                return Ok(at);
            }
            if told {
                // A poke that runs ahead of the database is not ours; it must not make this loop spin.
                sleep_until(look).await;
            }
        }
    }
}
