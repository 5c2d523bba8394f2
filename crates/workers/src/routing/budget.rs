//! How often a failed call may be made again: a budget of the process, so that an outage isn't met with a storm, and
//! one of each answer; and how long to wait in between.

use std::time::{Duration, Instant};

use rand::Rng;

/// Most retries that the process may have saved up.
const CAPACITY: f64 = 64.0;
/// What each first call adds: in the long run one retry for five calls.
const PER_CALL: f64 = 0.2;
/// What each second adds, so that a quiet process may retry too.
const PER_SECOND: f64 = 1.0;
/// The longest pause without a word of the provider is below this after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause without a word of the provider.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The budget of the process.
#[derive(Debug)]
pub(super) struct Budget {
    tokens: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: CAPACITY, at: now }
    }

    fn put(&mut self, tokens: f64) {
        self.tokens = (self.tokens + tokens).min(CAPACITY);
    }

    /// A first call is made.
    pub(super) fn deposit(&mut self) {
        self.put(PER_CALL);
    }

    /// Takes a retry out; false when there is none left.
    pub(super) fn withdraw(&mut self, now: Instant) -> bool {
        self.put(now.saturating_duration_since(self.at).as_secs_f64() * PER_SECOND);
        self.at = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

/// The pause before retry number `retry` (from 1): what the provider asked for, if it did, and a little more, so that
/// those who were sent away together don't come back together; else exponential with full jitter.
pub(crate) fn pause(retry: u32, asked: Option<Duration>) -> Duration {
    let mut random = rand::rng();
    match asked {
        Some(asked) => asked + Duration::from_millis(random.random_range(0..=250)),
        None => {
            let most = FIRST_PAUSE.saturating_mul(1 << retry.saturating_sub(1).min(8)).min(LONGEST_PAUSE);
            most.mul_f64(random.random_range(0.0..=1.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_not_met_with_a_storm() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        let mut retries = 0;
        for _ in 0..1_000 {
            budget.deposit();
            retries += u32::from(budget.withdraw(now));
        }
        // What was saved up, and one for five calls.
        assert!((200..=270).contains(&retries), "{retries}");
        assert!(!budget.withdraw(now));
        assert!(budget.withdraw(now + Duration::from_secs(2)));
    }

    #[test]
    fn pauses_grow_are_jittered_and_honour_the_provider() {
        for (retry, most) in [(1, 500), (2, 1_000), (3, 2_000), (9, 10_000), (u32::MAX, 10_000)] {
            for _ in 0..50 {
                assert!(pause(retry, None) <= Duration::from_millis(most));
            }
        }
        let jittered: std::collections::HashSet<_> = (0..20).map(|_| pause(3, None)).collect();
        assert!(jittered.len() > 10);
        let asked = Duration::from_secs(3);
        assert!((asked..=asked + Duration::from_millis(250)).contains(&pause(1, Some(asked))));
    }
}
