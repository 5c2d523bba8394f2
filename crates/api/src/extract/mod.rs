//! What handlers take: strict bodies and queries, ids, the caller.

mod body;
mod distinct;
mod fields;
mod query;

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Path},
    http::{header, request::Parts},
};
use polyphony_domain::ids::{AccountId, DeviceId};
use polyphony_eventstore::CommandContext;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use self::{
    body::{Body, OptionalBody},
    distinct::Distinct,
    query::Params,
};
use crate::{auth, error::ApiError, middleware::RequestMeta, state::AppState};

/// Who asks, by a token that was checked.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub account_id: AccountId,
    /// Device session of an access token; none for a personal access token.
    pub device_id: Option<DeviceId>,
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let mut headers = parts.headers.get_all(header::AUTHORIZATION).into_iter();
        // Of two credentials nobody could say which one counts.
        let (Some(header), None) = (headers.next(), headers.next()) else { return Err(ApiError::unauthorized()) };
        let header = header.to_str().map_err(|_| ApiError::unauthorized())?;
        let token = match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(ApiError::unauthorized()),
        };
        auth::authenticate(state, token).await
    }
}

/// The request around a command: its id, its trace, where it came from.
#[derive(Clone, Debug)]
pub struct Origin {
    pub meta: RequestMeta,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
}

impl Origin {
    pub fn context(&self, owner: AccountId) -> CommandContext {
        CommandContext {
            owner,
            actor: "user".to_owned(),
            correlation_id: Uuid::now_v7(),
            causation_id: None,
            request_id: Some(self.meta.request_id.clone()),
            ip: self.ip,
            user_agent: self.user_agent.clone(),
            traceparent: Some(self.meta.trace.to_string()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let meta = parts.extensions.get::<RequestMeta>().cloned().unwrap_or_else(RequestMeta::fresh);
        // Forwarded headers are a caller's claim: only the peer's own address counts.
        let ip = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical());
        let agent = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        Ok(Self { meta, ip, user_agent: agent.map(|agent| agent.chars().take(256).collect()) })
    }
}

/// One part of the path. What isn't text names nothing.
pub struct PathPart<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for PathPart<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        Path::from_request_parts(parts, state).await.map(|Path(part)| Self(part)).map_err(|_| ApiError::not_found())
    }
}

/// The id in the path. One that isn't an id names nothing.
pub struct PathId<T>(pub T);

impl<T: FromStr + Send> FromRequestParts<AppState> for PathId<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let PathPart(text) = PathPart::<String>::from_request_parts(parts, state).await?;
        text.parse().map(Self).map_err(|_| ApiError::not_found())
    }
}

/// Checks the length of a text in characters.
pub fn check_length(field: &str, text: &str, least: usize, most: usize) -> Result<(), ApiError> {
    let length = text.chars().count();
    if (least..=most).contains(&length) {
        return Ok(());
    }
    Err(ApiError::invalid(field, format!("must have {least} to {most} characters")))
}

/// Checks `limit`.
pub fn check_limit(limit: Option<u32>, standard: u32) -> Result<u32, ApiError> {
    match limit.unwrap_or(standard) {
        limit @ 1..=100 => Ok(limit),
        _ => Err(ApiError::invalid("limit", "must be from 1 to 100")),
    }
}

/// Checks `page`.
pub fn check_page(page: Option<u32>) -> Result<u32, ApiError> {
    match page.unwrap_or(1) {
        0 => Err(ApiError::invalid("page", "must be at least 1")),
        page => Ok(page),
    }
}
