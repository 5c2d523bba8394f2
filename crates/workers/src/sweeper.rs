//! The sweeper: gives free seats to answers that wait, and issues a job for every answer that nobody works on.
//!
//! It is what makes the message bus disposable. A lost job, a dead worker and a deleted stream all look the same
//! here: a row without a living lease.

use std::time::Duration;

use futures::StreamExt;
use polyphony_bus::{
    Bus, BusError,
    wire::{Job, JobClass},
};
use polyphony_eventstore::Store;
use polyphony_platform::{mutated, telemetry::TraceContext};
use tokio_util::sync::CancellationToken;

/// How often it looks when nobody pokes it.
const PERIOD: Duration = Duration::from_millis(500);
/// How long a job may lie before it is issued a second time; it doubles with each further time.
const PATIENCE_SECONDS: u32 = 2;
/// Most jobs issued in one go.
const BATCH: u32 = 256;

/// Runs until `stop`. Several may run side by side: they skip what another has locked.
pub async fn run(store: Store, bus: Bus, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = follow(&store, &bus, &stop).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the sweeper can't be poked");
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

async fn follow(store: &Store, bus: &Bus, stop: &CancellationToken) -> Result<(), BusError> {
    let mut pokes = bus.subscribe_sweeper_pokes().await?;
    while !stop.is_cancelled() {
        if let Err(error) = sweep(store, bus).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the sweeper can't reach the database");
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            poke = pokes.next() => if poke.is_none() { return Ok(()) },
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

async fn sweep(store: &Store, bus: &Bus) -> Result<(), polyphony_eventstore::StoreError> {
    if mutated!("no_sweep") {
        return Ok(());
    }
    if store.anybody_waits().await? {
        let seated = store.seat_waiting().await?;
        metrics::counter!("polyphony_answers_seated_total").increment(seated);
    }
    for run in store.reissue_runs(PATIENCE_SECONDS, BATCH).await? {
        let job = Job {
            answer_id: run.answer_id,
            turn_id: run.turn_id,
            session_id: run.session_id,
            owner_id: run.owner_id,
            issue: run.issues,
            requested_at_ms: run.requested_at.timestamp_millis(),
            may_stand_alone: true,
        };
        // The first time is that of an answer which waited for its seat.
        if run.issues > 1 {
            tracing::info!(answer = %run.answer_id, attempt = run.attempt, issue = run.issues, "issuing a job again");
            metrics::counter!("polyphony_jobs_reissued_total").increment(1);
        }
        if let Err(error) = bus.publish_job(&job, JobClass::Interactive, &TraceContext::random()).await {
            // The row stays: the next round tries again.
            tracing::warn!(error = &error as &dyn std::error::Error, answer = %run.answer_id, "a job was not taken");
        }
    }
    Ok(())
}
