//! What handlers take: strict bodies and queries, ids, the caller.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use axum::{
    extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Query, Request},
    http::{Method, StatusCode, header, request::Parts},
};
use bytes::Bytes;
use polyphony_domain::ids::{AccountId, DeviceId};
use polyphony_eventstore::CommandContext;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use uuid::Uuid;

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
        let header = parts.headers.get(header::AUTHORIZATION).ok_or_else(ApiError::unauthorized)?;
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

/// A JSON body, and a hash of the request for idempotency.
pub struct Body<T> {
    pub value: T,
    pub request_hash: [u8; 32],
}

impl<T: DeserializeOwned> FromRequest<AppState> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let is_json =
            request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
                let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
                kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
            });
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let bytes = axum::body::to_bytes(request.into_body(), state.config.http.body_limit_bytes)
            .await
            .map_err(|_| ApiError::too_large())?;
        if !is_json {
            let message = "the body must be application/json";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message));
        }
        let request_hash = hash(&method, &path, &bytes);
        let mut deserializer = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { "body" } else { &path };
            ApiError::invalid(field, plain(&error.inner().to_string()))
        })?;
        deserializer.end().map_err(|_| ApiError::invalid("body", "there is something after the JSON value"))?;
        refuse_nul(&bytes)?;
        Ok(Self { value, request_hash })
    }
}

/// Without "at line 1 column 2": callers know fields, not columns.
fn plain(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}

/// U+0000 can't be stored in a text, and nobody means it. In JSON it can only stand as an escape.
fn refuse_nul(bytes: &Bytes) -> Result<(), ApiError> {
    let mut escaped = false;
    for (index, byte) in bytes.iter().enumerate() {
        if escaped && bytes[index..].starts_with(b"u0000") {
            return Err(ApiError::invalid("body", "a text holds the character U+0000"));
        }
        escaped = *byte == b'\\' && !escaped;
    }
    Ok(())
}

fn hash(method: &Method, path: &str, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [method.as_str().as_bytes(), path.as_bytes(), body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A query without unknown parameters.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Query(value) = Query::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::invalid("query", plain(&error.body_text())))?;
        Ok(Self(value))
    }
}

/// The id in the path. One that isn't an id names nothing.
pub struct PathId<T>(pub T);

impl<T: FromStr + Send> FromRequestParts<AppState> for PathId<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| ApiError::not_found())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_real_nul_is_refused() {
        for (text, ok) in
            [(r#"{"a":"\u0000"}"#, false), (r#"{"a":"\\u0000"}"#, true), (r#"{"a":"\\\u0000"}"#, false), ("{}", true)]
        {
            assert_eq!(refuse_nul(&Bytes::from(text)).is_ok(), ok, "{text}");
        }
    }
}
