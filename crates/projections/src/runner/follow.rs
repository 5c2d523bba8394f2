//! Following the log: by the stream while every message follows the one before, by the log itself otherwise.

use std::time::Duration;

use futures::{FutureExt, StreamExt, stream::BoxStream};
use polyphony_bus::EventDelivery;
use polyphony_domain::record::{Cursor, StoredEvent};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Deps, Projection, lag::Lag, patience};
use crate::{
    ProjectionError,
    checkpoint::{self, Checkpoint},
};

/// One projection on its way through the log.
pub(super) struct Follower<'a, P> {
    projection: &'a P,
    deps: &'a Deps,
    stop: &'a CancellationToken,
    lag: Lag,
    /// When the last batch was applied.
    applied: Option<Instant>,
}

impl<'a, P: Projection> Follower<'a, P> {
    pub(super) fn new(projection: &'a P, deps: &'a Deps, stop: &'a CancellationToken) -> Self {
        Self { projection, deps, stop, lag: Lag::default(), applied: None }
    }

    /// Whether it has applied anything.
    pub(super) const fn has_moved(&self) -> bool {
        self.applied.is_some()
    }

    /// Follows until `stop` or until something fails.
    pub(super) async fn run(&mut self) -> Result<(), ProjectionError> {
        let name = self.projection.name();
        let mut at = checkpoint::load(self.deps.store.pool(), name).await?;
        self.projection.prepare(self.deps, at).await?;
        // Before the first look into the log, so that nothing falls between the two.
        let mut stream: BoxStream<'static, EventDelivery> = match self.deps.bus.subscribe_events().await {
            Ok(stream) => stream.boxed(),
            // Without the stream the polls of the log still do.
            Err(_) => futures::stream::pending().boxed(),
        };
        let poll = Duration::from_millis(self.deps.config.poll_ms);
        self.catch_up(&mut at).await?;
        while !self.stop.is_cancelled() {
            self.lag.measure(self.deps, name, at.cursor).await?;
            let delivery = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                delivery = timeout(poll, stream.next()) => delivery,
            };
            match delivery {
                Ok(Some(first)) => {
                    let batch = self.collect(at.cursor, first, &mut stream).await;
                    let gap = batch.gap;
                    self.apply(&mut at, batch.events).await?;
                    if gap {
                        self.catch_up(&mut at).await?;
                    }
                }
                Ok(None) => {
                    // The client has gone for good, and ends every stream at once from now on.
                    stream = futures::stream::pending().boxed();
                    self.catch_up(&mut at).await?;
                }
                Err(_) => self.catch_up(&mut at).await?,
            }
        }
        Ok(())
    }

    /// Everything that is waiting in the stream, and what comes while the projection lingers.
    async fn collect(
        &self,
        after: Cursor,
        first: EventDelivery,
        stream: &mut BoxStream<'static, EventDelivery>,
    ) -> Batch {
        let full = self.deps.config.batch as usize;
        let until = self.applied.map(|applied| applied + self.projection.linger());
        let mut batch = Batch::new(after);
        batch.take(first);
        while batch.events.len() < full && !batch.gap {
            let next = match until.filter(|until| *until > Instant::now()) {
                None => stream.next().now_or_never().flatten(),
                Some(until) => tokio::select! {
                    () = self.stop.cancelled() => None,
                    next = timeout_at(until, stream.next()) => next.ok().flatten(),
                },
            };
            let Some(next) = next else { break };
            batch.take(next);
        }
        batch
    }

    /// Reads the log until level with it.
    async fn catch_up(&mut self, at: &mut Checkpoint) -> Result<(), ProjectionError> {
        while !self.stop.is_cancelled() {
            let events = self.deps.store.read_after(at.cursor, self.deps.config.batch).await?;
            if events.is_empty() {
                return Ok(());
            }
            self.apply(at, events).await?;
            self.lag.measure(self.deps, self.projection.name(), at.cursor).await?;
        }
        Ok(())
    }

    async fn apply(&mut self, at: &mut Checkpoint, events: Vec<StoredEvent>) -> Result<(), ProjectionError> {
        if events.is_empty() {
            return Ok(());
        }
        at.cursor = patience::apply(self.projection, self.deps, *at, events).await?;
        self.applied = Some(Instant::now());
        self.deps.bus.poke_projection(self.projection.name(), at.cursor).await;
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use chrono::Utc;
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
