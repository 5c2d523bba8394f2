//! Changing the model of a session, and saying what that does to its context.

use axum::{extract::State, http::HeaderMap};
use polyphony_domain::{
    context::Thread,
    ids::SessionId,
    session::{Session, SessionCommand},
};
use polyphony_eventstore::{Root, idempotency::StoredResponse};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin, Params},
    idempotency,
    respond::{Envelope, Success},
    state::AppState,
};

const HERE: &str = "/api/v1/chat/switch-model";

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(switch_model))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Switch {
    session_id: Uuid,
    /// Id, name, or `provider/name`.
    model_id: String,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct SwitchParams {
    /// Only say what it would do.
    #[serde(default)]
    dry_run: bool,
}

/// Has the next turns of a session go to another model, and says what that does to the context: tokens before and after,
/// and what will be summarised, left out or converted.
#[utoipa::path(post, path = "/chat/switch-model", tag = "chat", request_body = Switch, params(SwitchParams),
    responses((status = 200, body = Envelope<Value>)))]
async fn switch_model(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Params(params): Params<SwitchParams>,
    Body { value: body, request_hash }: Body<Switch>,
) -> Result<Success<Value>, ApiError> {
    let owner = caller.account_id;
    let key = if params.dry_run { None } else { idempotency::key(&headers, owner, request_hash)? };
    if let Some(seen) = idempotency::replay(&state, key.as_ref()).await? {
        return Ok(Success::stored(seen, HERE));
    }
    let session = SessionId::new(body.session_id);
    let log = super::owned(&state, owner, session).await?;
    let target = super::resolve(&state, &body.model_id)?;
    let thread = Thread::before(&log.history(), super::tip(&log));
    let after = super::fitted(&state, owner, &thread, target).await?;
    // The model before may be gone, or its window too small: then there is nothing to compare with.
    let before = match super::model(&state, owner, &log, None).await {
        Ok(model) => super::fitted(&state, owner, &thread, model).await.ok().map(|receipt| (model, receipt)),
        Err(_) => None,
    };
    // What has no room is left out of the first turn, and summarised for the next ones.
    let mut data = super::shape(target, &after);
    data["session_id"] = json!(session);
    data["previous_model_id"] = json!(before.as_ref().map(|(model, _)| model.id));
    data["previous_model"] = json!(before.as_ref().map(|(model, _)| model.slug()));
    data["tokens_before"] = json!(before.as_ref().map(|(_, receipt)| receipt.used));
    data["tokens_after"] = json!(after.used);
    data["will_compact"] = json!(after.lacks_room());
    data["will_drop"] = json!(!after.dropped.is_empty());
    data["will_convert"] = json!(!after.converted.is_empty());
    data["has_key"] =
        json!(!state.registry.needs_key(&target.provider) || super::key(&state, owner, target).await?.is_some());
    data["dry_run"] = json!(params.dry_run);
    if params.dry_run {
        return Ok(Success::ok(data));
    }
    let response = StoredResponse { status: 200, data };
    let kept = response.clone();
    let done = state
        .store
        .command::<Session>(origin.context(owner), Root::Existing(session.as_uuid()))
        .from_known(log.session.aggregate, log.session.version)
        .idempotent(key.clone(), move |_| kept.clone())
        .run(session.as_uuid(), SessionCommand::SwitchModel { model: target.slug() })
        .await;
    let response = idempotency::settle(&state, key.as_ref(), done.map(|_| response).map_err(ApiError::from)).await?;
    state.bus.poke_relay().await;
    Ok(Success::stored(response, HERE))
}
