//! Deleting a session, which can be undone for a while, and an account, which can't.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use polyphony_domain::{
    account::{Account, AccountCommand},
    ids::{AccountId, SessionId},
    session::{Session as Aggregate, SessionCommand},
};
use polyphony_eventstore::{Beside, Effect, Root, load::AnswerPlace};
use polyphony_platform::password;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use zeroize::Zeroizing;

use crate::{
    auth::cookies,
    error::ApiError,
    extract::{Body, Caller, Origin, PathId},
    limit::Guesser,
    respond::{Envelope, Success},
    routes::{auth, chat, sessions},
    shapes::Session,
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(delete_session))
        .routes(routes!(restore_session))
        .routes(routes!(delete_account))
}

/// Deletes a session. It can be restored for thirty days; then nobody can read it any more.
#[utoipa::path(delete, path = "/sessions/{id}", tag = "sessions", params(("id" = uuid::Uuid, Path)),
    responses((status = 204)))]
async fn delete_session(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathId(session_id): PathId<SessionId>,
) -> Result<StatusCode, ApiError> {
    let owner_id = caller.account_id;
    sessions::owned(&state, owner_id, session_id).await?;
    state
        .store
        .command::<Aggregate>(origin.context(owner_id), Root::Existing(session_id.as_uuid()))
        .effects(move |_, _| vec![Effect::DeleteSession { session_id, owner_id }])
        // Whoever asks at the same time has asked before it, and is stopped, or is refused.
        .beside(Beside::Nobody)
        .run(session_id.as_uuid(), SessionCommand::Delete(true))
        .await?;
    // Nobody will read what is still in the making.
    for run in state.store.runs_of_session(session_id).await? {
        let place = AnswerPlace { answer_id: run.answer_id, turn_id: run.turn_id, session_id, owner_id };
        chat::stop_one(&state, &origin, place).await?;
    }
    state.bus.poke_relay().await;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a deletion back. A session that isn't deleted stays as it is.
#[utoipa::path(post, path = "/sessions/{id}/restore", tag = "sessions", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = Envelope<Session>)))]
async fn restore_session(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    PathId(session_id): PathId<SessionId>,
) -> Result<Success<Session>, ApiError> {
    let (session, _) = state.store.load::<Aggregate>(session_id.as_uuid()).await?;
    if session.owner_id != Some(caller.account_id) {
        return Err(ApiError::not_found());
    }
    state
        .store
        .command::<Aggregate>(origin.context(caller.account_id), Root::Existing(session_id.as_uuid()))
        .effects(move |_, _| vec![Effect::RestoreSession { session_id }])
        .run(session_id.as_uuid(), SessionCommand::Delete(false))
        .await?;
    state.bus.poke_relay().await;
    Ok(Success::ok(sessions::read(&state, caller.account_id, session_id).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Farewell {
    /// The account's password: a stolen token alone erases nobody.
    password: String,
}

/// Erases the account and everything of it, at once and for ever. Its e-mail address is free again.
#[utoipa::path(delete, path = "/users/me", tag = "users", request_body = Farewell, responses((status = 204)))]
async fn delete_account(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: body, .. }: Body<Farewell>,
) -> Result<Response, ApiError> {
    let account_id = caller.account_id;
    expect_password(&state, account_id, Zeroizing::new(body.password)).await?;
    let devices = state.store.open_devices(account_id).await?;
    let runs = state.store.runs_of_owner(account_id).await?;
    state
        .store
        .command::<Account>(origin.context(account_id), Root::Existing(account_id.as_uuid()))
        .effects(move |_, _| vec![Effect::EraseAccount { account_id }])
        .run(account_id.as_uuid(), AccountCommand::Erase)
        .await?;
    // It is done; the rest only makes it felt sooner.
    state.store.forget_keys(account_id.as_uuid());
    state.bus.poke_erased(account_id.as_uuid()).await;
    for device in devices {
        state.revocations.revoke(device);
        state.bus.publish_revoked(device).await;
    }
    for run in runs {
        state.bus.publish_stop(run.answer_id).await;
    }
    if let Err(error) = state.bus.purge_chunks(account_id).await {
        // They are in memory only, and for a quarter of an hour at most.
        tracing::warn!(error = &error as &dyn std::error::Error, "chunks of an erased account stay until they expire");
    }
    state.bus.poke_relay().await;
    let mut response = StatusCode::NO_CONTENT.into_response();
    cookies::clear_refresh(&headers, response.headers_mut());
    Ok(response)
}

/// Whether this is the account's password. Guesses count as those at the door do.
async fn expect_password(state: &AppState, account: AccountId, secret: Zeroizing<String>) -> Result<(), ApiError> {
    let (known, _) = state.store.load::<Account>(account.as_uuid()).await?;
    let email_index = auth::email_index(state, known.email.as_str());
    let guess = state.limits.guesses.begin(Guesser::Account(email_index))?;
    let hash = state.store.password_hash(account).await?;
    let is_right = match hash {
        Some(hash) if secret.chars().count() <= auth::LONGEST_PASSWORD => {
            password::verify(secret, hash).await.map_err(ApiError::internal)?.ok
        }
        _ => false,
    };
    if !is_right {
        guess.failed();
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS", "the password is wrong"));
    }
    guess.forgives();
    Ok(())
}
