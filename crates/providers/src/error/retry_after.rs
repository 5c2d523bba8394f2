//! How long a provider asks us to wait: seconds, HTTP dates, milliseconds, Go durations, RFC 3339, or only in prose.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;

/// The longest wait that is taken over from a provider: an hour. A longer one counts as this.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// Reads the wait from an answer's headers.
pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Duration> {
    at(headers, Utc::now())
}

/// `retry-after-ms` is the most exact and wins. The `x-ratelimit-reset-*` headers come with every answer and count only
/// for a limit that is used up.
fn at(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let milliseconds = || seconds(text("retry-after-ms")?.parse::<f64>().ok()? / 1_000.0);
    let standard = || wait(text("retry-after")?, now);
    let used_up = || {
        ["requests", "tokens"]
            .into_iter()
            .filter(|what| text(&format!("x-ratelimit-remaining-{what}")) == Some("0"))
            .filter_map(|what| wait(text(&format!("x-ratelimit-reset-{what}"))?, now))
            .max()
    };
    milliseconds().or_else(standard).or_else(used_up)
}

/// One value in any of the forms.
pub(crate) fn wait(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(number) = value.parse::<f64>() {
        return seconds(number);
    }
    go_duration(value).or_else(|| {
        let at = DateTime::parse_from_rfc2822(value).or_else(|_| DateTime::parse_from_rfc3339(value)).ok()?;
        // A date in the past means: now.
        Some((at.with_timezone(&Utc) - now).to_std().unwrap_or_default().min(LONGEST_WAIT))
    })
}

/// A wait named only in the error's prose: "try again in 174ms", "after 1 seconds", "in 1m2.5s". Takes lower case.
pub(super) fn in_prose(text: &str) -> Option<Duration> {
    const LEADS: [&str; 4] = ["try again in ", "try again after ", "retry in ", "retry after "];
    let rest = LEADS.iter().find_map(|lead| text.split_once(lead)).map(|(_, rest)| rest)?;
    let mut words = rest.split_whitespace().map(|word| word.trim_end_matches(['.', ',', ';', ')']));
    let first = words.next()?;
    let Ok(number) = first.parse::<f64>() else { return go_duration(first) };
    let factor = match words.next()? {
        "ms" | "milliseconds" => 0.001,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3_600.0,
        _ => return None,
    };
    seconds(number * factor)
}

/// Reads `6m0s`, `34.4s`, `1h2m`, `250ms`.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let units = [("ms", 0.001), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9), ("h", 3_600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, factor) = units.into_iter().find(|(unit, _)| tail.starts_with(unit))?;
        total += number.parse::<f64>().ok()? * factor;
        rest = tail.strip_prefix(unit)?;
    }
    if text.is_empty() { None } else { seconds(total) }
}

fn seconds(value: f64) -> Option<Duration> {
    (value >= 0.0).then(|| Duration::try_from_secs_f64(value).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(pairs: &[(&'static str, &str)]) -> Option<f64> {
        let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        at(&headers, "2026-01-01T00:00:00Z".parse().unwrap()).map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn waits_are_read_in_every_form_and_capped() {
        let standard = |value: &str| waits(&[("retry-after", value)]);
        assert_eq!(waits(&[]), None);
        assert_eq!(standard("7"), Some(7.0));
        assert_eq!(standard("1.5"), Some(1.5));
        assert_eq!(standard("99999"), Some(3_600.0));
        assert_eq!(standard("inf"), Some(3_600.0));
        for senseless in ["-1", "NaN", "soon", ""] {
            assert_eq!(standard(senseless), None, "{senseless}");
        }
        assert_eq!(standard("Thu, 01 Jan 2026 00:00:30 GMT"), Some(30.0));
        assert_eq!(standard("Wed, 31 Dec 2025 23:00:00 GMT"), Some(0.0));
        assert_eq!(standard("2026-01-01T00:00:12Z"), Some(12.0));
        assert_eq!(standard("6m0s"), Some(360.0));
        assert_eq!(standard("99999h"), Some(3_600.0));
        assert_eq!(waits(&[("retry-after-ms", "250"), ("retry-after", "1")]), Some(0.25));
        assert_eq!(waits(&[("x-ratelimit-reset-requests", "6m0s")]), None);
        let used_up = [("x-ratelimit-reset-requests", "1.5s"), ("x-ratelimit-remaining-requests", "0")];
        assert_eq!(waits(&used_up), Some(1.5));
    }

    #[test]
    fn waits_are_found_in_prose() {
        let found = |text: &str| in_prose(text).map(|wait| wait.as_millis());
        assert_eq!(found("requested 11159. please try again in 174ms. visit"), Some(174));
        assert_eq!(found("please try again after 1 seconds"), Some(1_000));
        assert_eq!(found("please try again in 1m2.5s."), Some(62_500));
        assert_eq!(found("please try again later."), None);
    }
}
