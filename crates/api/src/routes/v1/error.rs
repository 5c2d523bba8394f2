//! Errors as the SDKs know them, and what is the same for every call: the key's header and the request's id.

use axum::{
    Json,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{error::Facts, middleware::RequestMeta};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Whose shape an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    OpenAi,
    Anthropic,
}

impl Shape {
    /// The shape that a caller expects: both SDKs ask for `/v1/models`, but only one names its version.
    pub fn of(path: &str, headers: &HeaderMap) -> Self {
        let is_anthropic = path.starts_with("/messages")
            || path.starts_with("/v1/messages")
            || headers.contains_key("anthropic-version");
        if is_anthropic { Self::Anthropic } else { Self::OpenAi }
    }
}

/// The status in the SDKs' world: a context that is too long is a bad request there.
fn status(facts: &Facts) -> StatusCode {
    if facts.code == "CONTEXT_TOO_LONG" { StatusCode::BAD_REQUEST } else { facts.status }
}

/// The names that OpenAI gives to the type and the code.
fn openai_words(facts: &Facts) -> (&'static str, String) {
    let is_model = facts.field.as_deref() == Some("model");
    match facts.code {
        "UNAUTHORIZED" | "TOKEN_EXPIRED" => ("authentication_error", "invalid_api_key".to_owned()),
        "FORBIDDEN" => ("permission_error", "forbidden".to_owned()),
        "NOT_FOUND" if is_model => ("invalid_request_error", "model_not_found".to_owned()),
        "CONTEXT_TOO_LONG" => ("invalid_request_error", "context_length_exceeded".to_owned()),
        "RATE_LIMITED" => ("rate_limit_error", "rate_limit_exceeded".to_owned()),
        "QUOTA_EXCEEDED" => ("insufficient_quota", "insufficient_quota".to_owned()),
        other if facts.status.is_server_error() => ("server_error", other.to_ascii_lowercase()),
        other => ("invalid_request_error", other.to_ascii_lowercase()),
    }
}

fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    }
}

/// An error in OpenAI's shape.
#[derive(Serialize, ToSchema)]
pub struct OpenAiError {
    error: OpenAiErrorBody,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
struct OpenAiErrorBody {
    message: String,
    /// `invalid_request_error`, `authentication_error`, `rate_limit_error`, `insufficient_quota`, `server_error` …
    #[serde(rename = "type")]
    #[schema(example = "invalid_request_error")]
    kind: &'static str,
    /// The field that was refused.
    param: Option<String>,
    /// Stable; for programs.
    #[schema(example = "model_not_found")]
    code: String,
}

/// An error in Anthropic's shape.
#[derive(Serialize, ToSchema)]
pub struct AnthropicError {
    #[serde(rename = "type")]
    #[schema(example = "error")]
    kind: &'static str,
    error: AnthropicErrorBody,
    request_id: Option<String>,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
struct AnthropicErrorBody {
    /// `invalid_request_error`, `authentication_error`, `not_found_error`, `rate_limit_error`, `api_error` …
    #[serde(rename = "type")]
    #[schema(example = "not_found_error")]
    kind: &'static str,
    message: String,
}

/// An error as `{"error": {…}}` of OpenAI.
pub fn openai(facts: &Facts) -> Value {
    let (kind, code) = openai_words(facts);
    // Parameters stand at the top there.
    let param = facts.field.as_deref().map(|field| field.strip_prefix("params.").unwrap_or(field).to_owned());
    json!(OpenAiError { error: OpenAiErrorBody { message: facts.message.clone(), kind, param, code } })
}

/// An error as `{"type": "error", …}` of Anthropic.
pub fn anthropic(facts: &Facts, request_id: Option<&str>) -> Value {
    let error = AnthropicErrorBody { kind: anthropic_type(status(facts)), message: facts.message.clone() };
    json!(AnthropicError { kind: "error", error, request_id: request_id.map(str::to_owned) })
}

/// Around every call: the key may come as `x-api-key`, errors are put into the caller's shape.
pub async fn around(mut request: Request, next: Next) -> Response {
    let shape = Shape::of(request.uri().path(), request.headers());
    let meta = request.extensions().get::<RequestMeta>().cloned();
    let request_id = meta.as_ref().map(|meta| meta.request_id.as_str());
    if !request.headers().contains_key(header::AUTHORIZATION)
        && let Some(key) = request.headers().get(API_KEY).and_then(|key| key.to_str().ok())
        && let Ok(bearer) = HeaderValue::from_str(&format!("Bearer {key}"))
    {
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
    }
    let has_key = request.headers().contains_key(IDEMPOTENCY_KEY);
    let mut response = next.run(request).await;
    if let Some(facts) = response.extensions().get::<Facts>().cloned() {
        let body = match shape {
            Shape::OpenAi => openai(&facts),
            Shape::Anthropic => anthropic(&facts, request_id),
        };
        let mut rendered = (status(&facts), Json(body)).into_response();
        for (name, value) in response.headers() {
            if ![header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name) {
                rendered.headers_mut().insert(name, value.clone());
            }
        }
        // The SDKs try again after each of these statuses, which can't help here: under the same key the same answer is
        // found again.
        if ["QUOTA_EXCEEDED", "CONFLICT"].contains(&facts.code) || (facts.is_end && has_key) {
            rendered.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response = rendered;
    }
    if shape == Shape::Anthropic
        && let Some(id) = request_id.and_then(|id| HeaderValue::from_str(id).ok())
    {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
