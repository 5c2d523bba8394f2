//! What this process has learned about models: how far our counts are off, what a provider refused as too long, and which
//! of its signatures it didn't take back.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use polyphony_domain::ids::ModelId;
use uuid::Uuid;

use super::Signature;

/// How long a refusal is remembered: a host may be given a larger window, a key its old secret.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Most models, and most pairs of model and key or account, that something is remembered of.
const CAPACITY: usize = 4_096;
/// Most signatures that are remembered, unless one conversation alone has more.
const MOST_SIGNATURES: usize = 65_536;
/// Bounds of a calibration, in thousandths.
const BOUNDS: (u64, u64) = (500, 2_000);
/// Requests below this teach nothing: frames outweigh texts.
const SMALLEST: u64 = 200;
/// Less than this can't be taken away from: there is no conversation left.
const LEAST: u64 = 64;

type Refused = HashMap<(ModelId, Uuid, Signature), Instant>;
type Limits = HashMap<(ModelId, Uuid), (u64, Instant)>;

/// Lessons.
#[derive(Default)]
pub(super) struct Learned {
    calibrations: Mutex<HashMap<ModelId, u64>>,
    limits: Mutex<Limits>,
    signatures: Mutex<Refused>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Learned {
    /// Thousandths by which a model's counts are to be corrected.
    pub(super) fn calibration(&self, model: ModelId) -> u64 {
        lock(&self.calibrations).get(&model).copied().unwrap_or(1_000)
    }

    /// Comes an eighth of the way nearer to what a provider billed.
    pub(super) fn calibrate(&self, model: ModelId, counted: u64, actual: u64) {
        self.approach(model, counted, actual, 8);
    }

    /// Takes over what a provider counted in the very same request.
    pub(super) fn correct(&self, model: ModelId, counted: u64, actual: u64) {
        self.approach(model, counted, actual, 1);
    }

    /// Comes nearer by one part of so many.
    fn approach(&self, model: ModelId, counted: u64, actual: u64, parts: u64) {
        // Pictures, caches that a provider leaves out, and mistakes teach nothing about texts.
        if counted < SMALLEST || actual == 0 || actual > counted * 4 || counted > actual * 4 {
            return;
        }
        let mut calibrations = lock(&self.calibrations);
        if calibrations.len() >= CAPACITY {
            calibrations.clear();
        }
        let now = calibrations.entry(model).or_insert(1_000);
        let target = *now * actual / counted;
        *now = ((*now * (parts - 1) + target) / parts).clamp(BOUNDS.0, BOUNDS.1);
    }

    /// Most tokens that a request to a model may have, for whoever it is, where a longer one was refused lately.
    pub(super) fn limit(&self, model: ModelId, whose: Uuid) -> Option<u64> {
        let limits = lock(&self.limits);
        limits.get(&(model, whose)).filter(|(_, since)| since.elapsed() < REMEMBERED).map(|(limit, _)| *limit)
    }

    /// A request of `sent` tokens was too long: three fifths of it may do.
    pub(super) fn refused(&self, model: ModelId, whose: Uuid, sent: u64) -> bool {
        let limit = sent * 3 / 5;
        if limit < LEAST {
            return false;
        }
        let mut limits = lock(&self.limits);
        if limits.len() >= CAPACITY {
            limits.retain(|_, (_, since)| since.elapsed() < REMEMBERED);
        }
        if limits.len() >= CAPACITY {
            limits.clear();
        }
        limits.insert((model, whose), (limit, Instant::now()));
        true
    }

    /// A model didn't take these signatures back. Others, which it may have made since under the same key, are its own.
    pub(super) fn refuse(&self, model: ModelId, whose: Uuid, signatures: &[Signature]) {
        let mut refused = lock(&self.signatures);
        if refused.len() + signatures.len() > MOST_SIGNATURES {
            refused.retain(|_, since| since.elapsed() < REMEMBERED);
        }
        if refused.len() + signatures.len() > MOST_SIGNATURES {
            refused.clear();
        }
        refused.extend(signatures.iter().map(|signature| ((model, whose, *signature), Instant::now())));
    }

    /// Whether it didn't take this one back lately.
    pub(super) fn is_refused(&self, model: ModelId, whose: Uuid, signature: Signature) -> bool {
        lock(&self.signatures).get(&(model, whose, signature)).is_some_and(|since| since.elapsed() < REMEMBERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_comes_nearer_within_its_bounds() {
        let learned = Learned::default();
        let model = ModelId::default();
        for _ in 0..60 {
            let counted = 1_000 * learned.calibration(model) / 1_000;
            learned.calibrate(model, counted, 1_300);
        }
        assert!((1_250..=1_300).contains(&learned.calibration(model)), "{}", learned.calibration(model));
        for _ in 0..60 {
            learned.calibrate(model, 1_000, 3_000);
        }
        assert_eq!(learned.calibration(model), 2_000);
        // A count that can't be about the same texts teaches nothing.
        learned.calibrate(model, 1_000, 100_000);
        learned.calibrate(model, 10, 20);
        assert_eq!(learned.calibration(model), 2_000);
    }

    #[test]
    fn a_refusal_counts_for_its_owner_only() {
        let learned = Learned::default();
        let (model, key, other) = (ModelId::default(), Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(learned.refused(model, key, 1_000));
        assert_eq!(learned.limit(model, key), Some(600));
        assert_eq!(learned.limit(model, other), None);
        assert!(!learned.refused(model, key, 100));
    }
}
