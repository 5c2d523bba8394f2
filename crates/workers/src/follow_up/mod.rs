//! What follows the answers of a turn: the next step of a discussion, a title for the session.
//!
//! Whoever stores the last end of a turn takes the next step; the sweep takes it where that worker died in between.
//! Each step is decided by an aggregate, so that it happens once however many take it.

mod title;

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use polyphony_bus::wire::{Job, JobClass};
use polyphony_domain::{
    ids::{AnswerId, TurnId},
    turn::{Turn, TurnCommand, TurnPurpose},
};
use polyphony_eventstore::{CommandContext, Effect, ExecuteError, NewRun, Root, StoreError, follow_ups::FollowUp};
use polyphony_platform::telemetry::TraceContext;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::completion::Deps;

/// How often the sweep looks.
const PERIOD: Duration = Duration::from_millis(500);
/// How long a step may be left to the worker that stored the last end.
const PATIENCE_SECONDS: u32 = 2;
/// Most turns that one sweep looks at.
const BATCH: u32 = 64;
/// Most answers that one step of a discussion asks for.
const MOST_MEMBERS: usize = 8;

/// After an answer of `turn` has ended: takes the next step, if the turn may have one.
pub(crate) async fn after(deps: &Deps, id: TurnId, turn: &Turn) {
    let Some(prompt) = &turn.prompt else { return };
    if prompt.discussion.is_none() && prompt.parent.is_some() && prompt.purpose.is_conversation() {
        return;
    }
    let step = async {
        match deps.store.follow_up(id).await? {
            Some(follow_up) => run(deps, follow_up).await,
            None => Ok(()),
        }
    };
    if let Err(error) = step.await {
        tracing::warn!(error = &error as &dyn std::error::Error, turn = %id, "what follows a turn is left to the sweep");
    }
}

/// Takes the steps that were left undone, until `stop`.
pub(crate) async fn sweep(deps: Arc<Deps>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match deps.store.due_follow_ups(PATIENCE_SECONDS, BATCH).await {
            Ok(due) => {
                for follow_up in due {
                    if let Err(error) = run(&deps, follow_up).await {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, turn = %follow_up.turn_id, "what follows a turn could not be done");
                    }
                }
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "no turns could be looked for"),
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Takes the next step of a turn whose answers have all ended.
async fn run(deps: &Deps, follow_up: FollowUp) -> Result<(), StoreError> {
    let FollowUp { turn_id, .. } = follow_up;
    let turn = match deps.store.load::<Turn>(turn_id.as_uuid()).await {
        Ok((turn, _)) => turn,
        Err(StoreError::Erased | StoreError::NoDataKey) => return deps.store.end_follow_up(turn_id).await,
        Err(error) => return Err(error),
    };
    if turn.answers.values().any(|answer| !answer.status.is_final()) {
        return Ok(());
    }
    if turn.is_discussing() {
        let Some(turn) = advance(deps, follow_up).await? else { return Ok(()) };
        if turn.is_busy() {
            return Ok(());
        }
    }
    let is_done = match turn.prompt.as_ref().map(|prompt| prompt.purpose) {
        Some(TurnPurpose::Title) => title::apply(deps, follow_up, &turn).await?,
        Some(TurnPurpose::Conversation) => {
            title::request(deps, follow_up, &turn).await?;
            true
        }
        _ => true,
    };
    if is_done { deps.store.end_follow_up(turn_id).await } else { Ok(()) }
}

fn context(follow_up: FollowUp) -> CommandContext {
    CommandContext::internal(follow_up.owner_id, "worker", follow_up.turn_id.as_uuid())
}

/// The flight of an answer that is asked for.
const fn flight(follow_up: FollowUp, turn_id: TurnId, answer_id: AnswerId, turn_version: u64) -> Effect {
    let FollowUp { session_id, owner_id, .. } = follow_up;
    Effect::CreateRun(NewRun { answer_id, turn_id, session_id, owner_id, turn_version, guard: None })
}

/// Has a discussion go on; `None` where others keep changing it, who then see to it.
async fn advance(deps: &Deps, follow_up: FollowUp) -> Result<Option<Turn>, StoreError> {
    let FollowUp { turn_id, session_id, .. } = follow_up;
    let answer_ids: Vec<AnswerId> = (0..MOST_MEMBERS).map(|_| AnswerId::new(Uuid::now_v7())).collect();
    let offered = answer_ids.clone();
    let asked = move |turn: &Turn| -> Vec<AnswerId> {
        offered.iter().filter(|id| turn.answers.contains_key(id)).copied().collect()
    };
    let new = asked.clone();
    let executed = deps
        .store
        .command::<Turn>(context(follow_up), Root::Existing(session_id.as_uuid()))
        .effects(move |turn, version| new(turn).into_iter().map(|id| flight(follow_up, turn_id, id, version)).collect())
        .run(turn_id.as_uuid(), TurnCommand::Advance { answer_ids })
        .await;
    match executed {
        Ok(executed) => {
            publish(deps, follow_up, turn_id, asked(&executed.aggregate)).await;
            Ok(Some(executed.aggregate))
        }
        Err(ExecuteError::Domain(_) | ExecuteError::Conflict) => Ok(None),
        Err(ExecuteError::Store(error)) => Err(error),
    }
}

/// Hints: the answers are promised, and the sweeper of answers knows of them.
async fn publish(deps: &Deps, follow_up: FollowUp, turn_id: TurnId, answers: Vec<AnswerId>) {
    let FollowUp { session_id, owner_id, .. } = follow_up;
    for answer_id in answers {
        let requested_at_ms = Utc::now().timestamp_millis();
        let job = Job { answer_id, turn_id, session_id, owner_id, issue: 1, requested_at_ms, may_stand_alone: true };
        if let Err(error) = deps.bus.publish_job(&job, JobClass::Interactive, &TraceContext::random()).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "a job was not taken; the sweeper will issue it");
        }
    }
    deps.bus.poke_relay().await;
}
