//! The leases of this worker's attempts: one statement renews them all; one that is lost cancels its attempt.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt;
use polyphony_domain::ids::AnswerId;
use polyphony_platform::{failpoint, mutated};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::Deps;

/// How an attempt is told from outside to end.
#[derive(Clone)]
pub(super) struct Signals {
    /// A person asked to stop.
    pub(super) stop: CancellationToken,
    /// Another worker has taken over: nothing of this attempt may be published or stored any more.
    pub(super) lost: CancellationToken,
}

struct Held {
    /// 0 until the attempt has been started.
    attempt: u32,
    renewed: Instant,
    signals: Signals,
}

/// The attempts that run in this process.
pub(super) struct Leases {
    deps: Arc<Deps>,
    held: Mutex<HashMap<AnswerId, Held>>,
}

impl Leases {
    pub(super) fn new(deps: Arc<Deps>) -> Arc<Self> {
        Arc::new(Self { deps, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<AnswerId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers an answer before its attempt is started, so that no stop falls between. `None` when this process
    /// is at it already.
    pub(super) fn register(&self, answer: AnswerId) -> Option<Signals> {
        let signals = Signals { stop: CancellationToken::new(), lost: CancellationToken::new() };
        let mut held = self.held();
        if held.contains_key(&answer) {
            return None;
        }
        held.insert(answer, Held { attempt: 0, renewed: Instant::now(), signals: signals.clone() });
        metrics::gauge!("polyphony_answers_in_flight").set(held.len() as f64);
        Some(signals)
    }

    /// The attempt has been started: its lease is to be renewed.
    pub(super) fn started(&self, answer: AnswerId, attempt: u32) {
        if let Some(held) = self.held().get_mut(&answer) {
            held.attempt = attempt;
            held.renewed = Instant::now();
        }
    }

    /// The attempt is about to give way to the next one: until that has been started, nothing is renewed.
    pub(super) fn pause(&self, answer: AnswerId) {
        if let Some(held) = self.held().get_mut(&answer) {
            held.attempt = 0;
        }
    }

    /// The attempt is over; says which it was, if one was begun.
    pub(super) fn release(&self, answer: AnswerId) -> Option<u32> {
        let mut held = self.held();
        let ended = held.remove(&answer);
        metrics::gauge!("polyphony_answers_in_flight").set(held.len() as f64);
        ended.map(|held| held.attempt).filter(|attempt| *attempt > 0)
    }

    /// Renews all leases with every heartbeat, until `finished`.
    pub(super) async fn keep(self: Arc<Self>, finished: CancellationToken) {
        let mut heartbeat = interval(Duration::from_secs(self.deps.config.heartbeat_seconds.into()));
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = finished.cancelled() => return,
                _ = heartbeat.tick() => self.renew().await,
            }
        }
    }

    async fn renew(&self) {
        let began = Instant::now();
        let running: Vec<(AnswerId, u32)> =
            self.held().iter().filter(|(_, held)| held.attempt > 0).map(|(id, held)| (*id, held.attempt)).collect();
        if running.is_empty() {
            return;
        }
        failpoint!("worker.heartbeat", return);
        let lease = Duration::from_secs(self.deps.config.lease_seconds.into());
        match self.deps.store.renew_leases(&self.deps.name, &running, self.deps.config.lease_seconds).await {
            Ok(kept) => {
                let kept: HashMap<AnswerId, bool> = kept.into_iter().collect();
                let mut held = self.held();
                for (answer, attempt) in running {
                    let Some(held) = held.get_mut(&answer).filter(|held| held.attempt == attempt) else { continue };
                    match kept.get(&answer) {
                        Some(stop) => {
                            held.renewed = began;
                            if *stop {
                                held.signals.stop.cancel();
                            }
                        }
                        // Ended just now by this very process, or taken over: the attempt itself can tell.
                        None if mutated!("skip_fence") => {}
                        None => held.signals.lost.cancel(),
                    }
                }
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "leases could not be renewed");
                // An attempt whose lease has surely run out may already run elsewhere: it must fall silent.
                for held in self.held().values().filter(|held| held.attempt > 0 && held.renewed.elapsed() > lease) {
                    held.signals.lost.cancel();
                }
            }
        }
    }

    /// Follows the stop messages, until `finished`.
    pub(super) async fn follow_stops(self: Arc<Self>, finished: CancellationToken) {
        while !finished.is_cancelled() {
            let mut stops = match self.deps.bus.subscribe_stops().await {
                Ok(stops) => stops,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "stop messages can't be followed");
                    sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            loop {
                let answer = tokio::select! {
                    () = finished.cancelled() => return,
                    answer = stops.next() => answer,
                };
                let Some(answer) = answer else { break };
                if let Some(held) = self.held().get(&answer) {
                    held.signals.stop.cancel();
                }
            }
        }
    }
}
