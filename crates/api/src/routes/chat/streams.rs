//! `GET /chat/streams/:message_id`: answers as a stream, live or finished, on any node.

use axum::{extract::State, http::HeaderMap, response::Response};
use polyphony_domain::ids::{AnswerId, TurnId};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::ask::watch;
use crate::{
    error::ApiError,
    extract::{Caller, PathId},
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(streams))
}

/// An answer as a stream: from the beginning, or after `Last-Event-ID`; live or finished, on any node. With the id of
/// a prompt all answers to it, told apart as in `/chat/compare`.
#[utoipa::path(get, path = "/chat/streams/{message_id}", tag = "chat", params(("message_id" = Uuid, Path)),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
async fn streams(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId<Uuid>,
) -> Result<Response, ApiError> {
    let answer = AnswerId::new(id);
    match state.store.answer(answer).await?.filter(|place| place.owner_id == caller.account_id) {
        Some(place) => {
            let generation = watch(&state, caller, place.turn_id, Some(&[answer])).await?;
            generation.stream_one(state, &headers)
        }
        None => {
            let generation = watch(&state, caller, TurnId::new(id), None).await?;
            generation.stream_all(state, &headers, true)
        }
    }
}
