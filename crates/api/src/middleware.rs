//! Around every request: its id and trace, its metrics, the headers of its answer, and what becomes of a panic.

use std::{any::Any, cell::Cell, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use polyphony_platform::telemetry::TraceContext;
use tracing::Instrument;
use url::Url;
use uuid::Uuid;

use crate::{
    error::{ApiError, READS_CHINESE},
    limit::ALLOWANCE,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A year, as ASVS 3.4.1 asks.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000; includeSubDomains");
/// What isn't a page has nothing to load and is in nobody's frame.
const NO_PAGE: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
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

/// How callers reach us from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Http,
    Https,
}

impl Transport {
    pub fn of(public_url: &Url) -> Self {
        if public_url.scheme() == "https" { Self::Https } else { Self::Http }
    }
}

/// The outermost layer.
pub async fn around(State(transport): State<Transport>, mut request: Request, next: Next) -> Response {
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
    let chinese = reads_chinese(request.headers());
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "unknown".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let span = tracing::info_span!(
        "http.request", %method, route, request_id = meta.request_id, trace_id = %meta.trace.trace_id()
    );
    let request_id = HeaderValue::from_str(&meta.request_id);
    request.extensions_mut().insert(meta);
    let started = Instant::now();
    let answering = async {
        let response = next.run(request).await;
        (response, ALLOWANCE.with(Cell::get))
    };
    let answering = ALLOWANCE.scope(Cell::new(None), READS_CHINESE.scope(chinese, answering));
    let (mut response, allowance) = answering.instrument(span.clone()).await;
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
    if let Some(allowance) = allowance {
        allowance.write(headers);
    }
    if transport == Transport::Https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(NO_PAGE);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Whether the caller would rather read Chinese than English. Other languages are not spoken here.
fn reads_chinese(headers: &HeaderMap) -> bool {
    let languages = headers.get(header::ACCEPT_LANGUAGE).and_then(|languages| languages.to_str().ok());
    // Most wanted first; of those that are wanted alike the first one named.
    let mut best = (0.0, false);
    for language in languages.unwrap_or_default().split(',').take(32) {
        let mut parts = language.split(';').map(str::trim);
        let tag = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |weight| weight.parse().ok());
        let weight: f32 = weight.unwrap_or(0.0);
        let is_chinese = match tag.split('-').next() {
            Some("zh") => true,
            Some("en" | "*") => false,
            _ => continue,
        };
        if weight > best.0 {
            best = (weight, is_chinese);
        }
    }
    best.1
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_one_that_is_wanted_most() {
        for (languages, chinese) in [
            ("", false),
            ("zh", true),
            ("zh-CN,zh;q=0.9,en;q=0.8", true),
            ("en-US,en;q=0.9,zh-CN;q=0.8", false),
            ("en;q=0.2, zh;q=0.8", true),
            ("fr, de;q=0.9, zh-TW;q=0.5, en;q=0.4", true),
            ("fr", false),
            ("zh;q=0", false),
            ("zhx", false),
            ("zh;q=nonsense", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_str(languages).unwrap());
            assert_eq!(reads_chinese(&headers), chinese, "{languages}");
        }
    }
}
