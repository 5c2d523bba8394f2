//! One attempt at an answer: take the lease, ask the model, store the end. The end is stored exactly once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use polyphony_bus::{
    JobDelivery,
    wire::{ChunkBody, Job},
};
use polyphony_domain::turn::{Answer, AttemptReason, EndFrame, EndKind, Turn};
use polyphony_eventstore::{
    CommandContext, StoreError,
    load::{SessionLog, Versioned},
};
use polyphony_platform::{failpoint, mutated};
use polyphony_providers::{Adapter, ErrorKind, ProviderError, ProviderKey};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    Deps, compaction,
    context::{self, Ask, Prepared},
    emitter::Emitter,
    generate::{Ended, Generation, Interrupts, Report},
    leases::{Leases, Signals},
    live::Live,
    next::{Trail, Way, key_of},
    record::{Made, end},
};
use crate::{follow_up, routing::Call};

/// Attempts before an answer fails for good: its workers keep dying, or its providers keep failing.
const MOST_ATTEMPTS: u32 = 8;

/// What is to become of the job.
pub(super) enum Outcome {
    /// The answer has ended, or somebody else has it.
    Settled,
    /// Deliver it again after this time.
    Retry(Duration),
}

/// Works on a job.
pub(super) async fn run(
    deps: Arc<Deps>,
    leases: Arc<Leases>,
    delivery: JobDelivery,
    hand_over: CancellationToken,
) -> Outcome {
    let job = &delivery.job;
    let span = tracing::info_span!(
        "worker.completion.run",
        trace_id = %delivery.trace.trace_id(),
        answer = %job.answer_id,
        session = %job.session_id,
    );
    // This process is at it already: the job came twice.
    let Some(signals) = leases.register(job.answer_id) else { return Outcome::Settled };
    let worker = Worker { deps: &deps, leases: &leases, delivery: &delivery, signals: &signals, hand_over: &hand_over };
    let outcome = worker.run().instrument(span.clone()).await;
    leases.release(job.answer_id);
    outcome.unwrap_or_else(|error| {
        let _entered = span.enter();
        // Nobody can ever read an answer to it.
        if matches!(error, StoreError::Erased) {
            return Outcome::Settled;
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "an attempt could not go on");
        Outcome::Retry(Duration::from_secs(2))
    })
}

/// A worker at one answer.
pub(super) struct Worker<'a> {
    pub(super) deps: &'a Arc<Deps>,
    pub(super) leases: &'a Leases,
    delivery: &'a JobDelivery,
    pub(super) signals: &'a Signals,
    hand_over: &'a CancellationToken,
}

/// An attempt that holds the lease.
pub(super) struct Started {
    pub(super) log: SessionLog,
    pub(super) turn: Versioned<Turn>,
    pub(super) answer: Answer,
    pub(super) attempt: u32,
    pub(super) reason: AttemptReason,
    pub(super) since: Instant,
}

impl Worker<'_> {
    pub(super) fn job(&self) -> &Job {
        &self.delivery.job
    }

    pub(super) fn context(&self) -> CommandContext {
        let mut context = CommandContext::internal(self.job().owner_id, "worker", self.job().answer_id.as_uuid());
        context.traceparent = Some(self.delivery.trace.to_string());
        context
    }

    fn interrupts(&self) -> Interrupts<'_> {
        Interrupts { signals: self.signals, hand_over: self.hand_over }
    }

    async fn run(&self) -> Result<Outcome, StoreError> {
        failpoint!("worker.job_received");
        let mut trail = Trail::default();
        let Some(mut started) = self.start(&mut trail).await? else { return Ok(Outcome::Settled) };
        failpoint!("worker.after_lease");
        let answer_id = self.job().answer_id;
        let live = Live::default();
        live.begin(started.attempt, &started.answer.model.name);
        let serving = self.deps.bus.serve_chunk_state(answer_id, {
            let live = live.clone();
            move || live.lock().clone().into()
        });
        let serving = serving.await;
        self.deps.switchboard.first_call();
        loop {
            let publisher = self.deps.bus.chunk_publisher(self.job().owner_id, answer_id);
            let mut emitter = Emitter::new(publisher, started.attempt, live.clone());
            if started.attempt > 1 {
                self.say_restart(&started, &mut emitter);
            }
            let mut made = self.generate(&started, &mut trail, &mut emitter).await?;
            match made.ended {
                Ended::Lost => {
                    tracing::info!(attempt = started.attempt, "the attempt was taken over");
                    return Ok(Outcome::Settled);
                }
                Ended::HandOver => {
                    self.deps.store.hand_over(&self.deps.name, answer_id, started.attempt).await?;
                    return Ok(Outcome::Retry(Duration::ZERO));
                }
                Ended::Finished(_) | Ended::Stopped | Ended::Failed(_) => emitter.flush(),
            }
            if mutated!("skip_fence") {
                self.usurp(&mut started).await?;
            }
            let compaction = made.compaction.take();
            let next = self.next(&started, &mut trail, &made.ended, &live).await?;
            let shown = live.lock().clone();
            let record = self.record(&started, &mut made, shown, emitter.first_chunk).await;
            if let (Some((reason, model)), Ended::Failed(error)) = (next, &made.ended) {
                match self.go_on(started, record, error, reason, model).await? {
                    Some(next) => started = next,
                    None => return Ok(Outcome::Settled),
                }
                live.begin(started.attempt, &started.answer.model.name);
                continue;
            }
            failpoint!("worker.before_end_event");
            let stop = &started.answer.request.params.stop;
            let stored = self.store_end(&started, end(made.ended, record, stop)).await?;
            failpoint!("worker.after_end_event");
            if let Some(answer) = stored {
                self.announce(&answer, &mut emitter);
                emitter.settle().await;
                self.deps.bus.purge_ended(self.job().owner_id, answer_id);
                if let Some(range) = compaction {
                    compaction::order(self.deps, self.job(), &answer, range, &self.delivery.trace).await;
                }
                self.deps.bus.poke_relay().await;
                follow_up::after(self.deps, self.job().turn_id, &started.turn.aggregate).await;
            }
            drop(serving);
            return Ok(Outcome::Settled);
        }
    }

    /// The mistake of a worker that thinks the newest attempt its own.
    async fn usurp(&self, started: &mut Started) -> Result<(), StoreError> {
        let (aggregate, version) = self.deps.store.load::<Turn>(self.job().turn_id.as_uuid()).await?;
        started.attempt = aggregate.answers.get(&self.job().answer_id).map_or(started.attempt, |answer| answer.attempt);
        started.turn = Versioned { aggregate, version };
        Ok(())
    }

    /// What is to be tried next: only after a failure, and only while no text was shown.
    async fn next(
        &self,
        started: &Started,
        trail: &mut Trail,
        ended: &Ended,
        live: &Live,
    ) -> Result<Option<(AttemptReason, polyphony_domain::turn::ModelRef)>, StoreError> {
        let Ended::Failed(error) = ended else { return Ok(None) };
        if started.attempt >= MOST_ATTEMPTS || !live.lock().text.is_empty() {
            return Ok(None);
        }
        let prompt = started.turn.aggregate.prompt.as_ref();
        trail.next(self.deps, self.job().owner_id, &started.answer, prompt, error).await
    }

    async fn generate(&self, started: &Started, trail: &mut Trail, emitter: &mut Emitter) -> Result<Made, StoreError> {
        if started.answer.stop_requested {
            return Ok(Made::unsent(Ended::Stopped));
        }
        if started.attempt > MOST_ATTEMPTS {
            let error = ProviderError::new(ErrorKind::Interrupted, "the answer's workers kept being lost");
            return Ok(Made::unsent(Ended::Failed(error)));
        }
        let owner = self.job().owner_id;
        let call = loop {
            match trail.way(self.deps, owner, &started.answer.model).await? {
                Way::Free(call) => break call,
                Way::Closed(error) => return Ok(Made::unsent(Ended::Failed(error))),
                Way::Blocked(error) => {
                    let wait = error.retry_after.unwrap_or_default();
                    // A limit passes; what keeps failing isn't waited for.
                    let limited = error.kind == ErrorKind::RateLimited;
                    if !limited || wait > trail.others(self.deps, &started.answer).patience(error.kind) {
                        return Ok(Made::unsent(Ended::Failed(error)));
                    }
                    let wait = crate::routing::pause(1, Some(wait));
                    emitter.say_waiting(wait, error.kind);
                    if let Some(ended) = self.interrupts().wait(wait).await {
                        return Ok(Made::unsent(ended));
                    }
                }
            }
        };
        let made = self.call(started, trail, &call, emitter).await?;
        if let (Ended::Failed(error), Some((key_id, version))) = (&made.ended, call.slot().key)
            && error.kind == ErrorKind::InvalidKey
            // The provider itself has said so.
            && error.status.is_some()
        {
            // The answer doesn't depend on it: a key that can't be marked now is refused again the next time.
            if let Err(error) = self.deps.store.judge_api_key(self.context(), key_id, version, false).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "a refused key could not be marked");
            }
        }
        Ok(made)
    }

    /// Asks the provider with a slot that has been taken.
    async fn call(
        &self,
        started: &Started,
        trail: &Trail,
        call: &Call,
        emitter: &mut Emitter,
    ) -> Result<Made, StoreError> {
        let (key, adapter) = match self.open(started, call).await? {
            Ok(opened) => opened,
            Err(error) => return Ok(Made::unsent(Ended::Failed(error))),
        };
        let answer = &started.answer;
        let key_id = key_of(call);
        let model = &context::known(self.deps, &answer.model);
        let whose = key_id.map_or_else(|| self.job().owner_id.as_uuid(), |key| key.as_uuid());
        let key = key.as_ref();
        let (log, turn) = (&started.log, self.job().turn_id);
        let ask = Ask { log, turn, answer, model, whose, key };
        let generation = Generation {
            adapter: &*adapter,
            key,
            call,
            switchboard: &self.deps.switchboard,
            interrupts: self.interrupts(),
            others: trail.others(self.deps, answer),
        };
        let mut report = Report::default();
        for size in 1.. {
            let Prepared { rendered, receipt, signatures, compaction } =
                match context::prepare(self.deps, &ask, &*adapter).await {
                    Ok(prepared) => prepared,
                    Err(error) => return Ok(Made::unsent(Ended::Failed(error))),
                };
            if mutated!("log_prompt") {
                tracing::info!(body = %String::from_utf8_lossy(&rendered.body), "asking");
            }
            let ended = generation.run(&rendered, emitter, &mut report).await;
            // While nothing was shown, what the provider finds too long is made shorter, and what it doesn't take back of
            // its signatures is left out: they are for one organisation and model, and the rest is still the same.
            let again = emitter.is_untouched() && size < context::MOST_SIZES;
            let lessens = match &ended {
                Ended::Failed(error) if error.kind == ErrorKind::ContextTooLong => {
                    again && self.deps.contexts.refused(model, whose, &receipt)
                }
                Ended::Failed(error) if error.kind == ErrorKind::SignatureRefused => {
                    again && self.deps.contexts.signatures_refused(model, whose, &signatures)
                }
                _ => false,
            };
            if lessens {
                continue;
            }
            return Ok(Made { ended, report, context: Some(receipt), compaction, key_id });
        }
        Ok(Made::unsent(Ended::Lost))
    }

    /// The key of a slot, and the adapter of the host that it is for.
    async fn open(
        &self,
        started: &Started,
        call: &Call,
    ) -> Result<Result<(Option<ProviderKey>, Arc<dyn Adapter>), ProviderError>, StoreError> {
        let registry = &self.deps.registry;
        let provider = &started.answer.model.provider;
        let unserved = || ProviderError::new(ErrorKind::ModelUnavailable, "this deployment doesn't serve the provider");
        let standard = || registry.adapter(provider).ok_or_else(unserved);
        let Some((key_id, _)) = call.slot().key else {
            return Ok(standard().map(|adapter| (registry.operator_key(provider), adapter)));
        };
        let Some(opened) = self.deps.store.open_api_key(self.job().owner_id, key_id).await? else {
            return Ok(Err(ProviderError::new(ErrorKind::InvalidKey, "the provider key has been removed")));
        };
        let adapter = match &opened.base_url {
            Some(base_url) => registry.at_host(provider, base_url, &self.deps.egress),
            None => standard(),
        };
        Ok(adapter.map(|adapter| (Some(ProviderKey::new(opened.secret)), adapter)))
    }

    fn say_restart(&self, started: &Started, emitter: &mut Emitter) {
        let reason = match started.reason {
            AttemptReason::ProviderFailed => "provider_failed",
            AttemptReason::Failover => "failover",
            AttemptReason::First | AttemptReason::LeaseExpired | AttemptReason::HandedOver => "worker_lost",
        };
        let restart = json!({
            "message_id": self.job().answer_id, "attempt": started.attempt, "model": started.answer.model.name,
            "reason": reason,
        });
        emitter.send_control(0, ChunkBody::Restart(restart.to_string().into()));
    }

    /// Tells the viewers how it ended.
    fn announce(&self, answer: &Answer, emitter: &mut Emitter) {
        metrics::counter!("polyphony_answers_total", "outcome" => answer.status.as_str()).increment(1);
        let Some(frame) = EndFrame::of(self.job().answer_id, answer) else { return };
        let body = match frame.kind {
            EndKind::Done => ChunkBody::Done(frame.data.to_string().into()),
            EndKind::Error => ChunkBody::Error(frame.data.to_string().into()),
        };
        emitter.send_control(frame.n, body);
    }
}
