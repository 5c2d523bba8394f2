//! The node's ear: hears all chunks and passes those on that somebody watches.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use polyphony_bus::wire::Said;
use polyphony_domain::ids::AnswerId;
use polyphony_platform::mutated;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::state::AppState;

/// Frames that a viewer may be behind before it is sent to catch up.
const BEHIND: usize = 256;

/// Who watches what.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<HashMap<AnswerId, broadcast::Sender<Said>>>>);

/// One viewer's ear; forgetting it forgets the answer when it was the last.
pub struct Ear {
    hub: Hub,
    answer: AnswerId,
    said: broadcast::Receiver<Said>,
    /// The answer's place in its account's queue when it was asked for; none where it had a seat at once.
    pub queued: Option<u32>,
}

impl Hub {
    /// Begins to watch an answer.
    pub fn watch(&self, answer: AnswerId) -> Ear {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = watched.entry(answer).or_insert_with(|| broadcast::Sender::new(BEHIND));
        let said = sender.subscribe();
        metrics::gauge!("polyphony_stream_viewers").increment(1.0);
        Ear { hub: self.clone(), answer, said, queued: None }
    }

    fn pass(&self, answer: AnswerId, said: Said) {
        let watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if mutated!("cross_user") {
            watched.values().for_each(|sender| drop(sender.send(said.clone())));
        }
        if let Some(sender) = watched.get(&answer) {
            // Nobody may listen at this very moment.
            let _ = sender.send(said);
        }
    }
}

impl Ear {
    /// What is said next; `None` when something was missed and the viewer has to catch up.
    pub async fn next(&mut self) -> Option<Said> {
        self.said.recv().await.ok()
    }

    /// What has been said already.
    pub fn ready(&mut self) -> Option<Said> {
        self.said.try_recv().ok()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        metrics::gauge!("polyphony_stream_viewers").decrement(1.0);
        let mut watched = self.hub.0.lock().unwrap_or_else(PoisonError::into_inner);
        // This receiver still counts.
        if watched.get(&self.answer).is_some_and(|sender| sender.receiver_count() <= 1) {
            watched.remove(&self.answer);
        }
    }
}

/// Listens until `stop`.
pub async fn run(state: AppState, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match state.bus.subscribe_chunks().await {
            Ok(mut chunks) => loop {
                let chunk = tokio::select! {
                    () = stop.cancelled() => return,
                    chunk = chunks.next() => chunk,
                };
                let Some(chunk) = chunk else { break };
                state.hub.pass(chunk.answer_id, chunk.said);
            },
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "chunks can't be heard"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
