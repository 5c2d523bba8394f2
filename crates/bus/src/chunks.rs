//! Chunks: published by the attempt, seen by every node, asked for by those who come late.

use std::{future::Future, pin::Pin, time::Duration};

use async_nats::Message;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use polyphony_domain::ids::{AccountId, AnswerId};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Bus, BusError, subjects,
    wire::{ChunkFrame, ChunkState, Said, Waiting},
};

/// Publishes the chunks of one answer.
#[derive(Clone)]
pub struct ChunkPublisher {
    bus: Bus,
    subject: String,
}

impl ChunkPublisher {
    /// Publishes a frame; resolves when the stream has it. Readers get it meanwhile, stream or no stream.
    pub fn publish(&self, frame: &ChunkFrame) -> Pin<Box<dyn Future<Output = Result<(), BusError>> + Send>> {
        self.send(frame.encode())
    }

    /// Publishes a frame; resolves when the client has taken it. That the stream has it is not heard of.
    pub fn tell(&self, frame: &ChunkFrame) -> Pin<Box<dyn Future<Output = Result<(), BusError>> + Send>> {
        let (client, subject, payload) = (self.bus.client.clone(), self.subject.clone(), frame.encode());
        Box::pin(async move { client.publish(subject, payload).await.map_err(BusError::failed) })
    }

    /// Says that the answer waits. Nothing is lost with it, so nobody has to wait for its acknowledgement.
    pub fn say_waiting(&self, waiting: Waiting) {
        tokio::spawn(self.send(Said::Waiting(waiting).encode()));
    }

    fn send(&self, payload: Bytes) -> Pin<Box<dyn Future<Output = Result<(), BusError>> + Send>> {
        let (jetstream, subject) = (self.bus.jetstream.clone(), self.subject.clone());
        Box::pin(async move {
            let ack = jetstream.publish(subject, payload).await.map_err(BusError::failed)?;
            ack.await.map_err(BusError::failed)?;
            Ok(())
        })
    }
}

/// What a node sees of the chunks.
#[derive(Debug)]
pub struct NodeChunk {
    /// The answer.
    pub answer_id: AnswerId,
    /// The chunk, or what is said instead of one.
    pub said: Said,
}

/// Keeps answering late viewers until it is dropped.
pub struct ChunkStateService {
    _stop: DropGuard,
}

impl Bus {
    /// The publisher of one answer's chunks.
    pub fn chunk_publisher(&self, owner: AccountId, answer: AnswerId) -> ChunkPublisher {
        ChunkPublisher { bus: self.clone(), subject: subjects::chunk(owner, answer) }
    }

    /// All chunks of the deployment, as they are published. A node that can't keep up loses some; viewers notice by
    /// the numbers.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn subscribe_chunks(&self) -> Result<impl Stream<Item = NodeChunk> + Unpin + Send + use<>, BusError> {
        let messages = self.client.subscribe(subjects::CHUNKS).await.map_err(BusError::failed)?;
        Ok(messages.filter_map(|message: Message| {
            let chunk = subjects::id(&message.subject, 2)
                .and_then(|answer_id| Some(NodeChunk { answer_id, said: Said::decode(message.payload)? }));
            std::future::ready(chunk)
        }))
    }

    /// Answers late viewers of an answer with its state, for as long as the returned service lives.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn serve_chunk_state(
        &self,
        answer: AnswerId,
        state: impl Fn() -> ChunkState + Send + 'static,
    ) -> Result<ChunkStateService, BusError> {
        let mut requests = self.client.subscribe(subjects::chunk_state(answer)).await.map_err(BusError::failed)?;
        let stop = CancellationToken::new();
        let (client, stopped) = (self.client.clone(), stop.clone());
        tokio::spawn(async move {
            loop {
                let request = tokio::select! {
                    () = stopped.cancelled() => break,
                    request = requests.next() => request,
                };
                let Some(request) = request else { break };
                let (Some(reply), Ok(payload)) = (request.reply, serde_json::to_vec(&state())) else { continue };
                // A viewer that gets no answer looks into the log.
                client.publish(reply, Bytes::from(payload)).await.ok();
            }
        });
        Ok(ChunkStateService { _stop: stop.drop_guard() })
    }

    /// Asks the worker that makes an answer for its state; `None` when nobody makes it, or nobody answers in time.
    pub async fn request_chunk_state(&self, answer: AnswerId, timeout: Duration) -> Option<ChunkState> {
        let request = self.client.request(subjects::chunk_state(answer), Bytes::new());
        let message = tokio::time::timeout(timeout, request).await.ok()?.ok()?;
        serde_json::from_slice(&message.payload).ok()
    }
}
