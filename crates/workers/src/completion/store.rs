//! What a worker writes: the start of an attempt, one attempt giving way to the next, and the end, exactly once.

use std::time::{Duration, Instant};

use polyphony_domain::turn::{
    Answer, AnswerEnd, AttemptReason, AttemptRecord, ModelRef, NextAttempt, Turn, TurnCommand, TurnError,
};
use polyphony_eventstore::{
    Effect, ExecuteError, Executed, Root, StoreError, error::Refused, load::Versioned, seats::Aftermath,
};
use polyphony_platform::patience;
use polyphony_providers::ProviderError;

use super::{
    attempt::{Started, Worker},
    next::Trail,
    record::describe,
};

/// Tries to store something while the database is away; with the pauses between them, a little over a minute.
const STORE_TRIES: u32 = 9;
/// Longest pause between two of them.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

impl Worker<'_> {
    /// Takes the next attempt; `None` when there is nothing to do.
    pub(super) async fn start(&self, trail: &mut Trail) -> Result<Option<Started>, StoreError> {
        let job = self.job();
        let log = if job.may_stand_alone {
            self.deps.store.log_for(job.session_id, job.turn_id).await?
        } else {
            self.deps.store.session_log(job.session_id).await?
        };
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
            // A fallback that was turned to stays, and the price that goes with it.
            model: Some(answer.model.clone()),
        };
        let (answer_id, lease_seconds) = (job.answer_id, self.deps.config.lease_seconds);
        let started = self
            .deps
            .store
            .command::<Turn>(self.context(), Root::Existing(job.session_id.as_uuid()))
            .from_known(turn.aggregate.clone(), turn.version)
            .effects(move |_, _| vec![Effect::StartRun { answer_id, attempt, worker: worker.clone(), lease_seconds }])
            .run(job.turn_id.as_uuid(), command);
        // The commit has to wait for the disk; the keys are found meanwhile. What fails here is tried where they are needed.
        let (started, _) = tokio::join!(started, trail.look_up(self.deps, job.owner_id, &answer.model.provider));
        match started {
            Ok(executed) => {
                self.leases.started(job.answer_id, attempt);
                let Some(answer) = executed.aggregate.answers.get(&job.answer_id).cloned() else { return Ok(None) };
                let turn = Versioned { aggregate: executed.aggregate, version: executed.version };
                Ok(Some(Started { log, turn, answer, attempt, reason, since: Instant::now() }))
            }
            // Another worker has it, or it has just ended.
            Err(ExecuteError::Store(StoreError::Refused(Refused::RunTaken)) | ExecuteError::Domain(_)) => Ok(None),
            Err(ExecuteError::Conflict) => Err(StoreError::Refused(Refused::RunTaken)),
            Err(ExecuteError::Store(error)) => Err(error),
        }
    }

    /// Stores that an attempt failed and begins the next one, in one transaction; `None` when it has been taken over.
    pub(super) async fn go_on(
        &self,
        failed: Started,
        record: AttemptRecord,
        error: &ProviderError,
        reason: AttemptReason,
        model: ModelRef,
    ) -> Result<Option<Started>, StoreError> {
        let (answer_id, attempt) = (self.job().answer_id, failed.attempt + 1);
        let (worker, lease_seconds) = (self.deps.name.clone(), self.deps.config.lease_seconds);
        tracing::info!(attempt, ?reason, model = %model.name, kind = ?error.kind, "another attempt follows");
        let next = NextAttempt { worker: worker.clone(), reason, model };
        let (record, error) = (Box::new(record), describe(error));
        let command = TurnCommand::FailAttempt { answer_id, record, error, next };
        let effect = Effect::ContinueRun { answer_id, attempt, worker, lease_seconds };
        // The old attempt's lease is not renewed meanwhile: that would look as if it had been lost.
        self.leases.pause(answer_id);
        let Some(executed) = self.store(&failed.turn, command, effect).await? else { return Ok(None) };
        let Some(answer) = executed.aggregate.answers.get(&answer_id).cloned() else { return Ok(None) };
        if executed.cursor.is_none() {
            // The commit may have gone through with its answer lost, or somebody else has begun an attempt of the same
            // number: whose it is, the lease says.
            let held = [(answer_id, attempt)];
            let kept = self.deps.store.renew_leases(&self.deps.name, &held, self.deps.config.lease_seconds).await?;
            if kept.is_empty() || answer.status.is_final() {
                return Ok(None);
            }
        }
        self.leases.started(answer_id, attempt);
        let word = if reason == AttemptReason::Failover { "failover" } else { "provider_failed" };
        metrics::counter!("polyphony_attempts_failed_total", "reason" => word).increment(1);
        let turn = Versioned { aggregate: executed.aggregate, version: executed.version };
        Ok(Some(Started { log: failed.log, turn, answer, attempt, reason, since: Instant::now() }))
    }

    /// Stores the end; `None` when another attempt has taken over meanwhile, so that this one counts for nothing.
    pub(super) async fn store_end(&self, started: &Started, end: AnswerEnd) -> Result<Option<Answer>, StoreError> {
        let (answer_id, attempt) = (self.job().answer_id, started.attempt);
        let command = TurnCommand::End { answer_id, end: Box::new(end) };
        let executed = self.store(&started.turn, command, Effect::EndRun { answer_id, attempt }).await?;
        if executed.as_ref().is_some_and(|executed| executed.after.seated) {
            self.deps.bus.poke_sweeper().await;
        }
        let answer = executed.and_then(|executed| executed.aggregate.answers.get(&answer_id).cloned());
        Ok(answer.filter(|answer| answer.attempt == attempt && answer.status.is_final()))
    }

    /// Executes a command on the turn, patiently; `None` when another attempt has taken over.
    async fn store(
        &self,
        turn: &Versioned<Turn>,
        command: TurnCommand,
        effect: Effect,
    ) -> Result<Option<Executed<Turn>>, StoreError> {
        let turn_id = self.job().turn_id.as_uuid();
        let mut pause = Duration::from_millis(250);
        for tried in 1.. {
            let effect = effect.clone();
            let result = self
                .deps
                .store
                .command::<Turn>(self.context(), Root::Existing(self.job().session_id.as_uuid()))
                .from_known(turn.aggregate.clone(), turn.version)
                .effects(move |_, _| vec![effect.clone()])
                .run(turn_id, command.clone())
                .await;
            match result {
                Ok(executed) => return Ok(Some(executed)),
                Err(ExecuteError::Domain(TurnError::AlreadyEnded | TurnError::Superseded)) => {
                    // Ours, if the commit of the try before this one went through and only its answer was lost: the
                    // caller sees by the attempt.
                    let (aggregate, version) = self.deps.store.load::<Turn>(turn_id).await?;
                    return Ok(Some(Executed { aggregate, version, cursor: None, after: Aftermath::default() }));
                }
                Err(ExecuteError::Domain(_) | ExecuteError::Store(StoreError::Refused(_))) => return Ok(None),
                Err(ExecuteError::Store(error)) if !error.is_unavailable() || tried >= STORE_TRIES => {
                    return Err(error);
                }
                Err(ExecuteError::Conflict | ExecuteError::Store(_)) => {
                    tracing::warn!(tried, "what came of an attempt could not be stored yet");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.signals.lost.cancelled() => return Ok(None),
                    }
                    pause = (pause * 2).min(patience!("worker.store_pause", LONGEST_PAUSE));
                }
            }
        }
        Ok(None)
    }
}
