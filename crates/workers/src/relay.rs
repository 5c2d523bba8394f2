//! The relay: follows the log in commit order and publishes it to the EVENTS stream.
//!
//! One process leads, by an advisory lock on its own connection; its checkpoint is compare-and-set with an epoch,
//! so a leader that was cut off and comes back can publish nothing that matters: readers check that each message
//! follows the one before it, and dedupe by position. The statement that moves the checkpoint also adds the events to
//! the audit chain.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, Stream, StreamExt, future::try_join_all};
use polyphony_bus::Bus;
use polyphony_domain::record::{Cursor, StoredEvent};
use polyphony_eventstore::{
    Store, StoreError,
    audit::{AuditKeys, Chain},
    logged,
    relay_state::Leadership,
};
use polyphony_platform::{config::RelayConfig, failpoint};
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

/// How often somebody who doesn't lead asks whether the lead is free.
const CANDIDATE_POLL: Duration = Duration::from_secs(1);
/// How often horizon, partitions and old idempotency keys are looked after.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How often deleted sessions are looked for whose undo time is over.
const ERASURE: Duration = Duration::from_secs(5);
/// Most sessions that are erased in one go.
const ERASED_AT_ONCE: u32 = 100;
/// How often the slow part of it is: partitions and old keys.
const DAILY: Duration = Duration::from_secs(6 * 3600);
/// Days that an idempotency key is kept.
const IDEMPOTENCY_DAYS: i32 = 30;

#[derive(Debug, Error)]
enum RelayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the stream did not take an event")]
    Publish(#[from] polyphony_bus::BusError),
}

/// Runs the relay until `stop`: leads, or waits for the lead.
pub async fn run(store: Store, bus: Bus, config: RelayConfig, keys: Arc<AuditKeys>, stop: CancellationToken) {
    let mut failures = 0_u32;
    while !stop.is_cancelled() {
        let pause = match store.lead_relay().await {
            Ok(Some((leadership, cursor))) => {
                tracing::info!(xid = cursor.xid, position = cursor.position, "leading the relay");
                match lead(&store, &bus, &config, leadership, cursor, keys.clone(), &stop).await {
                    Ok(()) => failures = 0,
                    Err(error) => {
                        failures = failures.saturating_add(1);
                        tracing::warn!(error = &error as &dyn std::error::Error, "the relay lost its lead");
                    }
                }
                CANDIDATE_POLL / 4 * (1 << failures.min(4))
            }
            Ok(None) => CANDIDATE_POLL,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the relay can't reach the database");
                CANDIDATE_POLL
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Publishes until `stop`, until another leader takes over, or until something fails.
async fn lead(
    store: &Store,
    bus: &Bus,
    config: &RelayConfig,
    mut leadership: Leadership,
    mut cursor: Cursor,
    keys: Arc<AuditKeys>,
    stop: &CancellationToken,
) -> Result<(), RelayError> {
    let Some(mut chain) = Chain::take_up(store, &mut leadership, cursor, keys).await? else {
        tracing::warn!("another leader has taken the relay over");
        return Ok(());
    };
    let mut pokes = bus.subscribe_relay_pokes().await?;
    let mut poll = interval(Duration::from_millis(config.poll_ms));
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut housekeeping = Housekeeping::default();
    while !stop.is_cancelled() {
        housekeeping.run(store, bus, config).await?;
        let rows = store.read_logged_after(cursor, config.batch).await?;
        let events = rows.iter().map(logged::stored).collect::<Result<Vec<_>, _>>()?;
        if let Some(last) = events.last().map(|event| event.cursor) {
            failpoint!("relay.before_publish");
            publish(bus, cursor, &events).await?;
            failpoint!("relay.after_publish");
            if !chain.advance(&mut leadership, cursor, last, &rows).await? {
                tracing::warn!("another leader has taken the relay over");
                return Ok(());
            }
            metrics::counter!("polyphony_relay_published_total").increment(events.len() as u64);
            cursor = last;
            // A full batch means there is more.
            if events.len() as u64 >= u64::from(config.batch) {
                continue;
            }
        }
        tokio::select! {
            _ = poll.tick() => {}
            poke = pokes.next() => match poke {
                Some(()) => gather(&mut pokes, config).await,
                None => pokes = bus.subscribe_relay_pokes().await?,
            },
            () = stop.cancelled() => {}
        }
    }
    Ok(leadership.resign().await?)
}

/// Lets what follows a poke closely come with it: one read of the log, one batch for every view. It also leaves the
/// first moments after a command to the answer, for which somebody waits, while nobody waits for a view.
async fn gather(pokes: &mut (impl Stream<Item = ()> + Unpin), config: &RelayConfig) {
    sleep(Duration::from_millis(config.gather_ms)).await;
    while pokes.next().now_or_never().flatten().is_some() {}
}

/// Publishes a batch, pipelined: the messages go out in order, the acknowledgements are awaited together.
async fn publish(bus: &Bus, after: Cursor, events: &[StoredEvent]) -> Result<(), RelayError> {
    let mut previous = after;
    let mut acks = Vec::with_capacity(events.len());
    for event in events {
        acks.push(bus.publish_event(event, previous).await?);
        previous = event.cursor;
    }
    try_join_all(acks).await?;
    Ok(())
}

/// What the leader looks after besides publishing.
#[derive(Default)]
struct Housekeeping {
    horizon: Option<Instant>,
    erasure: Option<Instant>,
    daily: Option<Instant>,
}

impl Housekeeping {
    async fn run(&mut self, store: &Store, bus: &Bus, config: &RelayConfig) -> Result<(), StoreError> {
        if is_due(&mut self.horizon, HOUSEKEEPING) {
            let age = store.horizon_age_seconds().await?;
            metrics::gauge!("polyphony_relay_horizon_age_seconds").set(age);
        }
        if is_due(&mut self.erasure, ERASURE) {
            for due in store.sessions_to_erase(config.undo_seconds, ERASED_AT_ONCE).await? {
                store.erase_session(due).await?;
                bus.poke_erased(due.session_id.as_uuid()).await;
                tracing::info!(session = %due.session_id, "a deleted session was erased");
            }
        }
        if is_due(&mut self.daily, DAILY) {
            let made = store.ensure_partitions().await?;
            let forgotten = store.forget_idempotency_keys(IDEMPOTENCY_DAYS).await?;
            tracing::debug!(made, forgotten, "partitions made, idempotency keys forgotten");
        }
        Ok(())
    }
}

fn is_due(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}
