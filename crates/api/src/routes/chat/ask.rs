//! Asking models: one transaction for all that a request asks for, then hints, then a stream.
//!
//! A request that comes again under its idempotency key finds the answers that it asked for before.

use axum::{
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use chrono::Utc;
use polyphony_bus::wire::{Job, JobClass};
use polyphony_domain::{
    ids::{AccountId, AnswerId, SessionId, TurnId},
    session::Session,
    turn::{AnswerRequest, NewAnswer, Prompt, Turn, TurnCommand, TurnPurpose},
};
use polyphony_eventstore::{
    Beside, Effect, NewRun, Root,
    error::Refused,
    follow_ups::FollowUp,
    idempotency::{IdempotencyKey, StoredResponse},
    load::AnswerPlace,
};
use polyphony_platform::failpoint;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    error::ApiError,
    extract::{Caller, Origin},
    idempotency,
    respond::Success,
    routes::sessions,
    state::AppState,
    stream::{Ear, Lane, Resume, Viewing, sse, sse_lanes},
};

/// Who asks, in which request.
pub struct Asker<'a> {
    pub state: &'a AppState,
    pub caller: Caller,
    pub origin: &'a Origin,
    pub key: Option<IdempotencyKey>,
}

/// An answer that is watched.
pub struct Watched {
    pub answer_id: AnswerId,
    /// Name of the model.
    pub model: String,
    pub ear: Ear,
}

/// Answers of one turn, just asked for or found again.
pub struct Generation {
    pub turn_id: TurnId,
    pub session_id: SessionId,
    pub owner_id: AccountId,
    pub lanes: Vec<Watched>,
    /// Whether this request has asked for them.
    pub is_new: bool,
}

/// How many messages of the session were deleted when it was looked at: the same ones are when something is added, or it
/// might be added under one that is gone.
#[derive(Clone, Copy, Debug)]
pub struct Undeleted(u64);

impl Undeleted {
    pub fn of(session: &Session) -> Self {
        Self(session.deleted.len() as u64)
    }
}

/// What keeps the place of a prompt.
#[derive(Clone)]
pub struct Guard {
    /// Refuses a second prompt of the same word while this one is in flight; none where branching was asked for.
    pub alone: Option<String>,
    pub undeleted: Undeleted,
}

impl From<Undeleted> for Guard {
    fn from(undeleted: Undeleted) -> Self {
        Self { alone: None, undeleted }
    }
}

/// What is to be asked, and where.
pub enum Order {
    /// A prompt, with the guard of its place.
    Post { prompt: Box<Prompt>, guard: Guard, follow_up: bool },
    /// More answers to a prompt that is there.
    Add { session_id: SessionId, turn_id: TurnId, undeleted: Undeleted },
}

impl Asker<'_> {
    /// The answers that the same request has asked for before, if it has.
    pub async fn again(&self) -> Result<Option<Generation>, ApiError> {
        match idempotency::replay(self.state, self.key.as_ref()).await? {
            Some(seen) => self.reattach(&seen.data).await.map(Some),
            None => Ok(None),
        }
    }

    async fn reattach(&self, data: &Value) -> Result<Generation, ApiError> {
        let id = |value: &Value| value.as_str().and_then(|id| id.parse::<Uuid>().ok());
        let turn_id = id(&data["user_message_id"]).ok_or_else(ApiError::not_found)?;
        let answers: Vec<AnswerId> =
            data["message_ids"].as_array().into_iter().flatten().filter_map(id).map(AnswerId::new).collect();
        watch(self.state, self.caller, TurnId::new(turn_id), Some(&answers)).await
    }

    /// Asks, or finds what the same request has asked for at the same time.
    pub async fn ask(&self, order: Order, requests: Vec<AnswerRequest>) -> Result<Generation, ApiError> {
        let owner_id = self.caller.account_id;
        // Before anybody can make an answer, so that nothing of it is missed.
        let mut lanes: Vec<Watched> = requests
            .iter()
            .map(|request| {
                let answer_id = AnswerId::new(Uuid::now_v7());
                Watched { answer_id, model: request.model.name.clone(), ear: self.state.hub.watch(answer_id) }
            })
            .collect();
        let ids: Vec<AnswerId> = lanes.iter().map(|lane| lane.answer_id).collect();
        let answers: Vec<NewAnswer> =
            ids.iter().zip(requests).map(|(answer_id, request)| NewAnswer { answer_id: *answer_id, request }).collect();
        let (session_id, turn_id, guard, follow_up, command) = match order {
            Order::Post { prompt, guard, follow_up } => {
                let session_id = prompt.session_id;
                let command = TurnCommand::Post { prompt: *prompt, answers };
                (session_id, TurnId::new(Uuid::now_v7()), guard, follow_up, command)
            }
            Order::Add { session_id, turn_id, undeleted } => {
                (session_id, turn_id, undeleted.into(), false, TurnCommand::AddAnswers { answers })
            }
        };
        let Guard { alone: guard, undeleted: Undeleted(deletions) } = guard;
        let is_post = matches!(command, TurnCommand::Post { .. });
        let data = json!({"message_id": ids.first(), "message_ids": ids, "user_message_id": turn_id});
        let runs = ids.clone();
        let execute = self
            .state
            .store
            .command::<Turn>(self.origin.context(owner_id), Root::Existing(session_id.as_uuid()))
            .effects(move |_, turn_version| {
                // One row can hold the guard; the turn itself says that the others are in the making.
                let guards = std::iter::once(guard.clone()).chain(std::iter::repeat(None));
                let runs = runs.iter().zip(guards).map(|(answer_id, guard)| {
                    let answer_id = *answer_id;
                    Effect::CreateRun(NewRun { answer_id, turn_id, session_id, owner_id, turn_version, guard })
                });
                let follow_up = follow_up.then_some(Effect::CreateFollowUp(FollowUp { turn_id, session_id, owner_id }));
                // The seats come last: their row is locked until the commit.
                follow_up.into_iter().chain(runs).collect()
            })
            .beside(Beside::Others { deletions })
            .idempotent(self.key.clone(), move |_| StoredResponse { status: 200, data: data.clone() });
        let execute = if is_post { execute.from_nothing() } else { execute };
        let (waiting, may_stand_alone) = match execute.run(turn_id.as_uuid(), command).await {
            Ok(executed) => {
                let prompt = executed.aggregate.prompt.as_ref();
                (executed.after.waiting, prompt.is_none_or(|prompt| prompt.given.is_some()))
            }
            Err(error) => {
                // The same request won on another connection: its generation is this one's too.
                if error.refused() == Some(Refused::IdempotencyKeyUsed)
                    && let Some(found) = self.again().await?
                {
                    return Ok(found);
                }
                return Err(error.into());
            }
        };
        failpoint!("api.after_commit");
        for lane in &mut lanes {
            let waits = waiting.iter().find(|waiting| waiting.answer_id == lane.answer_id);
            lane.ear.queued = waits.map(|waiting| waiting.position);
        }
        // Who waits for a seat is told when it has one.
        let is_seated = |id: &AnswerId| !waiting.iter().any(|waiting| waiting.answer_id == *id);
        let seated = ids.into_iter().filter(is_seated);
        let places = seated.map(|answer_id| AnswerPlace { answer_id, turn_id, session_id, owner_id });
        self.publish(places.collect(), may_stand_alone);
        failpoint!("api.before_reply");
        Ok(Generation { turn_id, session_id, owner_id, lanes, is_new: true })
    }

    /// From here on everything is a hint: the answers are promised, and the sweeper knows of them.
    fn publish(&self, places: Vec<AnswerPlace>, may_stand_alone: bool) {
        let (bus, trace) = (self.state.bus.clone(), self.origin.meta.trace.child());
        tokio::spawn(async move {
            for AnswerPlace { answer_id, turn_id, session_id, owner_id } in places {
                let requested_at_ms = Utc::now().timestamp_millis();
                let job = Job { answer_id, turn_id, session_id, owner_id, issue: 1, requested_at_ms, may_stand_alone };
                if let Err(error) = bus.publish_job(&job, JobClass::Interactive, &trace).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "a job was not taken; the sweeper will issue it");
                }
                failpoint!("api.after_publish");
            }
            bus.poke_relay().await;
        });
    }
}

/// Begins to watch answers of one of the caller's turns: those that are given, else all of them.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn watch(
    state: &AppState,
    caller: Caller,
    turn_id: TurnId,
    answers: Option<&[AnswerId]>,
) -> Result<Generation, ApiError> {
    // Heard from before the log is read, so that nothing falls between.
    let mut ears: Vec<(AnswerId, Ear)> =
        answers.unwrap_or_default().iter().map(|id| (*id, state.hub.watch(*id))).collect();
    let (turn, _) = state.store.load::<Turn>(turn_id.as_uuid()).await?;
    let prompt = turn.prompt.as_ref().ok_or_else(ApiError::not_found)?;
    // A summary was asked for too, and is told to whoever asked; a title is nobody's answer.
    if prompt.purpose == TurnPurpose::Title {
        return Err(ApiError::not_found());
    }
    let session_id = prompt.session_id;
    let session = sessions::owned(state, caller.account_id, session_id).await?;
    if answers.is_none() {
        ears = turn.answers.keys().map(|id| (*id, state.hub.watch(*id))).collect();
    }
    if turn.is_conversation() && !session.deleted.is_empty() {
        let tree = state.store.session_log(session_id).await?.tree();
        let shows = |id: Uuid| tree.path_to(id).is_some();
        if !shows(turn_id.as_uuid()) || ears.iter().all(|(id, _)| !shows(id.as_uuid())) && !ears.is_empty() {
            return Err(ApiError::not_found());
        }
        ears.retain(|(id, _)| shows(id.as_uuid()));
    }
    let lanes = ears.into_iter().map(|(answer_id, ear)| {
        let answer = turn.answers.get(&answer_id).ok_or_else(ApiError::not_found)?;
        Ok(Watched { answer_id, model: answer.model.name.clone(), ear })
    });
    let lanes = lanes.collect::<Result<_, ApiError>>()?;
    Ok(Generation { turn_id, session_id, owner_id: caller.account_id, lanes, is_new: false })
}

impl Generation {
    /// Where an answer of it is.
    pub const fn place(&self, answer_id: AnswerId) -> AnswerPlace {
        AnswerPlace { answer_id, turn_id: self.turn_id, session_id: self.session_id, owner_id: self.owner_id }
    }

    /// Its ids, for a client that opens the stream itself.
    pub fn ids(&self) -> Success<Value> {
        let ids: Vec<AnswerId> = self.lanes.iter().map(|lane| lane.answer_id).collect();
        let streamed = if let [only] = ids[..] { only.to_string() } else { self.turn_id.to_string() };
        let url = format!("/api/v1/chat/streams/{streamed}");
        let (first, turn_id) = (ids.first().copied(), self.turn_id);
        let data = json!({"message_id": first, "message_ids": ids, "user_message_id": turn_id, "stream_url": url});
        Success::accepted(data)
    }

    fn into_lanes(self, resume: &Resume) -> Vec<Lane> {
        let (turn_id, session_id, owner_id, is_new) = (self.turn_id, self.session_id, self.owner_id, self.is_new);
        let lanes = self.lanes.into_iter().map(|Watched { answer_id, model, ear }| {
            let place = AnswerPlace { answer_id, turn_id, session_id, owner_id };
            let after = resume.of(answer_id);
            (Viewing { place, model, after, is_new: is_new && after.is_none() }, ear)
        });
        lanes.collect()
    }

    /// The stream of its only answer.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` for a `Last-Event-ID` that can't be one of it.
    pub fn stream_one(self, state: AppState, headers: &HeaderMap) -> Result<Response, ApiError> {
        let resume = Resume::read(headers)?;
        let Some((viewing, ear)) = self.into_lanes(&resume).pop() else { return Err(ApiError::not_found()) };
        Ok(sse(state, viewing, ear))
    }

    /// One stream of all its answers, told apart by their ids; `follows` also those that a discussion asks for yet.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` for a `Last-Event-ID` that can't be one of it.
    pub fn stream_all(self, state: AppState, headers: &HeaderMap, follows: bool) -> Result<Response, ApiError> {
        let resume = Resume::read(headers)?;
        resume.check_lanes()?;
        let follow = follows.then_some((self.turn_id, self.session_id, self.owner_id));
        Ok(sse_lanes(state, self.into_lanes(&resume), follow))
    }
}

/// What the client would rather have, by the first type that it accepts.
fn accepts_first(headers: &HeaderMap, wanted: &str) -> bool {
    headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| {
        let first = accept.split(',').next().unwrap_or_default();
        first.split(';').next().unwrap_or_default().trim() == wanted
    })
}

/// Whether the client wants only ids, at once.
pub fn wants_ids(headers: &HeaderMap) -> bool {
    accepts_first(headers, "application/json")
}

/// Whether the client asks for the stream.
pub fn wants_stream(headers: &HeaderMap) -> bool {
    accepts_first(headers, "text/event-stream")
}

/// The stream of one answer, or its ids, for routes that stream only when asked to.
pub fn respond_if_asked(state: AppState, headers: &HeaderMap, generation: Generation) -> Result<Response, ApiError> {
    if wants_stream(headers) { generation.stream_one(state, headers) } else { Ok(generation.ids().into_response()) }
}
