//! One stream of several answers, each told apart by its id. A lane that fails or is stopped ends alone; the stream
//! ends when all of them have, in a discussion when nothing more is to come.

use std::{collections::HashSet, time::Duration};

use axum::response::Response;
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream, SelectAll},
};
use polyphony_domain::{
    ids::{AccountId, AnswerId, SessionId, TurnId},
    turn::Turn,
};
use polyphony_eventstore::{StoreError, load::AnswerPlace};

use super::{
    follower::Viewing,
    hub::Ear,
    viewer::{HEARTBEAT, Viewer, heartbeat, respond, retry},
};
use crate::state::AppState;

/// How often a discussion whose round has ended is looked at for the next one.
const LOOK: Duration = Duration::from_millis(100);

/// What is watched, and the ear for it.
pub type Lane = (Viewing, Ear);

/// One stream of several answers as a response. With a turn to follow, its later answers join in as a discussion asks
/// for them.
pub fn sse_lanes(state: AppState, lanes: Vec<Lane>, follow: Option<(TurnId, SessionId, AccountId)>) -> Response {
    let heartbeat = heartbeat(&state);
    let known = lanes.iter().map(|(viewing, _)| viewing.place.answer_id).collect();
    let mut merged = Lanes { state, running: SelectAll::new(), known, follow };
    for lane in lanes {
        merged.add(lane);
    }
    let first = stream::iter([Bytes::from(retry())]);
    let rest = stream::unfold((merged, heartbeat), |(mut merged, mut heartbeat)| async {
        let bytes = tokio::select! {
            biased;
            bytes = merged.next() => bytes?,
            _ = heartbeat.tick() => HEARTBEAT,
        };
        Some((bytes, (merged, heartbeat)))
    });
    respond(first.chain(rest))
}

struct Lanes {
    state: AppState,
    running: SelectAll<BoxStream<'static, Bytes>>,
    known: HashSet<AnswerId>,
    follow: Option<(TurnId, SessionId, AccountId)>,
}

impl Lanes {
    fn add(&mut self, (viewing, ear): Lane) {
        let lane = Some(viewing.place.answer_id.as_uuid());
        let viewer = Viewer::new(self.state.clone(), viewing, ear, lane);
        let events = stream::unfold(viewer, |mut viewer| async {
            let bytes = viewer.next().await?;
            Some((bytes, viewer))
        });
        self.running.push(events.boxed());
    }

    /// The next bytes; `None` when all has ended.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.running.next().await {
                return Some(bytes);
            }
            let (turn_id, session_id, owner_id) = self.follow?;
            match self.later(turn_id, session_id, owner_id).await {
                Ok((lanes, _)) if !lanes.is_empty() => lanes.into_iter().for_each(|lane| self.add(lane)),
                Ok((_, false)) => return None,
                Ok(_) => tokio::time::sleep(LOOK).await,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a discussion could not be looked at");
                    tokio::time::sleep(LOOK * 10).await;
                }
            }
        }
    }

    /// The answers of the turn that this stream doesn't know yet, and whether more may come.
    async fn later(
        &mut self,
        turn_id: TurnId,
        session_id: SessionId,
        owner_id: AccountId,
    ) -> Result<(Vec<Lane>, bool), StoreError> {
        let (turn, _) = self.state.store.load::<Turn>(turn_id.as_uuid()).await?;
        if turn.discussion().is_none() {
            return Ok((vec![], false));
        }
        let new = turn.answers.iter().filter(|(id, _)| self.known.insert(**id));
        let lanes = new.map(|(answer_id, answer)| {
            let place = AnswerPlace { answer_id: *answer_id, turn_id, session_id, owner_id };
            let model = answer.model.name.clone();
            (Viewing { place, model, after: None, is_new: false }, self.state.hub.watch(*answer_id))
        });
        Ok((lanes.collect(), turn.is_discussing()))
    }
}
