//! Counting many texts: each only once, never on an async thread when it is long, and never more at a time than leaves
//! room for others.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use polyphony_domain::context::estimate;
use polyphony_platform::failpoint;
use tokio::{sync::Semaphore, time::Instant};

use crate::tokens::{self, TokenCount};

/// Counts that are kept: two generations of this many, each of 24 bytes or so.
const GENERATION: usize = 32_768;
/// Bytes that are counted in place, once the vocabulary is there.
const INLINE: usize = 4 * 1024;
/// Most bytes that one call has counted; what is older is estimated until the next call.
const MOST_AT_ONCE: usize = 1024 * 1024;
/// Bytes after which others get their turn: some milliseconds, whatever they are.
const BATCH: usize = 64 * 1024;
/// How long a call counts before it estimates the rest.
const PATIENCE: Duration = Duration::from_secs(2);

/// Counts texts and keeps the counts.
pub(super) struct Counter {
    kept: Mutex<Kept>,
    /// Its own keys: nobody outside can make two texts collide.
    hasher: RandomState,
    /// For those who have much to count: half of the processors at most, since those who stream must not wait for them.
    patient: Arc<Semaphore>,
    /// For those who have so little that they needn't stand behind the others.
    quick: Arc<Semaphore>,
}

/// A part of a text: the text's place, and which bytes.
type Part<'a> = (usize, &'a str);

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
        let half = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
        let permits = || Arc::new(Semaphore::new(half));
        Self { kept: Mutex::default(), hasher: RandomState::new(), patient: permits(), quick: permits() }
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
        let mut left: HashMap<usize, (usize, u64)> = HashMap::new();
        let mut parts: Vec<Part<'_>> = Vec::new();
        for at in missing {
            // What is too long to be counted is estimated.
            let Some(of_text) = tokens::parts(texts[*at]) else { continue };
            left.insert(*at, (of_text.len(), 0));
            parts.extend(of_text.into_iter().map(|part| (*at, part)));
        }
        let is_quick = parts.iter().map(|(_, part)| part.len()).sum::<usize>() <= BATCH;
        let lane = if is_quick { &self.quick } else { &self.patient };
        for batch in batches(&parts) {
            let Ok(Ok(permit)) = tokio::time::timeout_at(deadline, lane.clone().acquire_owned()).await else { return };
            failpoint!("context.count" of if is_quick { "quick" } else { "patient" });
            let owned: Vec<String> = batch.iter().map(|(_, part)| (*part).to_owned()).collect();
            let counting = tokio::task::spawn_blocking(move || {
                // Held until it is done, also where nobody waits for it any more.
                let _permit = permit;
                owned.iter().map(|text| tokens::count(text)).collect::<Vec<_>>()
            });
            let Ok(Ok(counted)) = tokio::time::timeout_at(deadline, counting).await else { return };
            for ((at, _), count) in batch.iter().zip(counted) {
                let Some((parts_left, sum)) = left.get_mut(at).filter(|_| !count.estimated) else {
                    left.remove(at);
                    continue;
                };
                (*parts_left, *sum) = (*parts_left - 1, *sum + count.tokens);
                if *parts_left == 0 {
                    let count = TokenCount { tokens: *sum, estimated: false };
                    self.kept().insert(keys[*at], count);
                    counts[*at] = Some(count);
                }
            }
        }
    }
}

/// Neighbouring parts, as many as are counted in one go.
fn batches<'a, 'b>(mut parts: &'b [Part<'a>]) -> impl Iterator<Item = &'b [Part<'a>]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let many = parts.iter().take_while(|(_, part)| {
            bytes += part.len();
            bytes <= BATCH
        });
        let (batch, rest) = parts.split_at(many.count().max(1).min(parts.len()));
        parts = rest;
        (!batch.is_empty()).then_some(batch)
    })
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
    fn nobody_counts_more_than_a_batch_in_one_go() {
        let texts =
            [" ".repeat(200_000), "a".repeat(70_000), "b ".repeat(10), "\n".repeat(65_536), "tea ".repeat(60_000)];
        let parts: Vec<Part<'_>> = texts
            .iter()
            .enumerate()
            .flat_map(|(at, text)| tokens::parts(text).unwrap().into_iter().map(move |part| (at, part)))
            .collect();
        let mut whole = vec![String::new(); texts.len()];
        for batch in batches(&parts) {
            assert!(batch.iter().map(|(_, part)| part.len()).sum::<usize>() <= BATCH);
            batch.iter().for_each(|(at, part)| whole[*at].push_str(part));
        }
        assert_eq!(whole, texts);
    }

    #[tokio::test]
    async fn a_text_that_is_counted_in_parts_has_the_count_of_the_whole() {
        let counter = Counter::default();
        let texts = ["tea and 茶 ".repeat(12_000), " ".repeat(150_000), String::new()];
        let counts = counter.count(&texts.each_ref().map(String::as_str)).await;
        for (text, count) in texts.iter().zip(&counts) {
            assert_eq!(*count, tokens::count(text));
        }
        assert!(counts[0].tokens > 12_000 && counts[1].tokens > 0);
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
