//! Chatting: a prompt becomes a turn in one transaction; everything after that is a hint, a stream, or a view.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::Utc;
use polyphony_bus::wire::{ChunkBody, ChunkFrame, Job, JobClass};
use polyphony_domain::{
    catalog::{DEMO, Model},
    ids::{AccountId, AnswerId, KeyId, SessionId, TurnId},
    session::Session,
    turn::{AnswerRequest, EndFrame, NewAnswer, Params as Sampling, Prompt, Turn, TurnCommand},
};
use polyphony_eventstore::{Effect, Root, idempotency::StoredResponse, load::AnswerPlace};
use polyphony_platform::failpoint;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin, PathId},
    idempotency,
    respond::{Envelope, Success},
    routes::sessions,
    shapes::Message,
    state::AppState,
    stream::{Viewing, last_event_id, sse, wait_for_end},
};

/// The longest that a synchronous request waits. The answer goes on without it.
const SYNC_TIMEOUT: Duration = Duration::from_secs(600);

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(completions))
        .routes(routes!(completions_sync))
        .routes(routes!(stop))
        .routes(routes!(streams))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Completion {
    session_id: Uuid,
    content: String,
    /// Id, name, or `provider/name`; else the session's model, else the first usable one.
    model_id: Option<String>,
    /// The answer to reply to; else the newest of the active branch.
    parent_id: Option<Uuid>,
    #[serde(default)]
    attachments: Vec<Value>,
    #[serde(default)]
    #[schema(value_type = Object)]
    params: Sampling,
}

/// A generation that was asked for.
struct Asked {
    place: AnswerPlace,
    model: String,
    is_new: bool,
}

fn check(state: &AppState, body: &Completion) -> Result<(), ApiError> {
    if body.content.is_empty() {
        return Err(ApiError::invalid("content", "must not be empty"));
    }
    if body.content.len() > state.config.http.message_limit_bytes {
        return Err(ApiError::too_large());
    }
    if !body.attachments.is_empty() {
        return Err(ApiError::invalid("attachments", "files are not offered yet"));
    }
    Ok(())
}

/// The model of a turn: the request's, else the session's, else the demo.
async fn choose<'a>(
    state: &'a AppState,
    owner: AccountId,
    asked: Option<&str>,
    session: &Session,
) -> Result<(&'a Model, Option<KeyId>), ApiError> {
    let model = match asked {
        Some(reference) => {
            state.catalog.resolve(reference).ok_or_else(|| ApiError::invalid("model_id", "there is no such model"))?
        }
        None => match session.model.as_deref().map(|slug| state.catalog.resolve(slug)) {
            Some(model) => model.ok_or_else(|| {
                let message = "this deployment doesn't serve the session's model any more";
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "MODEL_UNAVAILABLE", message)
            })?,
            None => first_usable(state, owner).await?,
        },
    };
    if !state.registry.needs_key(&model.provider) {
        // Where a key isn't needed, one that was stored still counts.
        let key = if model.provider == "demo" { None } else { state.store.usable_key(owner, &model.provider).await? };
        return Ok((model, key));
    }
    match state.store.usable_key(owner, &model.provider).await? {
        Some(key) => Ok((model, Some(key))),
        None => {
            let message = format!("there is no usable key for {}; add one under /keys", model.provider);
            Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "NO_API_KEY", message))
        }
    }
}

async fn first_usable(state: &AppState, owner: AccountId) -> Result<&Model, ApiError> {
    let (keyed, now) = (state.store.keyed_providers(owner).await?, Utc::now());
    let usable = |model: &&Model| {
        let is_choice = model.provider != "demo" && !model.is_retired(now);
        is_choice && (keyed.contains(&model.provider) || !state.registry.needs_key(&model.provider))
    };
    let models = state.catalog.models().iter();
    models
        .clone()
        .find(usable)
        .or_else(|| state.catalog.resolve(DEMO))
        .ok_or_else(|| ApiError::internal("no demo model"))
}

/// The answer that a prompt replies to, and what keeps a second prompt from replying to it meanwhile.
async fn parent(
    state: &AppState,
    session: SessionId,
    given: Option<Uuid>,
) -> Result<(Option<AnswerId>, Option<String>), ApiError> {
    if let Some(given) = given {
        let place = state.store.answer(AnswerId::new(given)).await?.filter(|place| place.session_id == session);
        let place = place.ok_or_else(ApiError::not_found)?;
        let (turn, _) = state.store.load::<Turn>(place.turn_id.as_uuid()).await?;
        let answer = turn.answers.get(&place.answer_id).ok_or_else(ApiError::not_found)?;
        return if answer.status.is_final() { Ok((Some(place.answer_id), None)) } else { Err(ApiError::in_progress()) };
    }
    let newest = state.store.newest_turn(session).await?;
    let parent = match &newest {
        None => None,
        Some((_, turn)) if turn.aggregate.answers.values().any(|answer| !answer.status.is_final()) => {
            return Err(ApiError::in_progress());
        }
        Some((_, turn)) => turn.aggregate.active_answer().map(|(id, _)| id),
    };
    let guard = format!("{session}:{}", parent.map(|parent| parent.to_string()).unwrap_or_default());
    Ok((parent, Some(guard)))
}

/// Posts the prompt, or finds the generation that the same request has begun before.
async fn ask(
    state: &AppState,
    caller: Caller,
    origin: &Origin,
    headers: &HeaderMap,
    body: Completion,
    request_hash: [u8; 32],
) -> Result<(Asked, crate::stream::Ear), ApiError> {
    check(state, &body)?;
    let key = idempotency::key(headers, caller.account_id, request_hash)?;
    if let Some(seen) = idempotency::replay(state, key.as_ref()).await? {
        return reattach(state, caller, &seen.data).await;
    }
    let session_id = SessionId::new(body.session_id);
    let session = sessions::owned(state, caller.account_id, session_id);
    let (session, (parent, guard)) = tokio::try_join!(session, parent(state, session_id, body.parent_id))?;
    let (model, key_id) = choose(state, caller.account_id, body.model_id.as_deref(), &session).await?;
    let (turn_id, answer_id) = (TurnId::new(Uuid::now_v7()), AnswerId::new(Uuid::now_v7()));
    let owner_id = caller.account_id;
    let place = AnswerPlace { answer_id, turn_id, session_id, owner_id };
    let request = AnswerRequest { model: model.reference(), params: body.params, key_id, ..AnswerRequest::default() };
    model.check(&request, &[]).map_err(|unfit| ApiError::unfit(&unfit))?;
    let new = NewAnswer { answer_id, request };
    let prompt = Prompt { session_id, parent, content: body.content.into(), ..Prompt::default() };
    let data = json!({"message_id": answer_id, "user_message_id": turn_id});
    // Before anybody can make the answer, so that nothing of it is missed.
    let ear = state.hub.watch(answer_id);
    let executed = state
        .store
        .command::<Turn>(origin.context(owner_id), Root::Existing(session_id.as_uuid()))
        .from_nothing()
        .effects(move |_, turn_version| {
            let guard = guard.clone();
            vec![Effect::CreateRun { answer_id, turn_id, session_id, owner_id, turn_version, guard }]
        })
        .idempotent(key.clone(), move |_| StoredResponse { status: 200, data: data.clone() })
        .run(turn_id.as_uuid(), TurnCommand::Post { prompt, answers: vec![new] })
        .await;
    if let Err(error) = executed {
        // The same request won on another connection: its generation is this one's too.
        if error.refused() == Some(polyphony_eventstore::error::Refused::IdempotencyKeyUsed)
            && let Some(seen) = idempotency::replay(state, key.as_ref()).await?
        {
            return reattach(state, caller, &seen.data).await;
        }
        return Err(error.into());
    }
    failpoint!("api.after_commit");
    // From here on everything is a hint: the answer is promised, and the sweeper knows of it.
    let job =
        Job { answer_id, turn_id, session_id, owner_id, issue: 1, requested_at_ms: Utc::now().timestamp_millis() };
    let (bus, trace) = (state.bus.clone(), origin.meta.trace.child());
    tokio::spawn(async move {
        if let Err(error) = bus.publish_job(&job, JobClass::Interactive, &trace).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a job was not taken; the sweeper will issue it");
        }
        failpoint!("api.after_publish");
        bus.poke_relay().await;
    });
    failpoint!("api.before_reply");
    Ok((Asked { place, model: model.name.clone(), is_new: true }, ear))
}

async fn reattach(state: &AppState, caller: Caller, data: &Value) -> Result<(Asked, crate::stream::Ear), ApiError> {
    let id = data["message_id"].as_str().and_then(|id| id.parse().ok()).ok_or_else(ApiError::not_found)?;
    watch(state, caller, id).await
}

/// Begins to watch an answer of the caller.
async fn watch(state: &AppState, caller: Caller, id: AnswerId) -> Result<(Asked, crate::stream::Ear), ApiError> {
    let ear = state.hub.watch(id);
    let place = state.store.answer(id).await?.filter(|place| place.owner_id == caller.account_id);
    let place = place.ok_or_else(ApiError::not_found)?;
    let (turn, _) = state.store.load::<Turn>(place.turn_id.as_uuid()).await?;
    let answer = turn.answers.get(&id).ok_or_else(ApiError::not_found)?;
    Ok((Asked { place, model: answer.model.name.clone(), is_new: false }, ear))
}

impl Asked {
    fn viewing(self, after: Option<crate::stream::Position>) -> Viewing {
        Viewing { place: self.place, model: self.model, after, is_new: self.is_new }
    }
}

/// Asks a model. The answer streams back; with `Accept: application/json` only its ids come, at once.
#[utoipa::path(post, path = "/chat/completions", tag = "chat", request_body = Completion,
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 202, body = Envelope<Value>)))]
async fn completions(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: body, request_hash }: Body<Completion>,
) -> Result<Response, ApiError> {
    let wants_ids = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| {
        accept
            .split(',')
            .next()
            .is_some_and(|first| first.split(';').next().unwrap_or_default().trim() == "application/json")
    });
    let (asked, ear) = ask(&state, caller, &origin, &headers, body, request_hash).await?;
    if wants_ids {
        let place = asked.place;
        let url = format!("/api/v1/chat/streams/{}", place.answer_id);
        let data = json!({"message_id": place.answer_id, "user_message_id": place.turn_id, "stream_url": url});
        return Ok(Success::accepted(data).into_response());
    }
    Ok(sse(state, asked.viewing(None), ear))
}

/// Asks a model and waits for the whole answer.
#[utoipa::path(post, path = "/chat/completions/sync", tag = "chat", request_body = Completion,
    responses((status = 200, body = Envelope<Message>)))]
async fn completions_sync(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: body, request_hash }: Body<Completion>,
) -> Result<Success<Message>, ApiError> {
    let (asked, ear) = ask(&state, caller, &origin, &headers, body, request_hash).await?;
    let id = asked.place.answer_id;
    let waiting = wait_for_end(state.clone(), asked.viewing(None), ear);
    if tokio::time::timeout(SYNC_TIMEOUT, waiting).await.is_err() {
        let error =
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, "PROVIDER_TIMEOUT", "the answer takes very long; it goes on");
        return Err(error.with_detail("message_id", id.to_string()));
    }
    let (row, versions) =
        state.reads.message(caller.account_id, id.as_uuid()).await?.ok_or_else(ApiError::not_found)?;
    if let Some(error) = &row.error {
        return Err(ApiError::of_answer(&error.code, &error.message).with_detail("message_id", id.to_string()));
    }
    Ok(Success::ok((row, versions).into()))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StopBody {
    /// All answers of a session that are in the making.
    session_id: Option<Uuid>,
    /// One answer.
    message_id: Option<Uuid>,
}

/// Stops answers; the text so far is kept. Stopping what has ended changes nothing.
#[utoipa::path(post, path = "/chat/stop", tag = "chat", request_body = StopBody,
    responses((status = 202, body = Envelope<Value>)))]
async fn stop(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    Body { value: body, .. }: Body<StopBody>,
) -> Result<Success<Value>, ApiError> {
    let places = match (body.session_id, body.message_id) {
        (Some(session), None) => {
            let session = SessionId::new(session);
            sessions::owned(&state, caller.account_id, session).await?;
            let runs = state.store.runs_of_session(session).await?;
            runs.into_iter()
                .map(|run| AnswerPlace {
                    answer_id: run.answer_id,
                    turn_id: run.turn_id,
                    session_id: run.session_id,
                    owner_id: run.owner_id,
                })
                .collect()
        }
        (None, Some(message)) => {
            let place = state.store.answer(AnswerId::new(message)).await?;
            vec![place.filter(|place| place.owner_id == caller.account_id).ok_or_else(ApiError::not_found)?]
        }
        _ => return Err(ApiError::invalid("session_id", "exactly one of session_id and message_id is needed")),
    };
    for place in &places {
        stop_one(&state, &origin, *place).await?;
    }
    let ids: Vec<AnswerId> = places.iter().map(|place| place.answer_id).collect();
    Ok(Success::accepted(json!({ "message_ids": ids })))
}

/// Has one answer stop.
pub async fn stop_one(state: &AppState, origin: &Origin, place: AnswerPlace) -> Result<(), ApiError> {
    let AnswerPlace { answer_id, turn_id, session_id, owner_id } = place;
    let executed = state
        .store
        .command::<Turn>(origin.context(owner_id), Root::Existing(session_id.as_uuid()))
        .effects(move |turn: &Turn, _| {
            let ended = turn.answers.get(&answer_id).is_some_and(|answer| answer.status.is_final());
            vec![if ended { Effect::EndRun { answer_id, attempt: 0 } } else { Effect::RequestStop { answer_id } }]
        })
        .run(turn_id.as_uuid(), TurnCommand::Stop { answer_id })
        .await?;
    state.bus.publish_stop(answer_id).await;
    state.bus.poke_relay().await;
    // It ended here and now, before any worker began: its viewers are told from here.
    if executed.cursor.is_some()
        && let Some(answer) = executed.aggregate.answers.get(&answer_id)
        && let Some(end) = EndFrame::of(answer_id, answer)
    {
        let frame = ChunkFrame { attempt: 1, n: end.n, body: ChunkBody::Done(end.data.to_string().into()) };
        state.bus.chunk_publisher(owner_id, answer_id).publish(&frame).await.ok();
    }
    Ok(())
}

/// An answer as a stream: from the beginning, or after `Last-Event-ID`; live or finished, on any node.
#[utoipa::path(get, path = "/chat/streams/{message_id}", tag = "chat", params(("message_id" = Uuid, Path)),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
async fn streams(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId<AnswerId>,
) -> Result<Response, ApiError> {
    let after = last_event_id(&headers)?;
    let (asked, ear) = watch(&state, caller, id).await?;
    Ok(sse(state, asked.viewing(after), ear))
}
