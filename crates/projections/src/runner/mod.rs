//! How the projections run: each for itself, for ever, whatever fails.

mod follow;
mod lag;
mod patience;

use std::{marker::PhantomData, sync::Arc, time::Duration};

use polyphony_bus::Bus;
use polyphony_domain::record::{Cursor, StoredEvent};
use polyphony_eventstore::Store;
use polyphony_platform::{config::ProjectorConfig, failpoint, mutated};
use tokio_util::sync::CancellationToken;

use self::follow::Follower;
use crate::{
    ProjectionError,
    checkpoint::{self, Checkpoint},
    message_thread::MessageThread,
    model::{self, RowModel},
    session_list::SessionList,
    typed::{self, Poison},
    usage::UsageFacts,
};

/// First pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Longest wait of a projector that was fenced out before it looks again.
const LONGEST_STANDBY: Duration = Duration::from_secs(1);

/// Shortest time between two batches of rows: under load one transaction carries what came meanwhile, instead of one for
/// each command. A reader of its own writes waits longer by that much at most.
const LINGER: Duration = Duration::from_millis(15);

/// What a projector needs.
#[derive(Clone)]
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
    /// Name of its checkpoint.
    fn name(&self) -> &'static str;

    /// Shortest time between two batches while events keep coming.
    fn linger(&self) -> Duration {
        Duration::ZERO
    }

    /// Makes ready what batches are written into.
    fn prepare(&self, _deps: &Deps, _at: Checkpoint) -> impl Future<Output = Result<(), ProjectionError>> + Send {
        async { Ok(()) }
    }

    /// Applies events that follow the checkpoint, and moves it; says where to.
    fn apply(
        &self,
        deps: &Deps,
        from: Checkpoint,
        events: Vec<StoredEvent>,
    ) -> impl Future<Output = Result<Cursor, ProjectionError>> + Send;

    /// Puts the event after the checkpoint aside, and moves past it.
    fn skip(
        &self,
        deps: &Deps,
        from: Checkpoint,
        event: Poison,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send {
        async move {
            let mut transaction = deps.store.begin().await?;
            checkpoint::advance(&mut transaction, self.name(), from, event.cursor).await?;
            checkpoint::park(&mut transaction, self.name(), &[event]).await?;
            Ok(transaction.commit().await?)
        }
    }
}

/// A Postgres read model as a projection.
pub(crate) struct Rows<M>(PhantomData<M>);

impl<M: RowModel> Rows<M> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<M: RowModel> Projection for Rows<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn linger(&self) -> Duration {
        LINGER
    }

    async fn apply(&self, deps: &Deps, from: Checkpoint, events: Vec<StoredEvent>) -> Result<Cursor, ProjectionError> {
        let Some(to) = events.last().map(|event| event.cursor) else { return Ok(from.cursor) };
        let events = typed::read_all(&deps.store, events.into_iter().filter(M::wants).collect()).await?;
        let mut transaction = deps.store.begin().await?;
        // First of all: whoever comes second waits here, and is sent away.
        checkpoint::advance(&mut transaction, M::NAME, from, to).await?;
        failpoint!("projector.before_rows", {
            if mutated!("swallow_projection_error") {
                transaction.commit().await?;
                return Ok(to);
            }
            return Err(sqlx::Error::WorkerCrashed.into());
        });
        model::apply::<M>(&mut transaction, M::TABLE, &events).await?;
        failpoint!("projector.before_commit");
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
        run(UsageFacts::default(), deps, stop),
    );
}

/// Runs one projection until `stop`. Whatever fails is tried again: a projection may be late, never wrong.
pub(crate) async fn run<P: Projection>(projection: P, deps: Arc<Deps>, stop: CancellationToken) {
    let mut next_pause = FIRST_PAUSE;
    while !stop.is_cancelled() {
        let mut follower = Follower::new(&projection, &deps, &stop);
        let result = follower.run().await;
        if follower.has_moved() {
            next_pause = FIRST_PAUSE;
        }
        let pause = match result {
            Ok(()) => return,
            Err(_) if mutated!("give_up") => return,
            // The other one is at it: stand by for a moment, then see whether it still is.
            Err(ProjectionError::Fenced) => Duration::from_millis(deps.config.poll_ms).min(LONGEST_STANDBY),
            Err(error) => {
                let name = projection.name();
                tracing::warn!(projection = name, error = &error as &dyn std::error::Error, "a projection stumbled");
                let pause = next_pause;
                next_pause = (pause * 2).min(LONGEST_PAUSE);
                pause
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}
