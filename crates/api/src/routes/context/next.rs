//! What the next turn of a session will be shown.

use axum::extract::State;
use polyphony_domain::{context::Thread, ids::SessionId};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::ApiError,
    extract::{Caller, Params, PathId},
    respond::{Envelope, Success},
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(next))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct NextParams {
    /// For this model instead of the session's: id, name, or `provider/name`.
    model_id: Option<String>,
}

/// What the next turn will be shown: tokens by part, and what has no room. It looks at the active branch, before the
/// next prompt.
#[utoipa::path(get, path = "/chat/context/{session_id}", tag = "chat", params(("session_id" = uuid::Uuid, Path), NextParams),
    responses((status = 200, body = Envelope<Value>)))]
async fn next(
    State(state): State<AppState>,
    caller: Caller,
    PathId(session): PathId<SessionId>,
    Params(params): Params<NextParams>,
) -> Result<Success<Value>, ApiError> {
    let log = super::owned(&state, caller.account_id, session).await?;
    let model = super::model(&state, caller.account_id, &log, params.model_id.as_deref()).await?;
    let thread = Thread::before(&log.history(), super::tip(&log));
    let receipt = super::fitted(&state, caller.account_id, &thread, model).await?;
    let mut data = super::shape(model, &receipt);
    data["session_id"] = session.to_string().into();
    Ok(Success::ok(data))
}
