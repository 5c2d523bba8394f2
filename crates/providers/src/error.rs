//! What a provider can answer instead of an answer. Never holds an upstream body, a URL or a key.

mod classify;
mod retry_after;

use std::time::Duration;

use reqwest::{StatusCode, header::HeaderMap};
use serde_json::Value;
use thiserror::Error;

pub(crate) use self::retry_after::{from_headers as retry_after, wait as wait_until};

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
    /// The provider did not take back what it had signed or encrypted: it was for another key's organisation, or for
    /// another model.
    SignatureRefused,
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
                ErrorKind::SignatureRefused => "the provider did not take back its own earlier reasoning",
                ErrorKind::ContentFilter => "the provider's content filter refused the request",
                ErrorKind::Overloaded => "the provider is overloaded or out of order",
                ErrorKind::Timeout => "the provider stopped answering",
                ErrorKind::Interrupted => "the provider's answer broke off",
                ErrorKind::Protocol => "the provider's answer could not be understood",
                ErrorKind::Unreachable => "the provider can't be reached",
                ErrorKind::Redirect => "the provider answered with a redirect, which is not followed",
                ErrorKind::ResponseTooLarge => "the provider's answer is too large",
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
        let body: Value =
            serde_json::from_slice(body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()));
        let mut described = Self::described(Some(status.as_u16()), &body);
        described.retry_after = retry_after(headers).or(described.retry_after);
        described
    }

    /// What an error says, from an error answer or from within a stream: the error object, one that wraps it, or text.
    pub(crate) fn described(status: Option<u16>, error: &Value) -> Self {
        let said = classify::Said::new(status, error);
        Self { status: said.status, retry_after: said.wait(), ..Self::of(said.kind()) }
    }
}
