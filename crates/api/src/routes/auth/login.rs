//! `POST /auth/login`. A wrong address and a wrong password look the same, in words and in time.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use polyphony_domain::ids::AccountId;
use polyphony_platform::password;
use serde::Deserialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{Arrival, CookieParams, email_index, sign_in};
use crate::{
    auth::cookies,
    error::ApiError,
    extract::{Body, Origin, Params, check_length},
    limit::{Guesser, network},
    respond::Envelope,
    shapes::TokenAnswer,
    state::AppState,
};

/// Longer ones can't be anybody's, and hashing them would be a gift to whoever wants to keep us busy.
pub const LONGEST_PASSWORD: usize = 128;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    #[schema(example = "ada@example.org")]
    email: String,
    #[schema(example = "correct horse battery")]
    password: String,
    /// What the list of devices calls this one.
    #[schema(min_length = 1, max_length = 100)]
    device_name: Option<String>,
}

fn bad_credentials() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS", "the e-mail address or the password is wrong")
}

/// The account, if the password is its password. Either way it takes one password check.
async fn check(
    state: &AppState,
    email_index: &[u8; 32],
    secret: Zeroizing<String>,
) -> Result<Option<AccountId>, ApiError> {
    let known = state.store.credential(email_index).await?;
    if secret.chars().count() > LONGEST_PASSWORD {
        return Ok(None);
    }
    let Some(credential) = known else {
        password::verify_dummy(secret).await.map_err(ApiError::internal)?;
        return Ok(None);
    };
    let verdict =
        password::verify(secret.clone(), credential.password_hash.clone()).await.map_err(ApiError::internal)?;
    if !verdict.ok {
        return Ok(None);
    }
    if verdict.needs_upgrade {
        let fresh = password::hash(secret).await.map_err(ApiError::internal)?;
        state.store.upgrade_password_hash(credential.account_id, &credential.password_hash, &fresh).await?;
    }
    Ok(Some(credential.account_id))
}

/// Signs in. After ten failures the account, and after sixty the network, has to wait, each time longer.
#[utoipa::path(post, path = "/auth/login", tag = "auth", request_body = Login, params(CookieParams),
    security(()), responses((status = 200, body = Envelope<TokenAnswer>)))]
pub(super) async fn login(
    State(state): State<AppState>,
    origin: Origin,
    headers: HeaderMap,
    Params(params): Params<CookieParams>,
    Body { value: body, .. }: Body<Login>,
) -> Result<Response, ApiError> {
    let secret = Zeroizing::new(body.password);
    let network = network(origin.ip);
    state.limits.door.check(&network)?;
    if let Some(name) = &body.device_name {
        check_length("device_name", name, 1, 100)?;
    }
    let email_index = email_index(&state, &body.email);
    state.limits.account.check(&email_index)?;
    // A browser that has signed in here before has failures of its own: nobody can lock an owner out by guessing.
    let device = cookies::device(&headers, &state.secrets.pepper, &email_index);
    let guesser = device.map_or(Guesser::Account(email_index), Guesser::Device);
    let guess = state.limits.guesses.begin(guesser)?;
    let stranger = match device {
        Some(_) => None,
        None => Some(state.limits.strangers.begin(Guesser::Network(network))?),
    };
    let Some(account_id) = check(&state, &email_index, secret).await? else {
        guess.failed();
        if let Some(stranger) = stranger {
            stranger.failed();
        }
        return Err(bad_credentials());
    };
    // The network is not forgiven: its next guess may be at another account.
    guess.forgives();
    let arrival = Arrival {
        origin: &origin,
        account_id,
        email_index,
        device_name: body.device_name,
        cookie: params.cookie,
        status: StatusCode::OK,
    };
    sign_in(&state, arrival).await
}
