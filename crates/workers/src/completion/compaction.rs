//! Summarising what had no room: a hidden turn, posted after the answer that had to do without, for those after it.
//!
//! It is a hint for later turns, so nothing here can fail an answer: what isn't posted now is thought of again when the
//! next turn lacks room.

use chrono::Utc;
use polyphony_bus::wire::{Job, JobClass};
use polyphony_domain::{
    context::{Range, summariser},
    ids::AnswerId,
    turn::{Answer, NewAnswer, Turn, TurnCommand},
};
use polyphony_eventstore::{CommandContext, Effect, ExecuteError, NewRun, Root, StoreError};
use polyphony_platform::telemetry::TraceContext;
use uuid::Uuid;

use super::{Deps, context};

/// Has a range summarised, unless it is already, or another summary of the session is in the making.
pub(super) async fn order(deps: &Deps, job: &Job, answer: &Answer, range: Range, trace: &TraceContext) {
    match post(deps, job, answer, range, trace).await {
        Ok(()) => {}
        // The range has its turn already, or another summary of this session is being made.
        Err(ExecuteError::Domain(_) | ExecuteError::Conflict | ExecuteError::Store(StoreError::Refused(_))) => {}
        Err(ExecuteError::Store(error)) => {
            tracing::warn!(session = %job.session_id, error = &error as &dyn std::error::Error, "no summary was ordered");
        }
    }
}

async fn post(
    deps: &Deps,
    job: &Job,
    answer: &Answer,
    range: Range,
    trace: &TraceContext,
) -> Result<(), ExecuteError<polyphony_domain::turn::TurnError>> {
    let own = context::known(deps, &answer.model);
    let model = summariser(deps.catalog.models(), &own, Utc::now());
    let (session_id, owner_id) = (job.session_id, job.owner_id);
    let (turn_id, answer_id) = (range.turn_id(), AnswerId::new(Uuid::now_v7()));
    let (prompt, mut request) = range.order(session_id, false, model, answer.request.key_id);
    if model.id != own.id {
        request.fallbacks = vec![own.reference()];
    }
    let mut context = CommandContext::internal(owner_id, "worker", job.answer_id.as_uuid());
    context.traceparent = Some(trace.to_string());
    // One summary of a session at a time.
    let guard = Some(format!("{session_id}:summary"));
    deps.store
        .command::<Turn>(context, Root::Existing(session_id.as_uuid()))
        .effects(move |_, turn_version| {
            let guard = guard.clone();
            vec![Effect::CreateRun(NewRun { answer_id, turn_id, session_id, owner_id, turn_version, guard })]
        })
        .run(turn_id.as_uuid(), TurnCommand::Post { prompt, answers: vec![NewAnswer { answer_id, request }] })
        .await?;
    let job = Job {
        answer_id,
        turn_id,
        session_id,
        owner_id,
        issue: 1,
        requested_at_ms: Utc::now().timestamp_millis(),
        may_stand_alone: true,
    };
    if let Err(error) = deps.bus.publish_job(&job, JobClass::Interactive, trace).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "a job was not taken; the sweeper will issue it");
    }
    Ok(())
}
