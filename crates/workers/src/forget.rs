//! Forgetting data keys that were destroyed elsewhere. Every process does it, whatever its role.

use std::time::Duration;

use futures::StreamExt;
use polyphony_bus::Bus;
use polyphony_eventstore::Store;
use tokio_util::sync::CancellationToken;

/// Time between two tries to listen. Meanwhile keys are forgotten by their age.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until `stop`.
pub async fn run(store: Store, bus: Bus, stop: CancellationToken) {
    let listen = async {
        loop {
            if let Ok(mut erased) = bus.subscribe_erased().await {
                while let Some(root) = erased.next().await {
                    store.forget_keys(root);
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::select! {
        () = listen => {}
        () = stop.cancelled() => {}
    }
}
