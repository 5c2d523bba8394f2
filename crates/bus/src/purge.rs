//! Removing chunks that nobody needs any more: a while after its end, an answer is read from the log.
//!
//! The server walks over everything between an answer's first chunk and its last one, with its stream locked. So purges
//! go one by one, with pauses that are several times as long as what they took, and what doesn't fit into the queue is
//! left to the stream's own age limit.

use std::time::Duration;

use polyphony_domain::ids::{AccountId, AnswerId};
use polyphony_platform::patience;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use crate::{Bus, BusError, streams, subjects};

/// How long chunks are kept after their answer's end, for those who are just then on their way to another node.
const KEPT: Duration = Duration::from_secs(60);
/// Most answers whose chunks wait to be removed.
pub(crate) const QUEUE: usize = 16 * 1024;
/// A purge is followed by a pause of so many times its length: the stream belongs to the chunks that come.
const PAUSES: u32 = 9;

/// When, and which subject.
pub(crate) type Purge = (Instant, String);

impl Bus {
    /// Has the chunks of an answer that has ended removed a minute from now.
    pub fn purge_ended(&self, owner: AccountId, answer: AnswerId) {
        let due = Instant::now() + patience!("bus.chunks_kept", KEPT);
        // No room: the stream forgets them by their age.
        let _ = self.purges.try_send((due, subjects::chunk(owner, answer)));
    }

    /// Removes the text of an account that is on its way to its readers.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn purge_chunks(&self, owner: AccountId) -> Result<(), BusError> {
        self.purge_subject(&subjects::chunks_of(owner)).await
    }

    async fn purge_subject(&self, subject: &str) -> Result<(), BusError> {
        let chunks = self.jetstream.get_stream_no_info(streams::CHUNKS).await.map_err(BusError::failed)?;
        chunks.purge().filter(subject).await.map_err(BusError::failed)?;
        Ok(())
    }

    /// Removes what is due. All wait equally long, so what was ordered first is due first.
    pub(crate) async fn purge_due(self, mut ordered: mpsc::Receiver<Purge>) {
        while let Some((due, subject)) = ordered.recv().await {
            sleep_until(due).await;
            let began = Instant::now();
            if let Err(error) = self.purge_subject(&subject).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "chunks were left to their age");
            }
            sleep(began.elapsed() * PAUSES).await;
        }
    }
}
