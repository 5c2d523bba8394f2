//! The context: what the next turn will be shown, what an answer was shown, summaries, and changing the model.

mod compact;
mod next;
mod receipt;
mod switch;

use polyphony_domain::{
    catalog::{DEMO, Model},
    context::{Receipt, Thread},
    ids::{AccountId, AnswerId, KeyId, SessionId},
};
use polyphony_eventstore::load::SessionLog;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;

use crate::{error::ApiError, state::AppState};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().merge(next::router()).merge(compact::router()).merge(receipt::router()).merge(switch::router())
}

/// The caller's session with its turns; a foreign or deleted one doesn't exist.
async fn owned(state: &AppState, owner: AccountId, id: SessionId) -> Result<SessionLog, ApiError> {
    let log = state.store.session_log(id).await?;
    let session = &log.session.aggregate;
    if session.owner_id == Some(owner) && !session.is_deleted { Ok(log) } else { Err(ApiError::not_found()) }
}

/// The answer that the next prompt replies to: the last one of the active branch.
fn tip(log: &SessionLog) -> Option<AnswerId> {
    let branch = log.tree().active_branch();
    branch.into_iter().rev().map(AnswerId::new).find(|id| log.turn_of(*id).is_some())
}

/// The model of the next turn: the one that was asked for, else the session's, else that of the newest answer, else the
/// first one that the person has a key for, else the demo.
async fn model<'a>(
    state: &'a AppState,
    owner: AccountId,
    log: &SessionLog,
    asked: Option<&str>,
) -> Result<&'a Model, ApiError> {
    if let Some(asked) = asked {
        return resolve(state, asked);
    }
    if let Some(slug) = log.session.aggregate.model.as_deref() {
        return state.catalog.resolve(slug).ok_or_else(gone);
    }
    let newest = tip(log).and_then(|tip| log.history().answer(tip).map(|answer| answer.model.id));
    if let Some(model) = newest.and_then(|id| state.catalog.resolve(&id.to_string())) {
        return Ok(model);
    }
    let keyed = state.store.keyed_providers(owner).await?;
    let usable = state.catalog.models().iter().find(|model| keyed.contains(&model.provider));
    usable.or_else(|| state.catalog.resolve(DEMO)).ok_or_else(gone)
}

fn resolve<'a>(state: &'a AppState, reference: &str) -> Result<&'a Model, ApiError> {
    state.catalog.resolve(reference).ok_or_else(|| ApiError::invalid("model_id", "there is no such model"))
}

fn gone() -> ApiError {
    let message = "this deployment doesn't serve the session's model any more";
    ApiError::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, "MODEL_UNAVAILABLE", message)
}

fn too_long() -> ApiError {
    let message = "the system prompt, the pinned messages and the last prompt are too long for this model";
    ApiError::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, "CONTEXT_TOO_LONG", message)
}

/// The key that a turn with a model would use; none where it would need none, or has none.
async fn key(state: &AppState, owner: AccountId, model: &Model) -> Result<Option<KeyId>, ApiError> {
    if model.provider == "demo" { Ok(None) } else { Ok(state.store.usable_key(owner, &model.provider).await?) }
}

/// What a model would be shown of a thread, with what its dialect can't take.
async fn fitted(state: &AppState, owner: AccountId, thread: &Thread, model: &Model) -> Result<Receipt, ApiError> {
    let whose = key(state, owner, model).await?.map_or_else(|| owner.as_uuid(), |key| key.as_uuid());
    let options = polyphony_providers::Options { model: model.name.clone(), ..polyphony_providers::Options::default() };
    let mut fitted = state.contexts.fit(thread, model, options, whose).await.map_err(|_| too_long())?;
    if let Some(adapter) = state.registry.adapter(&model.provider) {
        let rendered = adapter.render(&fitted.conversation, &fitted.options);
        polyphony_providers::context::note_losses(&mut fitted.receipt, &rendered.losses);
    }
    Ok(fitted.receipt)
}

/// A receipt in the contract's words, for a turn that hasn't been asked yet.
fn shape(model: &Model, receipt: &Receipt) -> Value {
    let tokens = |kinds: &[&str]| -> u64 {
        receipt.parts.iter().filter(|part| kinds.contains(&part.kind.as_str())).map(|part| part.tokens).sum()
    };
    let dropped = receipt.dropped.iter().filter(|change| change.what == "message");
    json!({
        "model_id": model.id,
        "model": model.slug(),
        "window": receipt.window,
        "reserved_output": receipt.reserved_output,
        "budget": receipt.budget,
        "used": receipt.used,
        "percent": percent(receipt.used, receipt.budget),
        "estimated": receipt.estimated,
        "system": tokens(&["system"]),
        "messages": tokens(&["message", "messages"]),
        "dropped": dropped.map(|change| change.count).sum::<u64>(),
        "summarized": receipt.summarized.iter().map(|change| change.count).sum::<u64>(),
        "by_part": receipt.parts,
        "changes": { "dropped": receipt.dropped, "summarized": receipt.summarized, "converted": receipt.converted },
    })
}

/// Percent with one decimal.
fn percent(used: u64, of: u64) -> f64 {
    let tenths = used.saturating_mul(1_000).checked_div(of).unwrap_or(1_000);
    f64::from(u32::try_from(tenths).unwrap_or(u32::MAX)) / 10.0
}
