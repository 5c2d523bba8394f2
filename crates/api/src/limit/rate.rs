//! A rate: a burst at once, then one each period.

use std::{cell::Cell, hash::Hash, num::NonZeroU32, time::Duration};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DefaultKeyedStateStore,
};

use crate::error::ApiError;

/// Keys held before the idle ones are dropped.
const CAPACITY: usize = 100_000;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

tokio::task_local! {
    /// The tightest limit that this request has met.
    pub static ALLOWANCE: Cell<Option<Allowance>>;
}

/// What a limit still allows.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    policy: &'static str,
    burst: u32,
    period: Duration,
    remaining: u32,
}

impl Allowance {
    /// Seconds until `count` more are allowed.
    fn seconds(&self, count: u32) -> u64 {
        let time = self.period * count;
        time.as_secs() + u64::from(time.subsec_nanos() > 0)
    }

    /// The fields of the IETF draft "RateLimit header fields for HTTP".
    pub fn write(&self, headers: &mut HeaderMap) {
        let policy = format!("\"{}\";q={};w={}", self.policy, self.burst, self.seconds(self.burst));
        let left = format!("\"{}\";r={};t={}", self.policy, self.remaining, self.seconds(self.burst - self.remaining));
        for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
    }

    fn note(self) {
        // Outside a request nobody asks.
        let _ = ALLOWANCE.try_with(|tightest| {
            if tightest.get().is_none_or(|other| self.remaining < other.remaining) {
                tightest.set(Some(self));
            }
        });
    }
}

type Limiter<K> = RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// A limit on something that is named by `K`.
pub struct Limit<K: Hash + Eq + Clone> {
    /// None lets everybody through.
    limiter: Option<Limiter<K>>,
    full: Allowance,
}

impl<K: Hash + Eq + Clone> Limit<K> {
    /// `burst` at once, then one each `period`; none at all when relaxed.
    pub fn new(policy: &'static str, burst: u32, period: Duration, relaxed: bool) -> Self {
        let quota = Quota::with_period(period).zip(NonZeroU32::new(burst));
        let limiter = quota
            .filter(|_| !relaxed)
            .map(|(quota, burst)| RateLimiter::keyed(quota.allow_burst(burst)).with_middleware());
        Self { limiter, full: Allowance { policy, burst, period, remaining: burst } }
    }

    /// Its name, how many at once, and the seconds in which as many are allowed again; none where everybody is let through.
    pub fn policy(&self) -> Option<(&'static str, u32, u64)> {
        self.limiter.as_ref().map(|_| (self.full.policy, self.full.burst, self.full.seconds(self.full.burst)))
    }

    /// Counts one.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub fn check(&self, key: &K) -> Result<(), ApiError> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if limiter.len() > CAPACITY {
            limiter.retain_recent();
        }
        match limiter.check_key(key) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity().min(self.full.burst);
                Allowance { remaining, ..self.full }.note();
                Ok(())
            }
            Err(refused) => {
                Allowance { remaining: 0, ..self.full }.note();
                Err(ApiError::rate_limited(refused.wait_time_from(DefaultClock::default().now())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_nothing_and_the_headers_say_so() {
        let limit = Limit::new("test", 2, Duration::from_secs(60), false);
        let headers = ALLOWANCE.sync_scope(Cell::new(None), || {
            assert!(limit.check(&1).is_ok());
            let mut headers = HeaderMap::new();
            ALLOWANCE.with(Cell::get).unwrap().write(&mut headers);
            assert!(limit.check(&1).is_ok() && limit.check(&1).is_err() && limit.check(&2).is_ok());
            headers
        });
        assert_eq!(headers["ratelimit-policy"], "\"test\";q=2;w=120");
        assert_eq!(headers["ratelimit"], "\"test\";r=1;t=60");
    }

    #[test]
    fn relaxed_is_no_limit() {
        let limit = Limit::new("test", 1, Duration::from_secs(60), true);
        assert!((0..100).all(|_| limit.check(&()).is_ok()));
    }
}
