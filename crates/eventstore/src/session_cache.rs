//! Folded sessions that were read lately, so that a long one isn't read and opened whole for every turn.
//!
//! What is kept is the fold of events whose transactions can't be followed by an older one any more (their id is below
//! the snapshot's horizon); everything after that is read again each time. So a session from here is the same as one
//! from the log, and losing all of this changes nothing but time. Nothing is kept of a session whose data key has been
//! destroyed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use polyphony_domain::{ids::SessionId, record::Cursor, record::StoredEvent, turn::Turn};
use sqlx::Row;
use uuid::Uuid;

use crate::{Store, StoreError, frame, load::SessionLog};

/// Sessions with fewer turns are read whole as quickly.
const LEAST_TURNS: usize = 16;
/// Most bytes of text that are kept, in all.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Most bytes of one session: a giant must not push all others out.
const LARGEST: usize = MOST_BYTES / 4;
/// How long a session is kept that nobody reads.
const IDLE: Duration = Duration::from_secs(600);
/// What a turn takes besides its texts, about.
const TURN_BYTES: usize = 2 * 1024;

/// A session as far as it can't change any more.
struct Settled {
    log: Arc<SessionLog>,
    /// Its last event.
    at: Cursor,
    bytes: usize,
    used: Instant,
}

/// The sessions that are kept.
#[derive(Default)]
pub(crate) struct SessionCache(Mutex<HashMap<Uuid, Settled>>);

fn bytes_of(turn: &Turn) -> usize {
    let prompt = turn.prompt.as_ref().map_or(0, |prompt| {
        prompt.content.as_str().len() + prompt.given.as_ref().map_or(0, |given| given.as_str().len())
    });
    let records = turn.answers.values().filter_map(|answer| answer.record.as_ref());
    let answers: usize = records
        .map(|record| record.text.as_str().len() + record.reasoning.as_ref().map_or(0, |text| text.as_str().len()))
        .sum();
    TURN_BYTES + prompt + answers
}

impl SessionCache {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Settled>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, session: Uuid) -> Option<(Arc<SessionLog>, Cursor)> {
        let mut kept = self.lock();
        let settled = kept.get_mut(&session).filter(|settled| settled.used.elapsed() < IDLE)?;
        settled.used = Instant::now();
        Some((settled.log.clone(), settled.at))
    }

    fn forget(&self, session: Uuid) {
        self.lock().remove(&session);
    }

    fn keep(&self, session: Uuid, log: &Arc<SessionLog>, at: Cursor) {
        if log.turns.len() < LEAST_TURNS {
            return;
        }
        let bytes = log.turns.values().map(|turn| bytes_of(&turn.aggregate)).sum();
        if bytes > LARGEST {
            return self.forget(session);
        }
        let mut kept = self.lock();
        kept.retain(|_, settled| settled.used.elapsed() < IDLE);
        // Of two readers at once, the one that has seen more is right.
        if kept.get(&session).is_none_or(|settled| settled.at < at) {
            kept.insert(session, Settled { log: log.clone(), at, bytes, used: Instant::now() });
        }
        while kept.values().map(|settled| settled.bytes).sum::<usize>() > MOST_BYTES {
            let Some(oldest) = kept.iter().min_by_key(|(_, settled)| settled.used).map(|(id, _)| *id) else { break };
            kept.remove(&oldest);
        }
    }
}

impl Store {
    /// Folds a session and its turns.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] for an event that this build doesn't know.
    pub async fn session_log(&self, session: SessionId) -> Result<SessionLog, StoreError> {
        let root = session.as_uuid();
        let known = match self.sessions.get(root) {
            // What was erased must be gone from here too.
            Some(_) if self.data_keys(&[root]).await?.get(&root).is_none_or(Option::is_none) => {
                self.sessions.forget(root);
                None
            }
            known => known,
        };
        let (base, at) = known.unwrap_or_default();
        let (events, horizon) = self.events_after(root, at).await?;
        if events.is_empty() {
            return Ok(Arc::unwrap_or_clone(base));
        }
        let settled = events.iter().take_while(|event| event.cursor.xid < horizon).count();
        let at = if settled == 0 { at } else { events[settled - 1].cursor };
        let (mut log, mut events) = (Arc::unwrap_or_clone(base), self.open(events).await?.into_iter());
        for event in events.by_ref().take(settled) {
            log.add(event)?;
        }
        let base = Arc::new(log);
        self.sessions.keep(root, &base, at);
        let mut log = Arc::unwrap_or_clone(base);
        for event in events {
            log.add(event)?;
        }
        Ok(log)
    }

    /// The events under a root after a place in commit order, and the horizon: transactions below it are over.
    async fn events_after(&self, root: Uuid, after: Cursor) -> Result<(Vec<StoredEvent>, u64), StoreError> {
        // One statement, so that both are of the same snapshot.
        let sql = format!(
            "SELECT {}, pg_snapshot_xmin(pg_current_snapshot())::text AS horizon FROM events \
             WHERE root_id = $1 AND (xid, position) > ($2::text::xid8, $3) ORDER BY xid, position",
            frame::COLUMNS
        );
        let rows =
            sqlx::query(&sql).bind(root).bind(after.xid.to_string()).bind(after.position).fetch_all(&self.pool).await?;
        let horizon = match rows.first() {
            Some(row) => row.try_get::<String, _>("horizon")?.parse().unwrap_or(0),
            None => 0,
        };
        Ok((frame::stored(rows)?, horizon))
    }
}
