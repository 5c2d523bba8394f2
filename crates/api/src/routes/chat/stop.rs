//! `POST /chat/stop`: answers stop; the text so far is kept.

use std::collections::BTreeSet;

use axum::extract::State;
use polyphony_bus::wire::{ChunkBody, ChunkFrame};
use polyphony_domain::{
    ids::{AccountId, AnswerId, SessionId, TurnId},
    turn::{AnswerStatus, EndFrame, Turn, TurnCommand},
};
use polyphony_eventstore::{Effect, Root, load::AnswerPlace};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin},
    respond::{Envelope, Success},
    routes::{messages, sessions},
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(stop))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StopBody {
    /// All answers of a session that are in the making.
    session_id: Option<Uuid>,
    /// One answer, or with the id of a prompt all answers to it. A discussion stops as a whole.
    message_id: Option<Uuid>,
}

/// What is to stop.
enum Target {
    /// Everything of some turns.
    Turns(SessionId, BTreeSet<TurnId>),
    /// One answer.
    Answer(SessionId, TurnId, AnswerId),
}

async fn target(state: &AppState, caller: Caller, body: StopBody) -> Result<Target, ApiError> {
    match (body.session_id, body.message_id) {
        (Some(session), None) => {
            let session = SessionId::new(session);
            sessions::owned(state, caller.account_id, session).await?;
            let (runs, follow_ups) =
                tokio::try_join!(state.store.runs_of_session(session), state.store.follow_ups_of_session(session))?;
            // Between two rounds of a discussion nothing runs, and yet it is to stop.
            let discussed = follow_ups.into_iter().map(|follow_up| follow_up.turn_id);
            Ok(Target::Turns(session, runs.into_iter().map(|run| run.turn_id).chain(discussed).collect()))
        }
        (None, Some(message)) => {
            let found = messages::locate(state, caller.account_id, message).await?;
            Ok(match found.answer_id {
                Some(answer) if !found.turn.is_discussing() => Target::Answer(found.session_id, found.turn_id, answer),
                _ => Target::Turns(found.session_id, BTreeSet::from([found.turn_id])),
            })
        }
        _ => Err(ApiError::invalid("session_id", "exactly one of session_id and message_id is needed")),
    }
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
    let mut stopped = Vec::new();
    match target(&state, caller, body).await? {
        Target::Turns(session, turns) => {
            for turn in turns {
                stopped.append(
                    &mut halt(&state, caller.account_id, &origin, (session, turn), TurnCommand::StopAll).await?,
                );
            }
        }
        Target::Answer(session, turn, answer_id) => {
            halt(&state, caller.account_id, &origin, (session, turn), TurnCommand::Stop { answer_id }).await?;
            stopped.push(answer_id);
        }
    }
    state.bus.poke_relay().await;
    Ok(Success::accepted(json!({ "message_ids": stopped })))
}

/// Has the turn of an answer stop, a discussion included.
pub async fn stop_one(state: &AppState, origin: &Origin, place: AnswerPlace) -> Result<(), ApiError> {
    let AnswerPlace { turn_id, session_id, owner_id, .. } = place;
    halt(state, owner_id, origin, (session_id, turn_id), TurnCommand::StopAll).await.map(|_| ())
}

/// Stops what a command names, and tells the workers and viewers of it; says which answers were still going.
async fn halt(
    state: &AppState,
    owner: AccountId,
    origin: &Origin,
    (session, turn): (SessionId, TurnId),
    command: TurnCommand,
) -> Result<Vec<AnswerId>, ApiError> {
    let asked = |turn: &Turn| -> Vec<AnswerId> {
        turn.answers.iter().filter(|(_, answer)| answer.stop_requested).map(|(id, _)| *id).collect()
    };
    // Before any worker began: these end here and now.
    let unstarted = |turn: &Turn| -> Vec<AnswerId> {
        let is_unstarted = |record: u32, status| record == 0 && status == AnswerStatus::Stopped;
        let answers = turn.answers.iter().filter(|(_, answer)| is_unstarted(answer.attempt, answer.status));
        answers.map(|(id, _)| *id).collect()
    };
    let executed = state
        .store
        .command::<Turn>(origin.context(owner), Root::Existing(session.as_uuid()))
        .effects(move |turn: &Turn, _| {
            let asked = asked(turn).into_iter().map(|answer_id| Effect::RequestStop { answer_id });
            asked.chain([Effect::EndUnstarted { answer_ids: unstarted(turn) }]).collect()
        })
        .run(turn.as_uuid(), command)
        .await?;
    let turn = &executed.aggregate;
    let going =
        asked(turn).into_iter().filter(|id| turn.answers.get(id).is_some_and(|answer| !answer.status.is_final()));
    let mut stopped: Vec<AnswerId> = going.collect();
    for answer in &stopped {
        state.bus.publish_stop(*answer).await;
    }
    if executed.cursor.is_none() {
        return Ok(stopped);
    }
    for answer_id in unstarted(turn) {
        // Their viewers are told from here.
        let Some(end) = turn.answers.get(&answer_id).and_then(|answer| EndFrame::of(answer_id, answer)) else {
            continue;
        };
        let frame = ChunkFrame { attempt: 1, n: end.n, body: ChunkBody::Done(end.data.to_string().into()) };
        state.bus.chunk_publisher(owner, answer_id).publish(&frame).await.ok();
        stopped.push(answer_id);
    }
    Ok(stopped)
}
