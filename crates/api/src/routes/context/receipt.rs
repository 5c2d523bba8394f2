//! What an answer was shown.

use axum::extract::State;
use polyphony_domain::{ids::AnswerId, turn::Turn};
use serde_json::{Value, json};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::ApiError,
    extract::{Caller, PathId},
    respond::{Envelope, Success},
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(receipt))
}

/// The context receipt of an answer: parts with tokens, what was dropped, summarised and converted and why, and the hash
/// of the exact request. It holds no text.
#[utoipa::path(get, path = "/messages/{id}/context", tag = "messages", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = Envelope<Value>)))]
async fn receipt(
    State(state): State<AppState>,
    caller: Caller,
    PathId(id): PathId<AnswerId>,
) -> Result<Success<Value>, ApiError> {
    let place = state.store.answer(id).await?.filter(|place| place.owner_id == caller.account_id);
    let place = place.ok_or_else(ApiError::not_found)?;
    let (turn, _) = state.store.load::<Turn>(place.turn_id.as_uuid()).await?;
    let answer = turn.answers.get(&id).ok_or_else(ApiError::not_found)?;
    if !answer.status.is_final() {
        return Err(ApiError::in_progress());
    }
    // An answer that ended before anything was sent was shown nothing.
    let receipt =
        answer.record.as_ref().and_then(|record| record.context.as_deref()).ok_or_else(ApiError::not_found)?;
    let mut data = json!(receipt);
    data["message_id"] = id.to_string().into();
    data["attempt"] = answer.attempt.into();
    Ok(Success::ok(data))
}
