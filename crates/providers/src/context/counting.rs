//! Counting many texts: each only once, never on an async thread when it is long, and never more at a time than leaves
//! room for others.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use polyphony_domain::context::estimate;
use tokio::{sync::Semaphore, time::Instant};

use crate::tokens::{self, TokenCount};

/// Counts that are kept: two generations of this many, each of 24 bytes or so.
const GENERATION: usize = 32_768;
/// Bytes that are counted in place, once the vocabulary is there.
const INLINE: usize = 4 * 1024;
/// Most bytes that one call has counted; what is older is estimated until the next call.
const MOST_AT_ONCE: usize = 1024 * 1024;
/// Bytes after which others get their turn.
const BATCH: usize = 64 * 1024;
/// How long a call counts before it estimates the rest.
const PATIENCE: Duration = Duration::from_secs(2);

/// Counts texts and keeps the counts.
pub(super) struct Counter {
    kept: Mutex<Kept>,
    /// Its own keys: nobody outside can make two texts collide.
    hasher: RandomState,
    permits: Arc<Semaphore>,
}

/// The newest counts: when the young generation is full, it becomes the old one, and the old one goes.
#[derive(Default)]
struct Kept {
    young: HashMap<u64, TokenCount>,
    old: HashMap<u64, TokenCount>,
}

impl Kept {
    fn get(&mut self, key: u64) -> Option<TokenCount> {
        if let Some(count) = self.young.get(&key) {
            return Some(*count);
        }
        let count = self.old.get(&key).copied()?;
        self.insert(key, count);
        Some(count)
    }

    fn insert(&mut self, key: u64, count: TokenCount) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, count);
    }
}

impl Default for Counter {
    fn default() -> Self {
        // Half of the processors at most: those who stream must never wait for those who count.
        let permits = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
        Self { kept: Mutex::default(), hasher: RandomState::new(), permits: Arc::new(Semaphore::new(permits)) }
    }
}

impl Counter {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts texts, of which the last ones matter most: where not all can be counted at once, the first are estimated.
    pub(super) async fn count(&self, texts: &[&str]) -> Vec<TokenCount> {
        let keys: Vec<u64> = texts.iter().map(|text| self.hasher.hash_one(text)).collect();
        let mut counts: Vec<Option<TokenCount>> = {
            let mut kept = self.kept();
            keys.iter().map(|key| kept.get(*key)).collect()
        };
        let mut missing: Vec<usize> = (0..texts.len()).rev().filter(|at| counts[*at].is_none()).collect();
        let mut bytes = 0;
        missing.retain(|at| {
            bytes += texts[*at].len();
            bytes <= MOST_AT_ONCE
        });
        if bytes <= INLINE && tokens::is_ready() {
            let mut kept = self.kept();
            for at in missing {
                let count = tokens::count(texts[at]);
                kept.insert(keys[at], count);
                counts[at] = Some(count);
            }
        } else {
            self.count_aside(texts, &keys, &missing, &mut counts).await;
        }
        let estimated = |text: &str| TokenCount { tokens: estimate(text), estimated: true };
        counts.into_iter().zip(texts).map(|(count, text)| count.unwrap_or_else(|| estimated(text))).collect()
    }

    async fn count_aside(&self, texts: &[&str], keys: &[u64], missing: &[usize], counts: &mut [Option<TokenCount>]) {
        let deadline = Instant::now() + PATIENCE;
        let mut rest = missing;
        while !rest.is_empty() {
            let mut bytes = 0;
            let many = rest.iter().take_while(|at| {
                bytes += texts[**at].len();
                bytes <= BATCH
            });
            let (batch, left) = rest.split_at(many.count().max(1));
            rest = left;
            let Ok(Ok(permit)) = tokio::time::timeout_at(deadline, self.permits.clone().acquire_owned()).await else {
                return;
            };
            let owned: Vec<String> = batch.iter().map(|at| texts[*at].to_owned()).collect();
            let counting = tokio::task::spawn_blocking(move || {
                // Held until it is done, also where nobody waits for it any more.
                let _permit = permit;
                owned.iter().map(|text| tokens::count(text)).collect::<Vec<_>>()
            });
            let Ok(Ok(counted)) = tokio::time::timeout_at(deadline, counting).await else { return };
            let mut kept = self.kept();
            for (at, count) in batch.iter().zip(counted) {
                kept.insert(keys[*at], count);
                counts[*at] = Some(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_text_is_counted_once_and_a_flood_is_estimated() {
        let counter = Counter::default();
        let counts = counter.count(&["Hello, world!", "你好世界", ""]).await;
        assert_eq!(counts.iter().map(|count| count.tokens).collect::<Vec<_>>(), [4, 2, 0]);
        assert_eq!(counter.kept().young.len(), 3);
        // Beyond what one call may count, the oldest are estimated; nothing panics.
        let flood: Vec<String> = (0..30).map(|n| format!("{n}{}", "word ".repeat(10_000))).collect();
        let flood: Vec<&str> = flood.iter().map(String::as_str).collect();
        let counts = counter.count(&flood).await;
        assert!(counts[0].estimated && !counts[29].estimated);
        let near = counts[0].tokens.abs_diff(counts[29].tokens);
        assert!(near * 3 < counts[29].tokens, "{} and {}", counts[0].tokens, counts[29].tokens);
    }

    #[tokio::test]
    async fn hostile_texts_are_bounded() {
        let counter = Counter::default();
        let hostile = [" ".repeat(1_000_000) + "a", "a".repeat(1_000_000), "\n".repeat(1_000_000)];
        let counts = counter.count(&hostile.each_ref().map(String::as_str)).await;
        assert!(counts.iter().all(|count| count.estimated && count.tokens > 0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut kept = Kept::default();
        for key in 0..GENERATION as u64 * 5 {
            kept.insert(key, TokenCount { tokens: key, estimated: false });
        }
        assert!(kept.young.len() + kept.old.len() <= GENERATION * 2);
        let newest = GENERATION as u64 * 5 - 1;
        assert_eq!(kept.get(newest).map(|count| count.tokens), Some(newest));
        assert_eq!(kept.get(0), None);
    }
}
