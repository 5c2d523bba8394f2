//! JSON bodies: strict, bounded, in time; and a hash of the request for idempotency.

use std::{error::Error as _, time::Duration};

use axum::{
    body::HttpBody as _,
    extract::{FromRequest, Request},
    http::{HeaderMap, Method, StatusCode, header},
};
use bytes::Bytes;
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::fields;
use crate::{error::ApiError, state::AppState};

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// A JSON body, and a hash of the request for idempotency.
pub struct Body<T> {
    pub value: T,
    pub request_hash: [u8; 32],
}

impl<T: DeserializeOwned> FromRequest<AppState> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let is_json = is_json(request.headers());
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let bytes = read(request, state.config.http.body_limit_bytes).await?;
        if !is_json {
            let message = "the body must be application/json";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message));
        }
        Ok(Self { value: parse(&bytes)?, request_hash: hash(&method, &path, &bytes) })
    }
}

/// A JSON body where it may be left out altogether.
pub struct OptionalBody<T> {
    pub value: T,
    pub request_hash: [u8; 32],
}

impl<T: DeserializeOwned + Default> FromRequest<AppState> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        if request.headers().get(header::CONTENT_TYPE).is_none() && request.body().is_end_stream() {
            let request_hash = hash(request.method(), request.uri().path(), &[]);
            return Ok(Self { value: T::default(), request_hash });
        }
        let Body { value, request_hash } = Body::from_request(request, state).await?;
        Ok(Self { value, request_hash })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
    })
}

async fn read(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    // Refused before it is sent, where the caller says how much it will be.
    if request.body().size_hint().lower() > limit as u64 {
        return Err(ApiError::too_large());
    }
    let reading = axum::body::to_bytes(request.into_body(), limit);
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.source().is_some_and(|source| source.is::<LengthLimitError>()) => {
            Err(ApiError::too_large())
        }
        Ok(Err(_)) => Err(ApiError::invalid("body", "broke off")),
        Err(_) => Err(ApiError::invalid("body", "took too long to arrive")),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // serde would take a list for a struct, field by field.
    let begin = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if begin.is_some_and(|byte| *byte != b'{') {
        return Err(ApiError::invalid("body", "must be a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        if error.inner().is_data() {
            fields::refused(&error.path().to_string(), &error.inner().to_string())
        } else {
            ApiError::invalid("body", "is not valid JSON")
        }
    })?;
    deserializer.end().map_err(|_| ApiError::invalid("body", "goes on after the JSON value"))?;
    refuse_nul(bytes)?;
    Ok(value)
}

/// U+0000 can't be stored in a text, and nobody means it. In JSON it can only stand as an escape.
fn refuse_nul(bytes: &[u8]) -> Result<(), ApiError> {
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn only_a_real_nul_is_refused() {
        for (text, ok) in
            [(r#"{"a":"\u0000"}"#, false), (r#"{"a":"\\u0000"}"#, true), (r#"{"a":"\\\u0000"}"#, false), ("{}", true)]
        {
            assert_eq!(parse::<Value>(text.as_bytes()).is_ok(), ok, "{text}");
        }
    }

    #[test]
    fn deep_nesting_and_broken_text_are_refused_not_fatal() {
        let deep = r#"{"a":"#.repeat(100_000) + "1" + &"}".repeat(100_000);
        for text in [
            deep.as_str(),
            r#"{"a":"\ud800"}"#,
            "{\"a\":\"\u{1}\"}",
            r#"{"a":1e400}"#,
            "{} {}",
            "\u{feff}{}",
            "nul",
            "",
            "[]",
            "null",
            "\"a\"",
        ] {
            assert!(parse::<Value>(text.as_bytes()).is_err(), "{}", &text[..text.len().min(40)]);
        }
        assert!(parse::<Value>(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn the_hash_tells_requests_apart() {
        let one = hash(&Method::POST, "/a", b"bc");
        assert_eq!(one, hash(&Method::POST, "/a", b"bc"));
        for other in
            [hash(&Method::PUT, "/a", b"bc"), hash(&Method::POST, "/ab", b"c"), hash(&Method::POST, "/a", b"b")]
        {
            assert_ne!(one, other);
        }
    }
}
