//! Sessions: opened, listed, read, changed.

mod archive;

use axum::{extract::State, http::HeaderMap};
use polyphony_domain::{
    ids::{AccountId, SessionId},
    session::{Session as Aggregate, SessionCommand},
};
use polyphony_eventstore::{Root, idempotency::StoredResponse};
use polyphony_projections::{SessionQuery, SessionRow};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin, Params, PathId, check_length, check_limit, check_page},
    idempotency,
    respond::{Envelope, Meta, Success},
    routes::{chat::choose, history::AtParams},
    shapes::Session,
    state::AppState,
};

const SESSIONS: &str = "/api/v1/sessions";
/// Most bytes of a system prompt.
const LONGEST_PROMPT: usize = 32 * 1024;
/// Most bytes of a session's free data.
const LARGEST_METADATA: usize = 8 * 1024;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, change)).merge(archive::router())
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateSession {
    title: Option<String>,
    /// Id, name, or `provider/name`.
    model_id: Option<String>,
    system_prompt: Option<String>,
    /// There are none to choose from yet.
    #[serde(default)]
    mcp_server_ids: Vec<Uuid>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeSession {
    title: Option<String>,
    /// Id, name, or `provider/name`: the model of the next turns.
    model_id: Option<String>,
    system_prompt: Option<String>,
    metadata: Option<Map<String, Value>>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListParams {
    /// From 1.
    page: Option<u32>,
    /// 1 to 100.
    limit: Option<u32>,
    #[serde(default)]
    archived: bool,
}

fn shape(state: &AppState, row: SessionRow) -> Session {
    let model = row.model.as_deref().and_then(|model| state.catalog.resolve(model));
    Session::new(row, model.map(|model| model.id.as_uuid()))
}

/// The caller's session from the log; a foreign or a deleted one doesn't exist.
pub async fn owned(state: &AppState, owner: AccountId, id: SessionId) -> Result<Aggregate, ApiError> {
    let (session, _) = state.store.load::<Aggregate>(id.as_uuid()).await?;
    checked(session, owner)
}

/// The same of a session that has been loaded.
///
/// # Errors
/// `NOT_FOUND`.
pub fn checked(session: Aggregate, owner: AccountId) -> Result<Aggregate, ApiError> {
    let is_there = session.owner_id == Some(owner) && !session.is_deleted;
    if is_there { Ok(session) } else { Err(ApiError::not_found()) }
}

/// Has one of the caller's sessions do something.
///
/// # Errors
/// `NOT_FOUND` where it has been deleted meanwhile.
pub async fn command(
    state: &AppState,
    caller: Caller,
    origin: &Origin,
    id: SessionId,
    command: SessionCommand,
) -> Result<(), ApiError> {
    state
        .store
        .command::<Aggregate>(origin.context(caller.account_id), Root::Existing(id.as_uuid()))
        .run(id.as_uuid(), command)
        .await?;
    state.bus.poke_relay().await;
    Ok(())
}

/// A session as its owner reads it.
pub async fn read(state: &AppState, owner: AccountId, id: SessionId) -> Result<Session, ApiError> {
    let row = state.reads.session(owner, id).await?.ok_or_else(ApiError::not_found)?;
    Ok(shape(state, row))
}

fn check_texts(title: Option<&String>, system_prompt: Option<&String>) -> Result<(), ApiError> {
    if let Some(title) = title {
        check_length("title", title, 1, 200)?;
    }
    if system_prompt.is_some_and(|prompt| prompt.len() > LONGEST_PROMPT) {
        return Err(ApiError::invalid("system_prompt", "must have at most 32 KiB"));
    }
    Ok(())
}

/// The caller's sessions, newest activity first.
#[utoipa::path(get, path = "/sessions", tag = "sessions", params(ListParams),
    responses((status = 200, body = Envelope<Vec<Session>>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Success<Vec<Session>>, ApiError> {
    let limit = check_limit(params.limit, 20)?;
    let page = check_page(params.page)?;
    let query = SessionQuery { page, limit, archived: params.archived };
    let found = state.reads.sessions(caller.account_id, query).await?;
    let items = found.items.into_iter().map(|row| shape(&state, row)).collect();
    Ok(Success::ok(items).meta(Meta { page: Some(page), limit, total: Some(found.total), next_before: None }))
}

/// Opens a session.
#[utoipa::path(post, path = "/sessions", tag = "sessions", request_body = CreateSession,
    responses((status = 201, body = Envelope<Session>)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: body, request_hash }: Body<CreateSession>,
) -> Result<Success<Value>, ApiError> {
    check_texts(body.title.as_ref(), body.system_prompt.as_ref())?;
    if !body.mcp_server_ids.is_empty() {
        return Err(ApiError::invalid("mcp_server_ids", "there is no such server"));
    }
    let model = match &body.model_id {
        None => None,
        Some(reference) => {
            let model = state.catalog.resolve(reference);
            Some(model.ok_or_else(|| ApiError::invalid("model_id", "there is no such model"))?)
        }
    };
    let key = idempotency::key(&headers, caller.account_id, request_hash)?;
    if let Some(seen) = idempotency::replay(&state, key.as_ref()).await? {
        return Ok(Success::stored(seen, SESSIONS));
    }
    let id = SessionId::new(Uuid::now_v7());
    let command = SessionCommand::Open {
        owner_id: caller.account_id,
        title: body.title.clone(),
        model: model.map(|model| model.slug()),
        system_prompt: body.system_prompt.clone(),
    };
    let now = chrono::Utc::now();
    // A session that has just been opened is known whole: no view has to be waited for.
    let data = json!(Session {
        id: id.as_uuid(),
        title: body.title,
        model_id: model.map(|model| model.id.as_uuid()),
        model: model.map(|model| model.slug()),
        system_prompt: body.system_prompt,
        created_at: now,
        updated_at: now,
        archived_at: None,
        deleted_at: None,
        is_shared: false,
        share_code: None,
        message_count: 0,
        last_message_at: None,
        tokens_input: 0,
        tokens_output: 0,
        cost_usd: "0.000000".to_owned(),
        metadata: json!({}),
    });
    let response = StoredResponse { status: 201, data };
    let kept = response.clone();
    let done = state
        .store
        .command::<Aggregate>(origin.context(caller.account_id), Root::New(id.as_uuid()))
        .from_nothing()
        .idempotent(key.clone(), move |_| kept.clone())
        .run(id.as_uuid(), command)
        .await;
    let response = idempotency::settle(&state, key.as_ref(), done.map(|_| response).map_err(ApiError::from)).await?;
    state.bus.poke_relay().await;
    Ok(Success::stored(response, SESSIONS))
}

/// A session; with `at`, as it was.
#[utoipa::path(get, path = "/sessions/{id}", tag = "sessions", params(("id" = Uuid, Path), AtParams),
    responses((status = 200, body = Envelope<Session>)))]
async fn get(
    State(state): State<AppState>,
    caller: Caller,
    PathId(id): PathId<SessionId>,
    Params(params): Params<AtParams>,
) -> Result<Success<Session>, ApiError> {
    let Some(at) = params.moment()? else { return Ok(Success::ok(read(&state, caller.account_id, id).await?)) };
    let row = state.reads.session_at(caller.account_id, id, at).await?.ok_or_else(ApiError::not_found)?;
    Ok(Success::ok(shape(&state, row)))
}

/// Changes what is given.
#[utoipa::path(put, path = "/sessions/{id}", tag = "sessions", params(("id" = Uuid, Path)),
    request_body = ChangeSession, responses((status = 200, body = Envelope<Session>)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathId(id): PathId<SessionId>,
    Body { value: body, .. }: Body<ChangeSession>,
) -> Result<Success<Session>, ApiError> {
    check_texts(body.title.as_ref(), body.system_prompt.as_ref())?;
    let metadata = body.metadata.map(Value::Object);
    if metadata.as_ref().is_some_and(|metadata| metadata.to_string().len() > LARGEST_METADATA) {
        return Err(ApiError::invalid("metadata", "must have at most 8 KiB"));
    }
    let model = body.model_id.as_ref().map(|reference| choose::named(&state, "model_id", reference)).transpose()?;
    owned(&state, caller.account_id, id).await?;
    let change = SessionCommand::Change { title: body.title, system_prompt: body.system_prompt, metadata };
    let switch = model.map(|model| SessionCommand::SwitchModel { model: model.slug() });
    for step in std::iter::once(change).chain(switch) {
        command(&state, caller, &origin, id, step).await?;
    }
    Ok(Success::ok(read(&state, caller.account_id, id).await?))
}
