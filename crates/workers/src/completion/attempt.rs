//! One attempt at an answer: take the lease, ask the model, store the end. The end is stored exactly once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use polyphony_bus::{
    JobDelivery,
    wire::{ChunkBody, ChunkState, Job},
};
use polyphony_domain::{
    ids::{AnswerId, TurnId},
    turn::{
        Answer, AnswerEnd, AttemptReason, AttemptRecord, EndFrame, EndKind, ErrorRecord, Finish, Timings, Turn,
        TurnCommand, TurnError, UsageRecord,
    },
};
use polyphony_eventstore::{
    CommandContext, Effect, ExecuteError, Root, StoreError,
    error::Refused,
    load::{SessionLog, Versioned},
};
use polyphony_providers::{ErrorKind, ProviderError, ProviderKey, tokens};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use super::{
    Deps,
    emitter::Emitter,
    generate::{Ended, Generation, Report, millis_since},
    leases::{Leases, Signals},
    live::Live,
    prompt,
};

/// Attempts before an answer fails for good: its workers keep dying, or keep being replaced.
const MOST_ATTEMPTS: u32 = 5;
/// Tries to store an end while the database is away; with the pauses between them, a little over a minute.
const STORE_TRIES: u32 = 9;

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

struct Worker<'a> {
    deps: &'a Arc<Deps>,
    leases: &'a Leases,
    delivery: &'a JobDelivery,
    signals: &'a Signals,
    hand_over: &'a CancellationToken,
}

/// An attempt that holds the lease.
struct Started {
    log: SessionLog,
    turn: Versioned<Turn>,
    answer: Answer,
    attempt: u32,
    since: Instant,
}

impl Worker<'_> {
    fn job(&self) -> &Job {
        &self.delivery.job
    }

    fn context(&self) -> CommandContext {
        let mut context = CommandContext::internal(self.job().owner_id, "worker", self.job().answer_id.as_uuid());
        context.traceparent = Some(self.delivery.trace.to_string());
        context
    }

    async fn run(&self) -> Result<Outcome, StoreError> {
        let Some(started) = self.start().await? else { return Ok(Outcome::Settled) };
        let answer_id = self.job().answer_id;
        let live = Live::default();
        let publisher = self.deps.bus.chunk_publisher(self.job().owner_id, answer_id);
        let mut emitter = Emitter::new(publisher, started.attempt, live.clone());
        let serving = self.deps.bus.serve_chunk_state(answer_id, {
            let (live, attempt) = (live.clone(), started.attempt);
            move || {
                let shown = live.lock();
                let (text, reasoning) = (shown.text.clone(), shown.reasoning.clone());
                ChunkState { attempt, text, reasoning, chunks: shown.chunks.clone() }
            }
        });
        let serving = serving.await;
        if started.attempt > 1 {
            let restart = json!({
                "message_id": answer_id, "attempt": started.attempt, "model": started.answer.model.name,
                "reason": "worker_lost",
            });
            emitter.send_control(0, ChunkBody::Restart(restart.to_string().into()));
        }
        let (ended, report, request_hash) = self.generate(&started, &mut emitter).await?;
        if matches!(ended, Ended::Lost) {
            tracing::info!(attempt = started.attempt, "the attempt was taken over");
            return Ok(Outcome::Settled);
        }
        if matches!(ended, Ended::HandOver) {
            self.deps.store.hand_over(&self.deps.name, answer_id, started.attempt).await?;
            return Ok(Outcome::Retry(Duration::ZERO));
        }
        emitter.flush();
        let first_chunk = emitter.first_chunk;
        let end = self.end(&started, ended, report, first_chunk, &live, request_hash).await;
        let stored = self.store_end(&started, end).await?;
        if let Some(answer) = stored {
            self.announce(&answer, &mut emitter);
            emitter.settle().await;
            self.deps.bus.poke_relay().await;
        }
        drop(serving);
        Ok(Outcome::Settled)
    }

    /// Takes the next attempt; `None` when there is nothing to do.
    async fn start(&self) -> Result<Option<Started>, StoreError> {
        let job = self.job();
        let log = self.deps.store.session_log(job.session_id).await?;
        let Some(turn) = log.turns.get(&job.turn_id) else { return Ok(None) };
        let Some(answer) = turn.aggregate.answers.get(&job.answer_id) else { return Ok(None) };
        if answer.status.is_final() {
            return Ok(None);
        }
        let attempt = answer.attempt + 1;
        let reason = match answer.attempt {
            0 => AttemptReason::First,
            _ => match self.deps.store.run(job.answer_id).await? {
                Some(run) if run.handed_over => AttemptReason::HandedOver,
                _ => AttemptReason::LeaseExpired,
            },
        };
        let worker = self.deps.name.clone();
        let command = TurnCommand::StartAttempt {
            answer_id: job.answer_id,
            attempt,
            worker: worker.clone(),
            reason,
            model: None,
        };
        let (answer_id, lease_seconds) = (job.answer_id, self.deps.config.lease_seconds);
        let started = self
            .deps
            .store
            .command::<Turn>(self.context(), Root::Existing(job.session_id.as_uuid()))
            .from_known(turn.aggregate.clone(), turn.version)
            .effects(move |_, _| vec![Effect::StartRun { answer_id, attempt, worker: worker.clone(), lease_seconds }])
            .run(job.turn_id.as_uuid(), command)
            .await;
        match started {
            Ok(executed) => {
                self.leases.started(job.answer_id, attempt);
                let Some(answer) = executed.aggregate.answers.get(&job.answer_id).cloned() else { return Ok(None) };
                let turn = Versioned { aggregate: executed.aggregate, version: executed.version };
                Ok(Some(Started { log, turn, answer, attempt, since: Instant::now() }))
            }
            // Another worker has it, or it has just ended.
            Err(ExecuteError::Store(StoreError::Refused(Refused::RunTaken)) | ExecuteError::Domain(_)) => Ok(None),
            Err(ExecuteError::Conflict) => Err(StoreError::Refused(Refused::RunTaken)),
            Err(ExecuteError::Store(error)) => Err(error),
        }
    }

    async fn generate(&self, started: &Started, emitter: &mut Emitter) -> Result<(Ended, Report, String), StoreError> {
        let answer = &started.answer;
        if answer.stop_requested {
            return Ok((Ended::Stopped, Report::default(), String::new()));
        }
        if started.attempt > MOST_ATTEMPTS {
            let error = ProviderError::new(ErrorKind::Interrupted, "the answer's workers kept being lost");
            return Ok((Ended::Failed(error), Report::default(), String::new()));
        }
        let unavailable = |message: &str| {
            let error = ProviderError::new(ErrorKind::ModelUnavailable, message);
            (Ended::Failed(error), Report::default(), String::new())
        };
        let Some(adapter) = self.deps.registry.adapter(&answer.model.provider) else {
            return Ok(unavailable("this deployment doesn't serve the model's provider any more"));
        };
        let mut own_host = None;
        let mut key = None;
        if let Some(key_id) = answer.request.key_id {
            let Some(opened) = self.deps.store.open_api_key(self.job().owner_id, key_id).await? else {
                let error = ProviderError::new(ErrorKind::InvalidKey, "the provider key has been removed");
                return Ok((Ended::Failed(error), Report::default(), String::new()));
            };
            if let Some(base_url) = &opened.base_url {
                own_host = match self.deps.registry.at_host(&answer.model.provider, base_url, &self.deps.egress) {
                    Ok(adapter) => Some(adapter),
                    Err(error) => return Ok((Ended::Failed(error), Report::default(), String::new())),
                };
            }
            key = Some(ProviderKey::new(opened.secret));
        } else if let Some(operators) = self.deps.registry.operator_key(&answer.model.provider) {
            key = Some(operators);
        }
        let adapter = own_host.unwrap_or(adapter);
        let conversation = prompt::conversation(&started.log, self.job().turn_id);
        let rendered = adapter.render(&conversation, &prompt::options(answer));
        let request_hash: String = Sha256::digest(&rendered.body).iter().map(|byte| format!("{byte:02x}")).collect();
        let generation = Generation {
            adapter: &*adapter,
            rendered,
            key: key.as_ref(),
            signals: self.signals,
            hand_over: self.hand_over,
        };
        let (ended, report) = generation.run(emitter).await;
        if let (Ended::Failed(error), Some(key_id)) = (&ended, answer.request.key_id)
            && error.kind == ErrorKind::InvalidKey
        {
            self.deps.store.mark_key_refused(key_id).await?;
        }
        Ok((ended, report, request_hash))
    }

    async fn end(
        &self,
        started: &Started,
        ended: Ended,
        report: Report,
        first_chunk: Option<Instant>,
        live: &Live,
        request_hash: String,
    ) -> AnswerEnd {
        let shown = live.lock().clone();
        let usage = match report.usage {
            Some(usage) => UsageRecord {
                input: usage.input,
                output: usage.output,
                cached_input: usage.cached_input.unwrap_or(0),
                reasoning: usage.reasoning.unwrap_or(0),
                estimated: false,
                raw: usage.raw.to_string(),
            },
            // Nothing was sent, so nothing was used.
            None if request_hash.is_empty() => UsageRecord::default(),
            None => self.estimate(started, &shown.text, &shown.reasoning).await,
        };
        let model = self.deps.catalog.resolve(&started.answer.model.id.to_string());
        let queue_ms = Utc::now().timestamp_millis() - self.job().requested_at_ms;
        let total_ms = millis_since(started.since);
        let first_chunk_ms =
            first_chunk.map(|first| u64::try_from(first.duration_since(started.since).as_millis()).unwrap_or(u64::MAX));
        let record = AttemptRecord {
            attempt: started.attempt,
            model: started.answer.model.clone(),
            reasoning: Some(shown.reasoning).filter(|text| !text.is_empty()).map(Into::into),
            text: shown.text.into(),
            chunks: shown.chunks,
            cost: model.map(|model| model.cost(&usage)).unwrap_or_default(),
            price_version: model.map(|model| model.price_version.clone()).unwrap_or_default(),
            usage,
            timings: Timings {
                queue_ms: u64::try_from(queue_ms).unwrap_or(0).saturating_sub(total_ms),
                first_chunk_ms,
                total_ms,
            },
            request_hash,
            parts: vec![],
            key_id: started.answer.request.key_id,
        };
        metrics::histogram!("polyphony_queue_wait_seconds").record(record.timings.queue_ms as f64 / 1e3);
        if let Some(first) = first_chunk_ms {
            metrics::histogram!("polyphony_first_chunk_seconds").record(first as f64 / 1e3);
        }
        match ended {
            Ended::Finished(reason) => AnswerEnd::Completed(record, Finish { reason: reason.as_str().to_owned() }),
            Ended::Failed(error) => {
                let has_text = !record.text.as_str().is_empty();
                let described = ErrorRecord {
                    code: error.api_code().to_owned(),
                    message: error.message.clone(),
                    retryable: error.retryable(),
                };
                if has_text && error.kind == ErrorKind::Interrupted {
                    AnswerEnd::Interrupted(record, described)
                } else {
                    AnswerEnd::Failed(record, described)
                }
            }
            Ended::Stopped | Ended::Lost | Ended::HandOver => AnswerEnd::Stopped(record),
        }
    }

    /// Counts the tokens ourselves, since the provider did not say.
    async fn estimate(&self, started: &Started, text: &str, reasoning: &str) -> UsageRecord {
        let conversation = prompt::conversation(&started.log, self.job().turn_id);
        let provider = started.answer.model.provider.as_str();
        let input = tokens::count_conversation(conversation, provider).await;
        let output = tokens::count_text(format!("{reasoning}{text}"), provider).await;
        UsageRecord { input: input.tokens, output: output.tokens, estimated: true, ..UsageRecord::default() }
    }

    /// Stores the end; `None` when another attempt has taken over meanwhile, so that this one counts for nothing.
    async fn store_end(&self, started: &Started, end: AnswerEnd) -> Result<Option<Answer>, StoreError> {
        let (answer_id, attempt, turn) = (self.job().answer_id, started.attempt, self.job().turn_id);
        let mut pause = Duration::from_millis(250);
        for tried in 1.. {
            let result = self.store_once(&started.turn, turn, answer_id, attempt, end.clone()).await;
            match result {
                Ok(turn) => return Ok(turn.answers.get(&answer_id).cloned()),
                Err(ExecuteError::Domain(TurnError::AlreadyEnded)) => {
                    // Ours, if the commit of the try before this one went through and only its answer was lost.
                    let (turn, _) = self.deps.store.load::<Turn>(turn.as_uuid()).await?;
                    return Ok(turn.answers.get(&answer_id).filter(|answer| answer.attempt == attempt).cloned());
                }
                Err(ExecuteError::Domain(_) | ExecuteError::Store(StoreError::Refused(_))) => return Ok(None),
                Err(ExecuteError::Store(error)) if !error.is_unavailable() || tried >= STORE_TRIES => {
                    return Err(error);
                }
                Err(ExecuteError::Conflict | ExecuteError::Store(_)) => {
                    tracing::warn!(tried, "the end of an answer could not be stored yet");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.signals.lost.cancelled() => return Ok(None),
                    }
                    pause = (pause * 2).min(Duration::from_secs(15));
                }
            }
        }
        Ok(None)
    }

    async fn store_once(
        &self,
        turn: &Versioned<Turn>,
        turn_id: TurnId,
        answer_id: AnswerId,
        attempt: u32,
        end: AnswerEnd,
    ) -> Result<Turn, ExecuteError<TurnError>> {
        let root: Uuid = self.job().session_id.as_uuid();
        self.deps
            .store
            .command::<Turn>(self.context(), Root::Existing(root))
            .from_known(turn.aggregate.clone(), turn.version)
            .effects(move |_, _| vec![Effect::EndRun { answer_id, attempt }])
            .run(turn_id.as_uuid(), TurnCommand::End { answer_id, end: Box::new(end) })
            .await
            .map(|executed| executed.aggregate)
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
