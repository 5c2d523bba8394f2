//! Which key a call goes out with, and whether it should go out at all.
//!
//! What this process has learnt about each key at its provider is kept here: how many calls are in flight, until when
//! the provider wants to be left alone, and whether it has kept failing. Nothing is shared between people but the
//! operator's keys and hosts without keys, so one person's bad key never harms another. It's a cache of experience:
//! losing it costs a few refused calls.

mod breaker;
mod budget;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use polyphony_domain::ids::KeyId;
use polyphony_platform::mutated;
use polyphony_providers::{Allowance, ErrorKind, Limits, ProviderError};

pub(crate) use self::budget::pause;
use self::{
    breaker::{Breaker, Change},
    budget::Budget,
};

/// Keys that are remembered before those about which there is nothing to know are dropped.
const MANY: usize = 4_096;
/// A limit without a word about its length is waited out for a second, then for twice as long each time.
const FIRST_COOLING: Duration = Duration::from_secs(1);
/// The longest that we make up ourselves.
const LONGEST_COOLING: Duration = Duration::from_secs(60);
/// The longest that a provider is believed.
const LONGEST_BELIEVED: Duration = Duration::from_secs(24 * 3600);
/// How long a key without balance, or one that was refused, is tried after all others.
const DEMOTED: Duration = Duration::from_secs(60);

/// A key at its provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    /// Provider.
    pub(crate) provider: String,
    /// The person's key and its version; none for the operator's key, or for a host without keys.
    pub(crate) key: Option<(KeyId, u32)>,
}

/// A slot that could be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The slot.
    pub(crate) slot: Slot,
    /// Lower is tried first.
    pub(crate) priority: i64,
}

/// What has been learnt about a slot.
#[derive(Debug, Default)]
struct Health {
    in_flight: u32,
    calls: u64,
    cooling_until: Option<Instant>,
    /// Limits in a row.
    limited: u32,
    demoted_until: Option<Instant>,
    /// Its last call used up what it was allowed; it's whole again then. Something may be allowed earlier, so this
    /// only changes the order: whether it's too much is the provider's to say.
    spent_until: Option<Instant>,
    breaker: Breaker,
}

impl Health {
    fn wait(&self, now: Instant) -> Duration {
        let cooling = self.cooling_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        cooling.max(self.breaker.wait(now))
    }

    fn is_idle(&self, now: Instant) -> bool {
        let past = |until: Option<Instant>| until.is_none_or(|until| until <= now);
        self.in_flight == 0
            && self.breaker.is_idle()
            && past(self.cooling_until)
            && past(self.demoted_until)
            && past(self.spent_until)
    }
}

/// Why no candidate can be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// When the first of them can be.
    pub(crate) wait: Duration,
    /// What keeps it.
    pub(crate) kind: ErrorKind,
}

/// What this process knows about all slots.
pub struct Switchboard {
    slots: Mutex<HashMap<Slot, Health>>,
    budget: Mutex<Budget>,
}

impl Default for Switchboard {
    fn default() -> Self {
        Self { slots: Mutex::default(), budget: Mutex::new(Budget::new(Instant::now())) }
    }
}

impl Switchboard {
    fn slots(&self) -> MutexGuard<'_, HashMap<Slot, Health>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the best candidate: by priority, then the least loaded, then the least used; one without balance comes
    /// after all others. `None` when there are no candidates at all.
    pub(crate) fn take(
        self: &Arc<Self>,
        candidates: &[Candidate],
        now: Instant,
    ) -> Option<Result<(usize, Call), Blocked>> {
        let mut slots = self.slots();
        if slots.len() > MANY {
            slots.retain(|_, health| !health.is_idle(now));
        }
        let unknown = Health::default();
        let order = |(_, candidate): &(usize, &Candidate)| {
            let health = slots.get(&candidate.slot).unwrap_or(&unknown);
            let later = |until: Option<Instant>| until.is_some_and(|until| now < until);
            let demoted = later(health.demoted_until) || later(health.spent_until);
            (demoted, candidate.priority, health.in_flight, health.calls, candidate.slot.key.map(|(key, _)| key))
        };
        let wait = |candidate: &Candidate| slots.get(&candidate.slot).map_or(Duration::ZERO, |health| health.wait(now));
        let free = candidates.iter().enumerate().filter(|(_, candidate)| wait(candidate).is_zero()).min_by_key(order);
        let Some((index, candidate)) = free else {
            let first = candidates.iter().min_by_key(|candidate| wait(candidate))?;
            let cooling = slots.get(&first.slot).and_then(|health| health.cooling_until);
            let limited = cooling.is_some_and(|until| now < until);
            let kind = if limited { ErrorKind::RateLimited } else { ErrorKind::Overloaded };
            return Some(Err(Blocked { wait: wait(first), kind }));
        };
        let health = slots.entry(candidate.slot.clone()).or_default();
        health.in_flight += 1;
        health.calls += 1;
        let is_probe = health.breaker.enter(now);
        Some(Ok((index, Call { board: self.clone(), slot: candidate.slot.clone(), is_probe })))
    }

    /// Whether any of these candidates could be used now.
    pub(crate) fn has_free(&self, candidates: &[Candidate], now: Instant) -> bool {
        let slots = self.slots();
        candidates.iter().any(|candidate| slots.get(&candidate.slot).is_none_or(|health| health.wait(now).is_zero()))
    }

    /// A first call of an answer is made.
    pub(crate) fn first_call(&self) {
        self.budget().deposit();
    }

    /// Whether the process can afford another retry.
    pub(crate) fn may_retry(&self, now: Instant) -> bool {
        let may = self.budget().withdraw(now);
        if !may {
            metrics::counter!("polyphony_provider_retries_refused_total").increment(1);
        }
        may
    }

    /// Tries a slot after others until a limit that is used up is whole again.
    fn heed(&self, slot: &Slot, limits: Limits, now: Instant) {
        let used_up = |allowance: &Allowance| allowance.remaining == 0;
        let waits =
            [limits.requests, limits.tokens].into_iter().flatten().filter(used_up).filter_map(|used| used.reset);
        let Some(wait) = waits.max() else { return };
        let mut slots = self.slots();
        let health = slots.entry(slot.clone()).or_default();
        health.spent_until = health.spent_until.max(Some(now + wait.min(LONGEST_BELIEVED)));
    }

    fn learn(&self, slot: &Slot, result: Result<(), &ProviderError>, now: Instant) {
        let mut slots = self.slots();
        let health = slots.entry(slot.clone()).or_default();
        let Err(error) = result else {
            health.breaker.answered();
            if !mutated!("hold_grudge") {
                health.limited = 0;
            }
            health.demoted_until = None;
            return;
        };
        match error.kind {
            ErrorKind::RateLimited => {
                let made_up = FIRST_COOLING.saturating_mul(1 << health.limited.min(8)).min(LONGEST_COOLING);
                health.limited = health.limited.saturating_add(1);
                let wait = error.retry_after.unwrap_or(made_up).min(LONGEST_BELIEVED);
                health.cooling_until = health.cooling_until.max(Some(now + wait));
                health.breaker.answered();
            }
            ErrorKind::QuotaExceeded | ErrorKind::InvalidKey => {
                health.demoted_until = Some(now + DEMOTED);
                health.breaker.answered();
            }
            ErrorKind::Overloaded | ErrorKind::Timeout | ErrorKind::Unreachable => {
                if let Some(wait) = error.retry_after {
                    health.cooling_until = health.cooling_until.max(Some(now + wait.min(LONGEST_BELIEVED)));
                }
                if health.breaker.failed(now) == Change::Opened {
                    metrics::counter!("polyphony_breaker_opened_total", "provider" => slot.provider.clone())
                        .increment(1);
                    tracing::warn!(provider = %slot.provider, "a provider keeps failing; it is left alone for a while");
                }
            }
            // It answered, and something else is wrong.
            _ => health.breaker.answered(),
        }
    }
}

/// A call that is being made with a slot. It's in flight until this is dropped.
pub(crate) struct Call {
    board: Arc<Switchboard>,
    slot: Slot,
    is_probe: bool,
}

impl Call {
    /// What it goes out with.
    pub(crate) const fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Whether its last call was one too many.
    pub(crate) fn is_limited(&self) -> bool {
        self.board.slots().get(&self.slot).is_some_and(|health| health.limited > 0)
    }

    /// What the provider still allows.
    pub(crate) fn heed(&self, limits: Limits) {
        self.board.heed(&self.slot, limits, Instant::now());
    }

    /// What came of a try.
    pub(crate) fn learn(&self, result: Result<(), &ProviderError>) {
        let outcome = match result {
            Ok(()) => "ok",
            Err(error) => error.api_code(),
        };
        let provider = self.slot.provider.clone();
        metrics::counter!("polyphony_provider_calls_total", "provider" => provider, "outcome" => outcome).increment(1);
        self.board.learn(&self.slot, result, Instant::now());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(health) = self.board.slots().get_mut(&self.slot) {
            health.in_flight = health.in_flight.saturating_sub(1);
            if self.is_probe {
                health.breaker.leave();
            }
        }
    }
}

#[cfg(test)]
mod tests;
