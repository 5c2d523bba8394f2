//! Reading messages.

use axum::extract::State;
use polyphony_domain::ids::SessionId;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    error::ApiError,
    extract::{Caller, Params, PathId, check_limit},
    respond::{Envelope, Meta, Success},
    routes::history::{self, AtParams},
    shapes::Message,
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(of_session)).routes(routes!(get)).routes(routes!(versions))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct PageParams {
    /// The page before this message.
    before: Option<Uuid>,
    /// 1 to 100.
    limit: Option<u32>,
    /// The whole tree instead of the active branch.
    #[serde(default)]
    tree: bool,
    /// As it was at this time (RFC 3339) or position in the log.
    at: Option<String>,
}

/// The messages of a session, oldest first within the page.
#[utoipa::path(get, path = "/messages/session/{session_id}", tag = "messages",
    params(("session_id" = Uuid, Path), PageParams), responses((status = 200, body = Envelope<Vec<Message>>)))]
async fn of_session(
    State(state): State<AppState>,
    caller: Caller,
    PathId(session): PathId<SessionId>,
    Params(params): Params<PageParams>,
) -> Result<Success<Vec<Message>>, ApiError> {
    let limit = check_limit(params.limit, 50)?;
    let (owner, before, tree) = (caller.account_id, params.before, params.tree);
    let page = match history::moment(params.at.as_deref())? {
        None => state.reads.messages(owner, session, before, limit, tree).await?,
        Some(at) => state.reads.messages_at(owner, session, before, limit, tree, at).await?,
    };
    let page = page.ok_or_else(ApiError::not_found)?;
    let messages = page.messages.into_iter().map(Message::from).collect();
    Ok(Success::ok(messages).meta(Meta { limit, next_before: Some(page.next_before), ..Meta::default() }))
}

/// A message; with `at`, as it was.
#[utoipa::path(get, path = "/messages/{id}", tag = "messages", params(("id" = Uuid, Path), AtParams),
    responses((status = 200, body = Envelope<Message>)))]
async fn get(
    State(state): State<AppState>,
    caller: Caller,
    PathId(id): PathId<Uuid>,
    Params(params): Params<AtParams>,
) -> Result<Success<Message>, ApiError> {
    let found = match params.moment()? {
        None => state.reads.message(caller.account_id, id).await?,
        Some(at) => state.reads.message_at(caller.account_id, id, at).await?,
    };
    Ok(Success::ok(found.ok_or_else(ApiError::not_found)?.into()))
}

/// The messages in the place of this one, itself included, in the order in which they came: the answers to the same
/// prompt, or the forms of an edited prompt.
#[utoipa::path(get, path = "/messages/{id}/versions", tag = "messages", params(("id" = Uuid, Path)),
    responses((status = 200, body = Envelope<Vec<Message>>)))]
async fn versions(
    State(state): State<AppState>,
    caller: Caller,
    PathId(id): PathId<Uuid>,
) -> Result<Success<Vec<Message>>, ApiError> {
    let found = state.reads.versions(caller.account_id, id).await?.ok_or_else(ApiError::not_found)?;
    Ok(Success::ok(found.into_iter().map(Message::from).collect()))
}
