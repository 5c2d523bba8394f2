//! What a provider still allows, from the headers of its answer.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;

use crate::{Allowance, Limits, error::wait_until};

/// Kinds of tokens that are counted apart.
const TOKENS: [&str; 3] = ["tokens", "input-tokens", "output-tokens"];

/// Reads the limits; `None` where the answer has none.
pub(super) fn limits(headers: &HeaderMap) -> Option<Limits> {
    at(headers, Utc::now())
}

fn at(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Limits> {
    let text = |name: String| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let number = |name: String| text(name)?.parse::<f64>().ok().map(|number| number.max(0.0) as u64);
    let reset = |name: String| -> Option<Duration> { wait_until(text(name)?, now) };
    let allowance = |what: &str| {
        let common = |field: &str| format!("x-ratelimit-{field}-{what}");
        let anthropic = |field: &str| format!("anthropic-ratelimit-{what}-{field}");
        Some(Allowance {
            remaining: number(common("remaining")).or_else(|| number(anthropic("remaining")))?,
            limit: number(common("limit")).or_else(|| number(anthropic("limit"))),
            reset: reset(common("reset")).or_else(|| reset(anthropic("reset"))),
        })
    };
    let requests = allowance("requests");
    let tokens = TOKENS.into_iter().filter_map(allowance).min_by_key(|it| it.remaining);
    (requests.is_some() || tokens.is_some()).then_some(Limits { requests, tokens })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &str)]) -> Option<Limits> {
        let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        at(&headers, "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn limits_are_read_from_either_family_of_headers() {
        let openai = read(&[
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-reset-requests", "120ms"),
            ("x-ratelimit-remaining-tokens", "29000"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ]);
        let requests = Allowance { remaining: 499, limit: Some(500), reset: Some(Duration::from_millis(120)) };
        let tokens = Allowance { remaining: 29_000, limit: None, reset: Some(Duration::from_secs(360)) };
        assert_eq!(openai, Some(Limits { requests: Some(requests), tokens: Some(tokens) }));
        let anthropic = read(&[
            ("anthropic-ratelimit-input-tokens-remaining", "9000"),
            ("anthropic-ratelimit-output-tokens-remaining", "800"),
            ("anthropic-ratelimit-output-tokens-reset", "2026-01-01T00:00:12Z"),
        ]);
        let tokens = Allowance { remaining: 800, limit: None, reset: Some(Duration::from_secs(12)) };
        assert_eq!(anthropic, Some(Limits { requests: None, tokens: Some(tokens) }));
        assert_eq!(read(&[("content-type", "text/event-stream")]), None);
    }
}
