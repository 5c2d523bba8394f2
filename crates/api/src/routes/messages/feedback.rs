//! What a person thinks of an answer.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use polyphony_domain::turn::{Feedback, Turn, TurnCommand};
use polyphony_eventstore::{Root, idempotency::StoredResponse};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{Located, locate};
use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin, PathId, check_length},
    idempotency,
    respond::{Envelope, Success},
    shapes::Message,
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(give, withdraw))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FeedbackBody {
    /// -1 or 1.
    rating: i8,
    /// At most 2,000 characters.
    comment: Option<String>,
}

async fn answer(state: &AppState, caller: Caller, id: Uuid) -> Result<Located, ApiError> {
    let found = locate(state, caller.account_id, id).await?;
    match found.answer_id {
        Some(_) => Ok(found),
        None => Err(ApiError::invalid("id", "only an answer can be rated")),
    }
}

/// Says what the caller thinks of an answer; it replaces what they said before.
#[utoipa::path(post, path = "/messages/{id}/feedback", tag = "messages", params(("id" = Uuid, Path)),
    request_body = FeedbackBody, responses((status = 200, body = Envelope<Message>)))]
async fn give(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    PathId(id): PathId<Uuid>,
    Body { value: body, request_hash }: Body<FeedbackBody>,
) -> Result<Success<Message>, ApiError> {
    if ![-1, 1].contains(&body.rating) {
        return Err(ApiError::invalid("rating", "must be -1 or 1"));
    }
    if let Some(comment) = &body.comment {
        check_length("comment", comment, 0, 2_000)?;
    }
    let key = idempotency::key(&headers, caller.account_id, request_hash)?;
    if idempotency::replay(&state, key.as_ref()).await?.is_none() {
        let found = answer(&state, caller, id).await?;
        let comment = body.comment.filter(|comment| !comment.is_empty()).map(Into::into);
        let feedback = Feedback { rating: body.rating, comment };
        let done = state
            .store
            .command::<Turn>(origin.context(caller.account_id), Root::Existing(found.session_id.as_uuid()))
            .idempotent(key.clone(), |_| StoredResponse { status: 200, data: Value::Null })
            .run(found.turn_id.as_uuid(), TurnCommand::GiveFeedback { answer_id: id.into(), feedback })
            .await;
        let kept = StoredResponse { status: 200, data: Value::Null };
        idempotency::settle(&state, key.as_ref(), done.map(|_| kept).map_err(ApiError::from)).await?;
        state.bus.poke_relay().await;
    }
    let found = state.reads.message(caller.account_id, id).await?.ok_or_else(ApiError::not_found)?;
    Ok(Success::ok(found.into()))
}

/// Takes it back.
#[utoipa::path(delete, path = "/messages/{id}/feedback", tag = "messages", params(("id" = Uuid, Path)),
    responses((status = 204)))]
async fn withdraw(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathId(id): PathId<Uuid>,
) -> Result<StatusCode, ApiError> {
    let found = answer(&state, caller, id).await?;
    state
        .store
        .command::<Turn>(origin.context(caller.account_id), Root::Existing(found.session_id.as_uuid()))
        .run(found.turn_id.as_uuid(), TurnCommand::WithdrawFeedback { answer_id: id.into() })
        .await?;
    state.bus.poke_relay().await;
    Ok(StatusCode::NO_CONTENT)
}
