//! A circuit breaker: after enough failures in a row, nobody is sent there for a while; then one call tries.

use std::time::{Duration, Instant};

/// Failures in a row that open it.
const THRESHOLD: u32 = 5;
/// How long it stays open at first; it doubles with each probe that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest that it stays open.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// A probe that says nothing for this long is given up, and another call may try.
const PROBE_PATIENCE: Duration = Duration::from_secs(120);

/// The breaker of one key at one provider.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// How often it has opened since it was last closed.
    openings: u32,
    open_until: Option<Instant>,
    probing_since: Option<Instant>,
}

/// What a failure did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has just opened.
    Opened,
    /// Nothing that anybody has to know.
    None,
}

impl Breaker {
    /// How long a call has to wait; zero when it may go through.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let Some(until) = self.open_until else { return Duration::ZERO };
        if now < until {
            return until - now;
        }
        let probe_ends = self.probing_since.map(|since| since + PROBE_PATIENCE).filter(|end| now < *end);
        probe_ends.map_or(Duration::ZERO, |end| end - now)
    }

    /// A call goes through. Whether it's the probe, as it is after a pause.
    pub(super) fn enter(&mut self, now: Instant) -> bool {
        if self.open_until.is_none() {
            return false;
        }
        self.probing_since = Some(now);
        true
    }

    /// The probe was called off before it said anything.
    pub(super) fn leave(&mut self) {
        self.probing_since = None;
    }

    /// The provider answered, whatever it said.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// The provider did not answer as it should.
    pub(super) fn failed(&mut self, now: Instant) -> Change {
        self.failures = self.failures.saturating_add(1);
        let probe_failed = self.open_until.is_some_and(|until| now >= until);
        // Calls that were under way when it opened say nothing new.
        if !probe_failed && (self.open_until.is_some() || self.failures < THRESHOLD) {
            return Change::None;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.openings.min(8)).min(LONGEST_PAUSE);
        self.openings = self.openings.saturating_add(1);
        self.open_until = Some(now + pause);
        self.probing_since = None;
        Change::Opened
    }

    /// Whether it's as if nothing had ever happened.
    pub(super) fn is_idle(&self) -> bool {
        self.failures == 0 && self.open_until.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 1..THRESHOLD {
            assert_eq!(breaker.failed(now), Change::None);
        }
        assert_eq!(breaker.wait(now), Duration::ZERO);
        assert_eq!(breaker.failed(now), Change::Opened);
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_call_try() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.wait(start), FIRST_PAUSE);
        let later = start + FIRST_PAUSE;
        assert_eq!(breaker.wait(later), Duration::ZERO);
        assert!(breaker.enter(later));
        assert_eq!(breaker.wait(later), PROBE_PATIENCE);
        breaker.answered();
        assert!(breaker.is_idle() && breaker.wait(later).is_zero());
    }

    #[test]
    fn a_failed_probe_opens_it_for_longer() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for doubled in [2, 4, 8, 16, 24, 24] {
            now += breaker.wait(now);
            breaker.enter(now);
            assert_eq!(breaker.failed(now), Change::Opened);
            assert_eq!(breaker.wait(now), FIRST_PAUSE * doubled);
        }
    }

    #[test]
    fn late_failures_and_lost_probes_keep_nobody_out_for_ever() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.failed(start), Change::None);
        assert_eq!(breaker.wait(start), FIRST_PAUSE);
        let later = start + FIRST_PAUSE;
        breaker.enter(later);
        assert_eq!(breaker.wait(later + PROBE_PATIENCE), Duration::ZERO);
        breaker.leave();
        assert_eq!(breaker.wait(later), Duration::ZERO);
    }

    #[test]
    fn an_answer_in_between_starts_the_count_anew() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..20 {
            breaker.failed(now);
            breaker.answered();
        }
        assert!(breaker.is_idle());
    }
}
