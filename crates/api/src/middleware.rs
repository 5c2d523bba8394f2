//! Around every request: its id and trace, its metrics, the headers of its answer, and what becomes of a panic.

use std::{any::Any, time::Instant};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use polyphony_platform::telemetry::TraceContext;
use tracing::Instrument;
use uuid::Uuid;

use crate::error::{ApiError, READS_CHINESE};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Id and trace of a request.
#[derive(Clone, Debug)]
pub struct RequestMeta {
    pub request_id: String,
    pub trace: TraceContext,
}

impl RequestMeta {
    pub fn fresh() -> Self {
        Self { request_id: Uuid::now_v7().to_string(), trace: TraceContext::random() }
    }
}

/// The outermost layer.
pub async fn around(mut request: Request, next: Next) -> Response {
    let mut meta = RequestMeta::fresh();
    if let Some(id) = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok())
        && (1..=128).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_graphic())
    {
        id.clone_into(&mut meta.request_id);
    }
    if let Some(trace) =
        request.headers().get(TRACEPARENT).and_then(|trace| trace.to_str().ok()?.parse::<TraceContext>().ok())
    {
        meta.trace = trace.child();
    }
    let chinese = request
        .headers()
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|languages| languages.to_str().ok())
        .is_some_and(|languages| languages.trim_start().to_ascii_lowercase().starts_with("zh"));
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "unknown".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let span = tracing::info_span!(
        "http.request", %method, route, request_id = meta.request_id, trace_id = %meta.trace.trace_id()
    );
    let request_id = HeaderValue::from_str(&meta.request_id);
    request.extensions_mut().insert(meta);
    let started = Instant::now();
    let mut response = READS_CHINESE.scope(chinese, next.run(request)).instrument(span.clone()).await;
    let status = response.status();
    let class = match status.as_u16() {
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    };
    let labels = [("route", route), ("method", known(&method).to_owned()), ("status", class.to_owned())];
    metrics::counter!("polyphony_http_requests_total", &labels).increment(1);
    metrics::histogram!("polyphony_http_request_seconds", &labels).record(started.elapsed().as_secs_f64());
    span.in_scope(|| tracing::debug!(status = status.as_u16(), "answered"));
    let headers = response.headers_mut();
    if let Ok(request_id) = request_id {
        headers.insert(REQUEST_ID, request_id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A method as a label: callers can invent any number of them.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

/// What a caller gets when a handler panics. The panic itself has been logged by the hook.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::internal("a handler panicked").into_response()
}

/// An unknown path.
pub async fn not_found() -> ApiError {
    ApiError::not_found()
}

/// A known path, another method.
pub async fn method_not_allowed() -> ApiError {
    let message = "this path doesn't take that method";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
}
