//! The log as its owner sees it: what happened in a session, and views as they were.

use axum::extract::State;
use polyphony_domain::ids::SessionId;
use polyphony_eventstore::history::Happening;
use polyphony_projections::Moment;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    error::ApiError,
    extract::{Caller, Params, PathId, check_limit},
    respond::{Envelope, Meta, Success},
    routes::sessions,
    shapes::Event,
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(of_session))
}

/// The moment that a view is asked for.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct AtParams {
    /// As it was at this time (RFC 3339) or position in the log.
    at: Option<String>,
}

impl AtParams {
    /// The moment, if one is given.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` when it is none.
    pub fn moment(&self) -> Result<Option<Moment>, ApiError> {
        moment(self.at.as_deref())
    }
}

/// The moment in a parameter.
///
/// # Errors
/// `VALIDATION_FAILED` when it is none.
pub fn moment(at: Option<&str>) -> Result<Option<Moment>, ApiError> {
    at.map(|at| at.parse().map_err(|error| ApiError::invalid("at", format!("{error}")))).transpose()
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct HistoryParams {
    /// The page before this event.
    before: Option<Uuid>,
    /// 1 to 100.
    limit: Option<u32>,
    /// Only what had happened at this time (RFC 3339) or position in the log.
    at: Option<String>,
}

/// What happened in a session, oldest first within the page, the newest page first.
#[utoipa::path(get, path = "/sessions/{id}/history", tag = "sessions",
    params(("id" = Uuid, Path), HistoryParams), responses((status = 200, body = Envelope<Vec<Event>>)))]
async fn of_session(
    State(state): State<AppState>,
    caller: Caller,
    PathId(id): PathId<SessionId>,
    Params(params): Params<HistoryParams>,
) -> Result<Success<Vec<Event>>, ApiError> {
    let limit = check_limit(params.limit, 50)?;
    let at = moment(params.at.as_deref())?;
    sessions::owned(&state, caller.account_id, id).await?;
    let mut life = state.store.life_of(id.as_uuid()).await?;
    if let Some(at) = at {
        life.truncate(at.cut(&life));
    }
    page(life, params.before, limit)
}

/// The end of a list of events, before one of them if it is named.
fn page(mut events: Vec<Happening>, before: Option<Uuid>, limit: u32) -> Result<Success<Vec<Event>>, ApiError> {
    if let Some(before) = before {
        let end = events.iter().position(|event| event.event_id == before).ok_or_else(ApiError::not_found)?;
        events.truncate(end);
    }
    let cut = events.len().saturating_sub(limit as usize);
    let events = events.split_off(cut);
    let next_before = events.first().filter(|_| cut > 0).map(|event| event.event_id);
    Ok(paged(events.into_iter().map(Event::from).collect(), limit, next_before))
}

/// A page of events.
pub fn paged(events: Vec<Event>, limit: u32, next_before: Option<Uuid>) -> Success<Vec<Event>> {
    Success::ok(events).meta(Meta { limit, next_before: Some(next_before), ..Meta::default() })
}
