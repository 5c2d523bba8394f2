//! The caller's own trail: signing in and out, keys, tokens, what became of sessions.

use axum::extract::State;
use polyphony_eventstore::history::TrailQuery;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    error::ApiError,
    extract::{Caller, Params, check_limit},
    respond::{Envelope, Success},
    routes::history,
    shapes::Event,
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(trail))
}

/// What a person looks for, and the stored types that it means.
const ACTIONS: [(&str, &[&str]); 8] = [
    ("login", &["device_signed_in"]),
    ("logout", &["device_signed_out"]),
    ("register", &["account_registered"]),
    ("key_update", &["api_key_added", "api_key_removed", "api_key_rotated", "api_key_changed"]),
    ("token_update", &["access_token_issued", "access_token_revoked"]),
    ("model_switch", &["model_switched"]),
    ("session_delete", &["session_deleted", "session_restored", "session_erased"]),
    ("session_share", &["session_shared", "session_unshared"]),
];

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct TrailParams {
    /// `login`, `logout`, `register`, `key_update`, `token_update`, `model_switch`, `session_delete`, `session_share`,
    /// or a stored event type; a comma list of them. Everything of the account if absent.
    action: Option<String>,
    /// Only what concerns this session, key, token, device or account.
    aggregate_id: Option<Uuid>,
    /// The page before this event: what happened earlier.
    before: Option<Uuid>,
    /// 1 to 100.
    limit: Option<u32>,
}

/// What happened in the caller's account, newest first.
#[utoipa::path(get, path = "/audit", tag = "audit", params(TrailParams),
    responses((status = 200, body = Envelope<Vec<Event>>)))]
async fn trail(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<TrailParams>,
) -> Result<Success<Vec<Event>>, ApiError> {
    let limit = check_limit(params.limit, 50)?;
    let types = params.action.as_deref().map(types).transpose()?;
    let query = TrailQuery { types, aggregate_id: params.aggregate_id, before: params.before, limit };
    let trail = state.store.trail(caller.account_id, query).await?.ok_or_else(ApiError::not_found)?;
    let next_before = trail.last().filter(|_| trail.len() == limit as usize).map(|event| event.event_id);
    let events = trail.into_iter().map(Event::from).collect();
    Ok(history::paged(events, limit, next_before))
}

fn types(actions: &str) -> Result<Vec<String>, ApiError> {
    let mut types = Vec::new();
    for action in actions.split(',').map(str::trim).filter(|action| !action.is_empty()) {
        match ACTIONS.iter().find(|(name, _)| *name == action) {
            Some((_, stored)) => types.extend(stored.iter().map(|stored| (*stored).to_owned())),
            None => types.push(action.to_owned()),
        }
    }
    if types.is_empty() { Err(ApiError::invalid("action", "must name at least one action")) } else { Ok(types) }
}
