//! Failures to sign in: some are free, then each one locks for longer.
//!
//! Only failures count, so that people who sign in often aren't stopped. What is being checked counts too, so that a
//! thousand guesses at once are not a thousand free ones.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::error::ApiError;

/// Most names held. When they are reached, first those that may be forgotten go, then those that aren't locked.
const CAPACITY: usize = 100_000;
/// Checks of one name at a time.
const AT_ONCE: u32 = 32;
/// The first lock; each further failure doubles it.
const FIRST_LOCK: Duration = Duration::from_secs(30);
/// The longest lock.
const LONGEST_LOCK: Duration = Duration::from_secs(15 * 60);
/// How long failures are remembered after the last one.
const MEMORY: Duration = Duration::from_secs(60 * 60);

#[derive(Clone, Copy, Default)]
struct Record {
    failures: u32,
    checking: u32,
    last_failure: Option<Instant>,
    locked_until: Option<Instant>,
}

impl Record {
    fn is_locked(&self, now: Instant) -> bool {
        self.locked_until.is_some_and(|until| until > now)
    }

    fn is_forgettable(&self, now: Instant) -> bool {
        let is_old = self.last_failure.is_none_or(|last| now.saturating_duration_since(last) >= MEMORY);
        self.checking == 0 && is_old && !self.is_locked(now)
    }
}

/// The failures of everybody.
pub struct Attempts<K> {
    records: Mutex<HashMap<K, Record>>,
    free: u32,
    relaxed: bool,
}

/// An attempt that is being checked. It counts neither way until its outcome is told.
#[must_use = "the outcome of the attempt has to be told"]
pub struct Attempt<'a, K: Hash + Eq + Copy> {
    attempts: &'a Attempts<K>,
    key: K,
}

impl<K: Hash + Eq + Copy> Attempts<K> {
    /// `free` failures before the first lock; no lock at all when relaxed.
    pub fn new(free: u32, relaxed: bool) -> Self {
        Self { records: Mutex::default(), free, relaxed }
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub fn begin(&self, key: K) -> Result<Attempt<'_, K>, ApiError> {
        self.begin_at(key, Instant::now())
    }

    fn begin_at(&self, key: K, now: Instant) -> Result<Attempt<'_, K>, ApiError> {
        if !self.relaxed {
            let mut records = self.lock();
            make_room(&mut records, CAPACITY, now);
            if records.len() >= CAPACITY && !records.contains_key(&key) {
                return Err(ApiError::rate_limited(FIRST_LOCK));
            }
            let record = records.entry(key).or_default();
            if record.is_forgettable(now) {
                *record = Record::default();
            }
            if let Some(wait) = record.locked_until.and_then(|until| until.checked_duration_since(now))
                && !wait.is_zero()
            {
                return Err(ApiError::rate_limited(wait));
            }
            if record.checking >= AT_ONCE {
                return Err(ApiError::rate_limited(Duration::from_secs(1)));
            }
            record.checking += 1;
        }
        Ok(Attempt { attempts: self, key })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a map under its capacity, and well under it, so that not every attempt has to look through all of it.
fn make_room<K: Hash + Eq>(records: &mut HashMap<K, Record>, capacity: usize, now: Instant) {
    if records.len() < capacity {
        return;
    }
    records.retain(|_, record| !record.is_forgettable(now));
    if records.len() >= capacity - capacity / 4 {
        records.retain(|_, record| record.checking > 0 || record.is_locked(now));
    }
}

impl<K: Hash + Eq + Copy> Attempt<'_, K> {
    /// It was wrong.
    pub fn failed(self) {
        self.failed_at(Instant::now());
    }

    fn failed_at(self, now: Instant) {
        if let Some(record) = self.attempts.lock().get_mut(&self.key) {
            record.failures = record.failures.saturating_add(1);
            record.last_failure = Some(now);
            if let Some(over) = record.failures.checked_sub(self.attempts.free) {
                let lock = FIRST_LOCK.saturating_mul(1 << over.min(8)).min(LONGEST_LOCK);
                record.locked_until = Some(now + lock);
            }
        }
    }

    /// It was right, and who was right is trusted: all failures are forgotten.
    pub fn forgives(self) {
        if let Some(record) = self.attempts.lock().get_mut(&self.key) {
            *record = Record { checking: record.checking, ..Record::default() };
        }
    }
}

impl<K: Hash + Eq + Copy> Drop for Attempt<'_, K> {
    fn drop(&mut self) {
        if let Some(record) = self.attempts.lock().get_mut(&self.key) {
            record.checking = record.checking.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_lock_for_longer_and_longer_and_are_forgotten() {
        let attempts = Attempts::new(3, false);
        let start = Instant::now();
        for _ in 0..3 {
            attempts.begin_at("a", start).unwrap_or_else(|_| panic!("locked early")).failed_at(start);
        }
        assert!(attempts.begin_at("a", start).is_err());
        assert!(attempts.begin_at("a", start + FIRST_LOCK - Duration::from_millis(1)).is_err());
        assert!(attempts.begin_at("b", start).is_ok(), "another account isn't locked");
        let later = start + FIRST_LOCK;
        attempts.begin_at("a", later).unwrap_or_else(|_| panic!("locked too long")).failed_at(later);
        assert!(attempts.begin_at("a", later + FIRST_LOCK).is_err(), "the second lock is longer");
        assert!(attempts.begin_at("a", later + FIRST_LOCK * 2).is_ok());
        let forgotten = later + MEMORY;
        for _ in 0..2 {
            attempts.begin_at("a", forgotten).unwrap_or_else(|_| panic!("not forgotten")).failed_at(forgotten);
        }
        assert!(attempts.begin_at("a", forgotten).is_ok());
    }

    #[test]
    fn success_forgives() {
        let attempts = Attempts::new(2, false);
        for _ in 0..10 {
            attempts.begin("a").unwrap_or_else(|_| panic!("locked")).failed();
            attempts.begin("a").unwrap_or_else(|_| panic!("locked")).forgives();
        }
    }

    #[test]
    fn guesses_at_once_are_bounded() {
        let attempts = Attempts::new(3, false);
        let running: Vec<_> = (0..100).filter_map(|_| attempts.begin("a").ok()).collect();
        assert_eq!(running.len(), AT_ONCE as usize);
        drop(running);
        assert!(attempts.begin("a").is_ok());
    }

    #[test]
    fn a_flood_of_names_pushes_no_lock_out() {
        let (now, locked) = (Instant::now(), Instant::now() + FIRST_LOCK);
        let mut records: HashMap<u32, Record> =
            (0..100).map(|name| (name, Record { failures: 1, last_failure: Some(now), ..Record::default() })).collect();
        records.insert(0, Record { failures: 10, locked_until: Some(locked), ..Record::default() });
        records.insert(1, Record { checking: 1, ..Record::default() });
        make_room(&mut records, 100, now);
        let mut kept: Vec<_> = records.into_keys().collect();
        kept.sort_unstable();
        assert_eq!(kept, [0, 1]);
    }

    #[test]
    fn relaxed_never_locks() {
        let attempts = Attempts::new(1, true);
        for _ in 0..100 {
            attempts.begin("a").unwrap_or_else(|_| panic!("locked")).failed();
        }
    }
}
