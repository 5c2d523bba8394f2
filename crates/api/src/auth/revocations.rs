//! Device sessions that have ended while their access tokens haven't. Each node keeps them for as long as a token lives.
//!
//! The table of ended devices is the truth, and is asked every [`POLL`]; a message makes it quicker but may be lost. As
//! long as a node has not read the table once it accepts no access token: a restart forgives nobody.

use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt};
use polyphony_domain::ids::DeviceId;
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::state::AppState;

/// How often the table is asked, so that a lost message costs less than a second.
const POLL: Duration = Duration::from_millis(500);
/// How much further back it is asked than the last answer reaches: a transaction's time is that of its beginning.
const OVERLAP: Duration = Duration::from_secs(60);

/// Which devices have ended has not been read yet.
#[derive(Debug, Error)]
#[error("this node doesn't know yet which devices have been signed out")]
pub struct RevocationsUnknown;

/// The list of one node.
#[derive(Default)]
pub struct Revocations {
    ended: RwLock<HashMap<DeviceId, Instant>>,
    is_read: AtomicBool,
}

impl Revocations {
    /// Whether a device has ended; unknown before the first reading.
    pub fn is_revoked(&self, device: DeviceId) -> Option<bool> {
        self.is_known().then(|| self.ended.read().unwrap_or_else(PoisonError::into_inner).contains_key(&device))
    }

    /// Whether the table has been read.
    pub fn is_known(&self) -> bool {
        self.is_read.load(Ordering::Acquire)
    }

    /// Ends a device here.
    pub fn revoke(&self, device: DeviceId) {
        self.ended.write().unwrap_or_else(PoisonError::into_inner).insert(device, Instant::now());
    }

    fn read(&self, devices: Vec<DeviceId>) {
        for device in devices {
            self.revoke(device);
        }
        self.is_read.store(true, Ordering::Release);
    }

    fn forget(&self, older: Duration) {
        self.ended.write().unwrap_or_else(PoisonError::into_inner).retain(|_, since| since.elapsed() < older);
    }
}

async fn next(messages: &mut Option<impl Stream<Item = DeviceId> + Unpin>) -> Option<DeviceId> {
    match messages {
        Some(messages) => messages.next().await,
        None => std::future::pending().await,
    }
}

/// Keeps a node's list, until `stop`: by message at once, by the table within a second.
pub async fn follow(state: AppState, stop: CancellationToken) {
    // A token may be used for a few seconds more than its life.
    let life = Duration::from_secs(u64::from(state.config.auth.access_minutes) * 60 + 60);
    let mut messages = None;
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answered: Option<Instant> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            device = next(&mut messages) => match device {
                Some(device) => state.revocations.revoke(device),
                None => messages = None,
            },
            _ = poll.tick() => {
                // All that may still have a living token; later only what is new since the last answer.
                let asked = Instant::now();
                let window = answered.map_or(life, |answered| (answered.elapsed() + OVERLAP).min(life));
                match state.store.devices_ended_within(u32::try_from(window.as_secs() + 1).unwrap_or(u32::MAX)).await {
                    Ok(devices) => {
                        state.revocations.read(devices);
                        answered = Some(asked);
                    }
                    Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "revocations can't be read"),
                }
                state.revocations.forget(life);
                // Last: the table must not wait for NATS.
                if messages.is_none() {
                    messages = state.bus.subscribe_revoked().await.ok();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_known_before_the_first_reading() {
        let list = Revocations::default();
        let (one, other) = (DeviceId::new(uuid::Uuid::now_v7()), DeviceId::new(uuid::Uuid::now_v7()));
        list.revoke(one);
        assert_eq!(list.is_revoked(one), None);
        list.read(vec![]);
        assert_eq!((list.is_revoked(one), list.is_revoked(other)), (Some(true), Some(false)));
        list.forget(Duration::ZERO);
        assert_eq!(list.is_revoked(one), Some(false));
    }
}
