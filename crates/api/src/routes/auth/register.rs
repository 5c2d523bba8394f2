//! `POST /auth/register`.

use axum::{extract::State, http::StatusCode, response::Response};
use polyphony_domain::{
    account::{Account, AccountCommand, Role},
    ids::AccountId,
};
use polyphony_eventstore::{Effect, Root};
use polyphony_platform::password;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Arrival, CookieParams, email_index, sign_in};
use crate::{
    error::ApiError,
    extract::{Body, Origin, Params, check_length},
    limit::network,
    respond::Envelope,
    shapes::TokenAnswer,
    state::AppState,
};

/// Most bytes of an address, RFC 5321.
const LONGEST_EMAIL: usize = 254;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Register {
    /// Unique, whatever its case.
    #[schema(example = "ada@example.org")]
    email: String,
    /// 10 to 128 characters, never cut off.
    #[schema(min_length = 10, max_length = 128, example = "correct horse battery")]
    password: String,
    #[schema(min_length = 1, max_length = 100)]
    nickname: Option<String>,
}

/// Sanity, not proof: only a mail proves an address.
fn check_email(email: &str) -> Result<String, ApiError> {
    let email = email.trim();
    let sane = email.len() <= LONGEST_EMAIL
        && email.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && local.len() <= 64
                && !domain.contains('@')
                && domain.contains('.')
                && domain.split('.').all(|label| !label.is_empty())
        })
        && !email.chars().any(|c| c.is_whitespace() || c.is_control() || "<>()[]\\,;:\"".contains(c));
    if sane { Ok(email.to_owned()) } else { Err(ApiError::invalid("email", "must be an e-mail address")) }
}

/// Registers an account and signs it in.
#[utoipa::path(post, path = "/auth/register", tag = "auth", request_body = Register, params(CookieParams),
    security(()), responses((status = 201, body = Envelope<TokenAnswer>)))]
pub(super) async fn register(
    State(state): State<AppState>,
    origin: Origin,
    Params(params): Params<CookieParams>,
    Body { value: body, .. }: Body<Register>,
) -> Result<Response, ApiError> {
    let secret = Zeroizing::new(body.password);
    state.limits.door.check(&network(origin.ip))?;
    let email = check_email(&body.email)?;
    check_length("password", &secret, 10, 128)?;
    if let Some(nickname) = &body.nickname {
        check_length("nickname", nickname, 1, 100)?;
    }
    let admin = state.config.admin.email.trim();
    let is_admin = !admin.is_empty() && admin.to_lowercase() == email.to_lowercase();
    let role = if is_admin { Role::Admin } else { Role::User };
    let email_index = email_index(&state, &email);
    state.limits.account.check(&email_index)?;
    let password_hash = password::hash(secret).await.map_err(ApiError::internal)?;
    let account_id = AccountId::new(Uuid::now_v7());
    state
        .store
        .command::<Account>(origin.context(account_id), Root::New(account_id.as_uuid()))
        .from_nothing()
        .effects(move |_, _| {
            let password_hash = password_hash.clone();
            vec![Effect::CreateCredential { account_id, email_index, password_hash }]
        })
        .run(account_id.as_uuid(), AccountCommand::Register { email, nickname: body.nickname, role })
        .await?;
    let arrival = Arrival {
        origin: &origin,
        account_id,
        email_index,
        device_name: None,
        cookie: params.cookie,
        status: StatusCode::CREATED,
    };
    sign_in(&state, arrival).await
}

#[cfg(test)]
mod tests {
    use super::check_email;

    #[test]
    fn addresses_are_looked_at_once() {
        for (email, sane) in [
            ("ada@example.org", true),
            ("  ada+tag@sub.example.org ", true),
            ("艾达@例子.中国", true),
            ("", false),
            ("ada", false),
            ("ada@", false),
            ("@example.org", false),
            ("ada@example", false),
            ("ada@.org", false),
            ("ada@example..org", false),
            ("ada@example.org.", false),
            ("a@b@example.org", false),
            ("a b@example.org", false),
            ("ada@example.org\r\nBcc: x@example.org", false),
            ("<ada@example.org>", false),
        ] {
            assert_eq!(check_email(email).is_ok(), sane, "{email}");
        }
        assert!(check_email(&format!("{}@example.org", "a".repeat(65))).is_err());
        assert!(check_email(&format!("a@{}org", "a.".repeat(130))).is_err());
    }
}
