//! How a projection follows the log: by the stream while every message follows the one before, by the log otherwise.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use futures::{FutureExt, StreamExt};
use polyphony_bus::{Bus, EventDelivery};
use polyphony_domain::record::{Cursor, StoredEvent};
use polyphony_eventstore::Store;
use polyphony_platform::config::ProjectorConfig;
use tokio_util::sync::CancellationToken;

use crate::{
    ProjectionError,
    checkpoint::{self, Checkpoint},
    message_thread::MessageThread,
    model::{self, RowModel},
    session_list::SessionList,
    typed,
    usage::UsageFacts,
};

/// How often lag is measured.
const LAG_PERIOD: Duration = Duration::from_secs(2);
/// Most events counted for the lag.
const LAG_LIMIT: u32 = 100_000;

/// What a projector needs.
pub struct Deps {
    /// The log, and the tables.
    pub store: Store,
    /// The stream.
    pub bus: Bus,
    /// The analytics.
    pub clickhouse: clickhouse::Client,
    /// Batch and poll.
    pub config: ProjectorConfig,
}

/// Applies batches of stored events. One transaction, or one that can be done again without harm.
pub(crate) trait Projection: Send + Sync {
    fn name(&self) -> &'static str;

    fn apply(
        &self,
        deps: &Deps,
        from: Checkpoint,
        events: Vec<StoredEvent>,
    ) -> impl Future<Output = Result<Cursor, ProjectionError>> + Send;
}

/// A Postgres read model as a projection.
pub(crate) struct Rows<M>(std::marker::PhantomData<M>);

impl<M: RowModel> Rows<M> {
    pub(crate) const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<M: RowModel> Projection for Rows<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    async fn apply(&self, deps: &Deps, from: Checkpoint, events: Vec<StoredEvent>) -> Result<Cursor, ProjectionError> {
        let Some(to) = events.last().map(|event| event.cursor) else { return Ok(from.cursor) };
        let (events, poison) = typed::read(&deps.store, events).await?;
        let mut transaction = deps.store.pool().begin().await?;
        // First of all: whoever comes second waits here, and is sent away.
        checkpoint::advance(&mut transaction, M::NAME, from, to).await?;
        checkpoint::park(&mut transaction, M::NAME, &poison).await?;
        model::apply::<M>(&mut transaction, M::TABLE, &events).await?;
        transaction.commit().await?;
        Ok(to)
    }
}

/// Runs all projections until `stop`.
pub async fn run_all(deps: Deps, stop: CancellationToken) {
    let deps = Arc::new(deps);
    tokio::join!(
        run(Rows::<SessionList>::new(), deps.clone(), stop.clone()),
        run(Rows::<MessageThread>::new(), deps.clone(), stop.clone()),
        run(UsageFacts, deps, stop),
    );
}

/// Runs one projection until `stop`. Whatever fails is tried again: a projection may be late, never wrong.
async fn run<P: Projection>(projection: P, deps: Arc<Deps>, stop: CancellationToken) {
    let mut pause = Duration::from_millis(100);
    while !stop.is_cancelled() {
        match follow(&projection, &deps, &stop).await {
            Ok(()) => return,
            Err(ProjectionError::Fenced) => pause = Duration::from_millis(20),
            Err(error) => {
                let name = projection.name();
                tracing::warn!(projection = name, error = &error as &dyn std::error::Error, "a projection stumbled");
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn follow<P: Projection>(projection: &P, deps: &Deps, stop: &CancellationToken) -> Result<(), ProjectionError> {
    let name = projection.name();
    let mut at = checkpoint::load(deps.store.pool(), name).await?;
    // Without the stream the polls of the log still do.
    let mut stream = match deps.bus.subscribe_events().await {
        Ok(stream) => stream.boxed(),
        Err(_) => futures::stream::pending().boxed(),
    };
    let poll = Duration::from_millis(deps.config.poll_ms);
    let mut lag = Lag::default();
    catch_up(projection, deps, &mut at, stop).await?;
    while !stop.is_cancelled() {
        lag.measure(deps, name, at.cursor).await?;
        let delivery = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            delivery = tokio::time::timeout(poll, stream.next()) => delivery,
        };
        let Ok(Some(first)) = delivery else {
            catch_up(projection, deps, &mut at, stop).await?;
            continue;
        };
        // Everything that is waiting, in one transaction.
        let mut batch = Batch::new(at.cursor);
        batch.take(first);
        while batch.events.len() < deps.config.batch as usize {
            let Some(Some(next)) = stream.next().now_or_never() else { break };
            batch.take(next);
        }
        let gap = batch.gap;
        if !batch.events.is_empty() {
            at.cursor = projection.apply(deps, at, batch.events).await?;
            deps.bus.poke_projection(name, at.cursor).await;
        }
        if gap {
            catch_up(projection, deps, &mut at, stop).await?;
        }
    }
    Ok(())
}

/// Reads the log until level with it.
async fn catch_up<P: Projection>(
    projection: &P,
    deps: &Deps,
    at: &mut Checkpoint,
    stop: &CancellationToken,
) -> Result<(), ProjectionError> {
    while !stop.is_cancelled() {
        let events = deps.store.read_after(at.cursor, deps.config.batch).await?;
        if events.is_empty() {
            return Ok(());
        }
        at.cursor = projection.apply(deps, *at, events).await?;
        deps.bus.poke_projection(projection.name(), at.cursor).await;
    }
    Ok(())
}

/// Messages that follow one another.
struct Batch {
    last: Cursor,
    events: Vec<StoredEvent>,
    /// A message was missing: the log has to be read.
    gap: bool,
}

impl Batch {
    const fn new(after: Cursor) -> Self {
        Self { last: after, events: Vec::new(), gap: false }
    }

    fn take(&mut self, delivery: EventDelivery) {
        if delivery.event.cursor <= self.last {
            return;
        }
        if self.gap || delivery.previous != self.last {
            self.gap = true;
            return;
        }
        self.last = delivery.event.cursor;
        self.events.push(delivery.event);
    }
}

/// How far a projection is behind.
#[derive(Default)]
struct Lag {
    measured: Option<Instant>,
}

impl Lag {
    async fn measure(&mut self, deps: &Deps, name: &'static str, at: Cursor) -> Result<(), ProjectionError> {
        if self.measured.is_some_and(|measured| measured.elapsed() < LAG_PERIOD) {
            return Ok(());
        }
        self.measured = Some(Instant::now());
        let events = deps.store.count_after(at, LAG_LIMIT).await?;
        let oldest = if events == 0 { None } else { deps.store.read_after(at, 1).await?.pop() };
        let seconds = oldest.map_or(0, |event| (Utc::now() - event.recorded_at).num_milliseconds().max(0));
        metrics::gauge!("polyphony_projection_lag_events", "projection" => name).set(events as f64);
        metrics::gauge!("polyphony_projection_lag_seconds", "projection" => name).set(seconds as f64 / 1e3);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use polyphony_domain::ids::{AccountId, EventId};
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;

    fn delivery(previous: i64, position: i64) -> EventDelivery {
        let cursor = |position| Cursor { xid: 1, position };
        let event = StoredEvent {
            event_id: EventId::default(),
            cursor: cursor(position),
            aggregate_type: "turn".into(),
            aggregate_id: Uuid::nil(),
            sequence: 1,
            event_type: "x".into(),
            event_version: "1".into(),
            root_id: Uuid::nil(),
            owner_id: AccountId::default(),
            recorded_at: Utc::now(),
            payload: Value::Null,
            metadata: Value::Null,
        };
        EventDelivery { event, previous: cursor(previous) }
    }

    #[test]
    fn repeated_messages_are_skipped_and_missing_ones_noticed() {
        let mut batch = Batch::new(Cursor { xid: 1, position: 4 });
        for (previous, position) in [(3, 4), (4, 6), (4, 6), (6, 7)] {
            batch.take(delivery(previous, position));
        }
        assert_eq!((batch.events.len(), batch.last.position, batch.gap), (2, 7, false));
        batch.take(delivery(8, 9));
        batch.take(delivery(9, 10));
        assert_eq!((batch.events.len(), batch.gap), (2, true));
    }
}
