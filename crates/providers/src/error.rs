//! What a provider can answer instead of an answer. Never holds an upstream body, a URL or a key.

use std::time::{Duration, SystemTime};

use reqwest::{StatusCode, header::HeaderMap};
use serde_json::Value;
use thiserror::Error;

/// The longest wait that is taken over from a provider: an hour.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The key was refused.
    InvalidKey,
    /// Too many requests or tokens at the moment.
    RateLimited,
    /// The account has no balance or quota left.
    QuotaExceeded,
    /// The conversation does not fit the model's window.
    ContextTooLong,
    /// There is no such model, or not for this key.
    ModelUnavailable,
    /// The provider did not understand the request.
    BadRequest,
    /// The provider's filter refused the request.
    ContentFilter,
    /// The provider is overloaded or broken.
    Overloaded,
    /// Nothing came for too long.
    Timeout,
    /// The stream ended without its end marker.
    Interrupted,
    /// The answer can't be understood.
    Protocol,
    /// No connection.
    Unreachable,
    /// The provider wanted to send us elsewhere.
    Redirect,
    /// A line of the answer is larger than anything sensible.
    ResponseTooLarge,
}

/// A failed call.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct ProviderError {
    /// What went wrong.
    pub kind: ErrorKind,
    /// HTTP status, if there was one.
    pub status: Option<u16>,
    /// How long the provider wants us to wait.
    pub retry_after: Option<Duration>,
    /// For a person.
    pub message: String,
}

impl ProviderError {
    /// An error of a kind, with its words for a person.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, status: None, retry_after: None, message: message.into() }
    }

    /// An error of a kind with its standard words.
    pub fn of(kind: ErrorKind) -> Self {
        Self::new(
            kind,
            match kind {
                ErrorKind::InvalidKey => "the provider refused the key",
                ErrorKind::RateLimited => "the provider asks to slow down",
                ErrorKind::QuotaExceeded => "the provider account has no balance or quota left",
                ErrorKind::ContextTooLong => "the conversation is too long for this model",
                ErrorKind::ModelUnavailable => "the provider does not offer this model to this key",
                ErrorKind::BadRequest => "the provider did not accept the request",
                ErrorKind::ContentFilter => "the provider's content filter refused the request",
                ErrorKind::Overloaded => "the provider is overloaded or out of order",
                ErrorKind::Timeout => "the provider stopped answering",
                ErrorKind::Interrupted => "the provider's answer broke off",
                ErrorKind::Protocol => "the provider's answer could not be understood",
                ErrorKind::Unreachable => "the provider can't be reached",
                ErrorKind::Redirect => "the provider answered with a redirect, which is not followed",
                ErrorKind::ResponseTooLarge => "the provider's answer has a line that is too large",
            },
        )
    }

    /// Whether the same request may succeed a little later.
    pub const fn retryable(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::RateLimited
                | ErrorKind::Overloaded
                | ErrorKind::Timeout
                | ErrorKind::Interrupted
                | ErrorKind::Unreachable
        )
    }

    /// The stable code of the contract.
    pub const fn api_code(&self) -> &'static str {
        match self.kind {
            ErrorKind::InvalidKey => "INVALID_API_KEY",
            ErrorKind::RateLimited => "RATE_LIMITED",
            ErrorKind::QuotaExceeded => "QUOTA_EXCEEDED",
            ErrorKind::ContextTooLong => "CONTEXT_TOO_LONG",
            ErrorKind::ModelUnavailable => "MODEL_UNAVAILABLE",
            ErrorKind::Timeout => "PROVIDER_TIMEOUT",
            _ => "PROVIDER_ERROR",
        }
    }

    /// A call that did not come through.
    pub(crate) fn transport(error: &reqwest::Error) -> Self {
        Self::of(if error.is_timeout() {
            ErrorKind::Timeout
        } else if error.is_connect() {
            ErrorKind::Unreachable
        } else {
            ErrorKind::Interrupted
        })
    }

    /// An answer with an error status.
    pub(crate) fn http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        if status.is_redirection() {
            return Self { status: Some(status.as_u16()), ..Self::of(ErrorKind::Redirect) };
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        // Gemini's OpenAI-shaped endpoint wraps the object in an array.
        let body = body.get(0).unwrap_or(&body);
        let error = body.get("error").filter(|error| error.is_object()).unwrap_or(body);
        let mut described = Self::described(Some(status.as_u16()), error);
        described.retry_after = retry_after(headers).or(described.retry_after);
        described
    }

    /// An error object, from an error answer or from within a stream.
    pub(crate) fn described(status: Option<u16>, error: &Value) -> Self {
        let word = |name: &str| match error.get(name) {
            Some(Value::String(text)) => text.to_ascii_lowercase(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let codes = format!("{} {} {}", word("code"), word("type"), word("status"));
        let message = if let Value::String(text) = error { text.to_ascii_lowercase() } else { word("message") };
        let status = status.or_else(|| {
            let number = |name: &str| error.get(name)?.as_u64().and_then(|code| u16::try_from(code).ok());
            number("status_code").or_else(|| number("code")).filter(|code| (400..600).contains(code))
        });
        let retry_after = error
            .get("details")
            .and_then(Value::as_array)
            .and_then(|details| details.iter().find_map(|detail| go_duration(detail.get("retryDelay")?.as_str()?)));
        Self { status, retry_after, ..Self::of(kind_of(status.unwrap_or(0), &codes, &message)) }
    }
}

fn kind_of(status: u16, codes: &str, message: &str) -> ErrorKind {
    let says = |words: &[&str]| words.iter().any(|word| codes.contains(word) || message.contains(word));
    if says(&[
        "context_length_exceeded",
        "maximum context length",
        "context window",
        "context length",
        "context size",
        "exceed_context",
        "token limit",
        "too many tokens",
        "prompt is too long",
        "input is too long",
        "reduce the length",
        "input length",
        "range of input length",
        "exceeds the maximum number of tokens",
        "max_prompt_tokens",
        "token count",
    ]) && status != 429
    {
        return ErrorKind::ContextTooLong;
    }
    if says(&[
        "insufficient_quota",
        "insufficient balance",
        "insufficient_balance",
        "exceeded your current quota",
        "billing",
        "arrearage",
        "credit balance",
        "insufficient credits",
        "requires more credits",
    ]) || status == 402
    {
        return ErrorKind::QuotaExceeded;
    }
    if says(&[
        "invalid_api_key",
        "api_key_invalid",
        "incorrect api key",
        "invalid api key",
        "api key not valid",
        "authentication_error",
        "invalid_authentication",
        "no auth credentials",
    ]) || status == 401
    {
        return ErrorKind::InvalidKey;
    }
    if says(&[
        "content_filter",
        "content_policy",
        "data_inspection_failed",
        "content management policy",
        "contentfilter",
    ]) {
        return ErrorKind::ContentFilter;
    }
    if says(&[
        "model_not_found",
        "does not exist",
        "model not found",
        "unknown model",
        "no such model",
        "model_decommissioned",
        "not a valid model",
    ]) || status == 404
    {
        return ErrorKind::ModelUnavailable;
    }
    match status {
        429 => ErrorKind::RateLimited,
        403 => ErrorKind::InvalidKey,
        408 | 504 => ErrorKind::Timeout,
        413 => ErrorKind::ContextTooLong,
        400..=499 => ErrorKind::BadRequest,
        500..=599 => ErrorKind::Overloaded,
        _ if says(&["overloaded", "server_error", "internal", "unavailable"]) => ErrorKind::Overloaded,
        _ if says(&["rate_limit", "rate limit", "too many requests"]) => ErrorKind::RateLimited,
        _ => ErrorKind::BadRequest,
    }
}

/// Reads the wait from the headers: `retry-after-ms`, seconds, an HTTP date, or a Go duration.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let milliseconds = || text("retry-after-ms")?.parse().ok().map(Duration::from_millis);
    let standard = || {
        let value = text("retry-after")?;
        let seconds = || value.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let date = || {
            let date = httpdate::parse_http_date(value).ok()?;
            Some(date.duration_since(SystemTime::now()).unwrap_or_default())
        };
        seconds().or_else(date).or_else(|| go_duration(value))
    };
    milliseconds().or_else(standard).map(|wait| wait.min(LONGEST_WAIT))
}

/// Reads `6m0s`, `34.4s`, `1h2m`, `250ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let units = [("ms", 0.001), ("h", 3_600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, factor) = units.into_iter().find(|(unit, _)| tail.starts_with(unit))?;
        seconds += number.parse::<f64>().ok()? * factor;
        rest = tail.strip_prefix(unit)?;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty()).map(|wait| wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn waits_are_read_in_every_form() {
        assert_eq!(go_duration("6m0s"), Some(Duration::from_secs(360)));
        assert_eq!(go_duration("34.4s"), Some(Duration::from_millis(34_400)));
        assert_eq!(go_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(go_duration("99999h"), Some(LONGEST_WAIT));
        assert_eq!(go_duration("soon"), None);
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_static("2"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(2)));
        headers.insert("retry-after-ms", HeaderValue::from_static("1500"));
        assert_eq!(retry_after(&headers), Some(Duration::from_millis(1_500)));
    }
}
