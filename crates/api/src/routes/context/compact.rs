//! Summarising a conversation now, and taking that back.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use chrono::Utc;
use polyphony_bus::wire::{Job, JobClass};
use polyphony_domain::{
    context::{Range, Thread, summariser},
    ids::{AnswerId, SessionId, TurnId},
    session::{Session, SessionCommand},
    turn::{NewAnswer, Turn, TurnCommand},
};
use polyphony_eventstore::{Effect, NewRun, Root, idempotency::StoredResponse, load::SessionLog};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    error::ApiError,
    extract::{Caller, OptionalBody, Origin, PathId},
    idempotency,
    respond::{Envelope, Success},
    state::AppState,
};

const HERE: &str = "/api/v1/chat/context";

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(compact, dismiss))
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Compact {
    /// Model that summarises: id, name, or `provider/name`; else a cheap one of the session's provider.
    model_id: Option<String>,
    /// The last message of the active branch that the summary is to stand for; else all but the newest exchange.
    last_message_id: Option<Uuid>,
}

/// Summarises the conversation now. The messages stay as they are; from the next turn on the summary stands for them in
/// what models are shown. It streams under its `message_id` like any answer.
#[utoipa::path(post, path = "/chat/context/{session_id}/compact", tag = "chat", request_body = Compact,
    params(("session_id" = Uuid, Path)), responses((status = 202, body = Envelope<Value>)))]
async fn compact(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    PathId(session_id): PathId<SessionId>,
    OptionalBody { value: body, request_hash }: OptionalBody<Compact>,
) -> Result<Success<Value>, ApiError> {
    let owner_id = caller.account_id;
    let key = idempotency::key(&headers, owner_id, request_hash)?;
    if let Some(seen) = idempotency::replay(&state, key.as_ref()).await? {
        return Ok(Success::stored(seen, HERE));
    }
    let log = super::owned(&state, owner_id, session_id).await?;
    let range = range(&log, body.last_message_id)?;
    let model = match body.model_id.as_deref() {
        Some(asked) => super::resolve(&state, asked)?,
        None => summariser(state.catalog.models(), super::model(&state, owner_id, &log, None).await?, Utc::now()),
    };
    let key_id = super::key(&state, owner_id, model).await?;
    if key_id.is_none() && state.registry.needs_key(&model.provider) {
        let message = format!("there is no usable key for {}; add one under /keys", model.provider);
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "NO_API_KEY", message));
    }
    let (turn_id, answer_id) = (TurnId::new(Uuid::now_v7()), AnswerId::new(Uuid::now_v7()));
    let (prompt, request) = range.order(session_id, true, model, key_id);
    let data = json!({
        "message_id": answer_id,
        "session_id": session_id,
        "model_id": model.id,
        "model": model.slug(),
        "first_message_id": range.first,
        "last_message_id": range.parent,
        "stream_url": format!("/api/v1/chat/streams/{answer_id}"),
    });
    let response = StoredResponse { status: 202, data };
    let kept = response.clone();
    // One summary of a session at a time.
    let guard = Some(format!("{session_id}:summary"));
    let done = state
        .store
        .command::<Turn>(origin.context(owner_id), Root::Existing(session_id.as_uuid()))
        .from_nothing()
        .effects(move |_, turn_version| {
            let guard = guard.clone();
            vec![Effect::CreateRun(NewRun { answer_id, turn_id, session_id, owner_id, turn_version, guard })]
        })
        .idempotent(key.clone(), move |_| kept.clone())
        .run(turn_id.as_uuid(), TurnCommand::Post { prompt, answers: vec![NewAnswer { answer_id, request }] })
        .await;
    let is_new = done.is_ok();
    let response = idempotency::settle(&state, key.as_ref(), done.map(|_| response).map_err(ApiError::from)).await?;
    if is_new {
        let requested_at_ms = Utc::now().timestamp_millis();
        let job = Job { answer_id, turn_id, session_id, owner_id, issue: 1, requested_at_ms, may_stand_alone: true };
        let (bus, trace) = (state.bus.clone(), origin.meta.trace.child());
        tokio::spawn(async move {
            if let Err(error) = bus.publish_job(&job, JobClass::Interactive, &trace).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a job was not taken; the sweeper will issue it"
                );
            }
            bus.poke_relay().await;
        });
    }
    Ok(Success::stored(response, HERE))
}

/// What is to be summarised of the active branch: up to a message, or all but the newest exchange.
fn range(log: &SessionLog, last_message: Option<Uuid>) -> Result<Range, ApiError> {
    let history = log.history();
    let tip = super::tip(log).ok_or_else(|| ApiError::conflict("there is nothing to summarise yet"))?;
    if history.answer(tip).is_some_and(|answer| !answer.status.is_final()) {
        return Err(ApiError::in_progress());
    }
    let thread = Thread::before(&history, Some(tip));
    let range = match last_message {
        None => thread.range_to_summarise(&vec![1; thread.entries.len()], 0),
        Some(id) => {
            let outside = || ApiError::invalid("last_message_id", "is no message of the active branch");
            Some(thread.range_up_to(id).ok_or_else(outside)?)
        }
    };
    range.ok_or_else(|| ApiError::conflict("there is nothing to summarise yet"))
}

/// Takes the summaries of the active branch back: models are shown the messages themselves again, as far as they fit.
#[utoipa::path(delete, path = "/chat/context/{session_id}/compact", tag = "chat", params(("session_id" = Uuid, Path)),
    responses((status = 200, body = Envelope<Value>)))]
async fn dismiss(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathId(session): PathId<SessionId>,
) -> Result<Success<Value>, ApiError> {
    let mut dismissed: Vec<AnswerId> = Vec::new();
    loop {
        let log = super::owned(&state, caller.account_id, session).await?;
        // Dismissing one brings up the version before it, if there is one.
        let thread = Thread::before(&log.history(), super::tip(&log));
        let Some(summary) = thread.summaries.first().map(|summary| summary.answer_id) else { break };
        state
            .store
            .command::<Session>(origin.context(caller.account_id), Root::Existing(session.as_uuid()))
            .from_known(log.session.aggregate, log.session.version)
            .run(session.as_uuid(), SessionCommand::DismissSummary { summary })
            .await?;
        dismissed.push(summary);
    }
    if !dismissed.is_empty() {
        state.bus.poke_relay().await;
    }
    Ok(Success::ok(json!({ "dismissed": dismissed })))
}
