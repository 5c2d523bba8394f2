//! Device sessions that have ended while their access tokens haven't. Each node keeps them for as long as a token lives.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use futures::StreamExt;
use polyphony_domain::ids::DeviceId;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::state::AppState;

/// How often the table is asked, so that a lost message costs less than a second.
const POLL: Duration = Duration::from_millis(700);

/// The list of one node.
#[derive(Default)]
pub struct Revocations(RwLock<HashMap<DeviceId, Instant>>);

impl Revocations {
    pub fn is_revoked(&self, device: DeviceId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(&device)
    }

    pub fn revoke(&self, device: DeviceId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(device, Instant::now());
    }

    fn forget(&self, older: Duration) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|_, since| since.elapsed() < older);
    }
}

/// Keeps a node's list, until `stop`: by message at once, by the table within a second.
pub async fn follow(state: AppState, stop: CancellationToken) {
    // A token may be used for a few seconds more than its life.
    let life = Duration::from_secs(u64::from(state.config.auth.access_minutes) * 60 + 60);
    let mut messages = state.bus.subscribe_revoked().await.ok();
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // At first everything that may still have a living token; then only what is new.
    let mut window = u32::try_from(life.as_secs()).unwrap_or(u32::MAX);
    loop {
        let message = async {
            match &mut messages {
                Some(messages) => messages.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            device = message => match device {
                Some(device) => state.revocations.revoke(device),
                None => messages = None,
            },
            _ = poll.tick() => {
                match state.store.devices_ended_within(window).await {
                    Ok(devices) => {
                        for device in devices {
                            state.revocations.revoke(device);
                        }
                        window = 30;
                    }
                    Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "revocations can't be read"),
                }
                state.revocations.forget(life);
            }
        }
    }
}
