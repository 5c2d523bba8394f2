//! The completion worker: takes jobs, runs attempts, keeps their leases, drains when it is told to stop.

mod attempt;
mod compaction;
mod context;
mod emitter;
mod generate;
mod leases;
mod live;
mod next;
mod purpose;
mod record;
mod store;

use std::{sync::Arc, time::Duration};

use polyphony_bus::{Bus, wire::JobClass};
use polyphony_domain::catalog::Catalog;
use polyphony_eventstore::Store;
use polyphony_platform::{config::WorkerConfig, failpoint, http::EgressPolicy, mutated};
use polyphony_providers::{context::Contexts, registry::Registry};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{attempt::Outcome, leases::Leases};
use crate::{follow_up, routing::Switchboard};

/// Everything that an attempt needs; shared by all of them.
pub struct Deps {
    /// The log.
    pub store: Store,
    /// Jobs and chunks.
    pub bus: Bus,
    /// Model adapters.
    pub registry: Registry,
    /// Models and prices.
    pub catalog: Arc<Catalog>,
    /// What this process has learnt about keys and hosts.
    pub switchboard: Arc<Switchboard>,
    /// Where a key's own base URL may point.
    pub egress: Arc<EgressPolicy>,
    /// Slots, lease, drain.
    pub config: WorkerConfig,
    /// Name of this process in leases and events.
    pub name: String,
    /// Token counts, and what was learned about models.
    pub contexts: Contexts,
}

/// Runs until `stop`; then takes no new job, lets the running attempts finish for the drain time, and hands the
/// rest over to other workers.
///
/// # Errors
/// The job stream can't be consumed at all.
pub async fn run(deps: Deps, stop: CancellationToken) -> Result<(), polyphony_bus::BusError> {
    let deps = Arc::new(deps);
    let leases = Leases::new(deps.clone());
    let hand_over = CancellationToken::new();
    let background = TaskTracker::new();
    let finished = CancellationToken::new();
    background.spawn(leases.clone().keep(finished.clone()));
    background.spawn(leases.clone().follow_stops(finished.clone()));
    background.spawn(follow_up::sweep(deps.clone(), finished.clone()));
    // Nobody's first answer is to wait for it.
    let contexts = deps.contexts.clone();
    background.spawn(async move { contexts.warm_up().await });

    let slots = Arc::new(Semaphore::new(deps.config.slots as usize));
    let attempts = TaskTracker::new();
    let mut jobs = deps.bus.job_consumer(JobClass::Interactive, &deps.config).await?;
    loop {
        let permit = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            permit = slots.clone().acquire_owned() => permit,
        };
        let Ok(permit) = permit else { break };
        let delivery = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            delivery = jobs.next() => delivery,
        };
        let (deps, leases, hand_over) = (deps.clone(), leases.clone(), hand_over.clone());
        attempts.spawn(async move {
            let _permit = permit;
            let answer = delivery.job.answer_id;
            if mutated!("ack_early") {
                delivery.ack().await.unwrap_or_default();
            }
            let mut work = tokio::spawn(attempt::run(deps.clone(), leases.clone(), delivery.clone(), hand_over));
            let heartbeat = Duration::from_secs(deps.config.heartbeat_seconds.into());
            let finished = loop {
                match tokio::time::timeout(heartbeat, &mut work).await {
                    Ok(finished) => break finished,
                    // Only a hint too: the lease in Postgres is what holds the answer.
                    Err(_) => delivery.progress().await.unwrap_or_default(),
                }
            };
            let mut broken = None;
            let outcome = finished.unwrap_or_else(|error| {
                // A panic in one attempt is that attempt's end, not the worker's. The next attempt may fare better.
                tracing::error!(%answer, panic = error.is_panic(), "an attempt broke");
                broken = leases.release(answer);
                Outcome::Retry(Duration::from_secs(1))
            });
            // Its lease is given back, so that the next attempt needn't wait for its end.
            if let Some(attempt) = broken
                && let Err(error) = deps.store.hand_over(&deps.name, answer, attempt).await
            {
                tracing::warn!(%answer, error = &error as &dyn std::error::Error, "a lease could not be given back");
            }
            failpoint!("worker.before_ack", return);
            let acked = match outcome {
                Outcome::Settled => delivery.ack().await,
                Outcome::Retry(after) => delivery.nak(after).await,
            };
            if let Err(error) = acked {
                // Only a hint is lost: the job comes again and finds its answer ended.
                tracing::debug!(%answer, error = &error as &dyn std::error::Error, "a job was not acknowledged");
            }
        });
    }
    drop(jobs);
    attempts.close();
    let grace = Duration::from_secs(deps.config.drain_seconds.into());
    tracing::info!(running = attempts.len(), grace_seconds = grace.as_secs(), "draining");
    if tokio::time::timeout(grace, attempts.wait()).await.is_err() {
        tracing::info!(running = attempts.len(), "handing over what is still running");
        hand_over.cancel();
        attempts.wait().await;
    }
    finished.cancel();
    background.close();
    background.wait().await;
    Ok(())
}
