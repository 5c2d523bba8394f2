//! The message bus: NATS with JetStream. The only crate that builds a subject.
//!
//! Nothing that is said here is a promise. Jobs and chunks may be lost, repeated or late; whoever relies on them
//! checks in the log. So the server's store may be deleted at any time.

mod chunks;
mod control;
mod events;
mod jobs;
mod purge;
pub mod streams;
pub mod subjects;
pub mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, ConnectOptions, Event, ServerAddr,
    jetstream::{self, Context},
};
use thiserror::Error;
use tokio::sync::{Notify, mpsc};

use self::purge::Purge;
pub use self::{
    chunks::{ChunkPublisher, ChunkStateService, NodeChunk},
    events::EventDelivery,
    jobs::{JobConsumer, JobDelivery},
};

/// Longest wait for an answer of the server.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The oldest server whose features we need (message TTLs, per-subject limits on updates).
const OLDEST_SERVER: (u32, u32) = (2, 11);

/// What can go wrong on the bus.
#[derive(Debug, Error)]
pub enum BusError {
    /// The server can't be reached.
    #[error("NATS can't be reached")]
    Connect(#[source] async_nats::ConnectError),
    /// The server is older than what we need.
    #[error("NATS server {0} is too old: 2.11 or newer is needed")]
    TooOld(String),
    /// The server answered with an error, or not in time.
    #[error("NATS failed: {0}")]
    Failed(String),
}

impl BusError {
    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A connection to the bus; cheap to clone.
#[derive(Clone)]
pub struct Bus {
    client: Client,
    jetstream: Context,
    connected: Arc<AtomicBool>,
    purges: mpsc::Sender<Purge>,
}

impl Bus {
    /// Connects and declares the streams. After that it reconnects by itself for ever, and declares them again each
    /// time, since the server may have come back with an empty store.
    ///
    /// # Errors
    /// [`BusError::Connect`], or [`BusError::TooOld`].
    pub async fn connect(url: &str, name: &str) -> Result<Self, BusError> {
        let connected = Arc::new(AtomicBool::new(false));
        let reconnected = Arc::new(Notify::new());
        let servers: Vec<ServerAddr> =
            url.split(',').map(|server| server.trim().parse()).collect::<Result<_, _>>().map_err(BusError::failed)?;
        let mut options = ConnectOptions::new();
        // The client doesn't take them out of the URL by itself.
        if let Some((user, password)) = servers.iter().find_map(|server| server.username().zip(server.password())) {
            options = options.user_and_password(user.to_owned(), password.to_owned());
        }
        let options = options
            .name(name)
            .connection_timeout(TIMEOUT)
            .request_timeout(Some(TIMEOUT))
            .client_capacity(16 * 1024)
            .subscription_capacity(64 * 1024)
            .reconnect_delay_callback(|attempts| {
                Duration::from_millis(50 * (1 << attempts.min(5))).min(Duration::from_secs(1))
            })
            .event_callback({
                let (connected, reconnected) = (connected.clone(), reconnected.clone());
                move |event| {
                    match event {
                        Event::Connected => {
                            connected.store(true, Ordering::Relaxed);
                            reconnected.notify_one();
                        }
                        Event::Disconnected | Event::Closed => connected.store(false, Ordering::Relaxed),
                        Event::SlowConsumer(_) => tracing::warn!("a subscription can't keep up; messages were dropped"),
                        _ => {}
                    }
                    std::future::ready(())
                }
            });
        let client = options.connect(servers).await.map_err(BusError::Connect)?;
        let version = client.server_info().version;
        let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < OLDEST_SERVER {
            return Err(BusError::TooOld(version));
        }
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(TIMEOUT)
            .ack_timeout(TIMEOUT)
            .max_ack_inflight(16 * 1024)
            .build(client.clone());
        let (purges, ordered) = mpsc::channel(purge::QUEUE);
        let bus = Self { client, jetstream, connected, purges };
        bus.connected.store(true, Ordering::Relaxed);
        bus.ensure_streams().await?;
        tokio::spawn(bus.clone().purge_due(ordered));
        let weak = bus.clone();
        tokio::spawn(async move {
            loop {
                reconnected.notified().await;
                if let Err(error) = weak.ensure_streams().await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "streams could not be declared");
                }
            }
        });
        Ok(bus)
    }

    /// Whether the connection stands.
    pub fn is_ready(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Version of the server.
    pub fn version(&self) -> String {
        self.client.server_info().version
    }

    /// Names of streams that the server doesn't have.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn missing_streams(&self) -> Result<Vec<String>, BusError> {
        use async_nats::jetstream::{ErrorCode, context::GetStreamErrorKind};
        let mut missing = Vec::new();
        for stream in streams::all() {
            match self.jetstream.get_stream(&stream.name).await.map_err(|error| error.kind()) {
                Ok(_) => {}
                Err(GetStreamErrorKind::JetStream(error)) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    missing.push(stream.name);
                }
                Err(error) => return Err(BusError::failed(error)),
            }
        }
        Ok(missing)
    }

    /// Messages in each stream; a stream that the server doesn't have is left out.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn stored(&self) -> Result<Vec<(String, u64)>, BusError> {
        use futures::TryStreamExt as _;
        let streams = self.jetstream.streams().map_ok(|info| (info.config.name, info.state.messages));
        streams.try_collect().await.map_err(BusError::failed)
    }

    /// Declares the streams. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn ensure_streams(&self) -> Result<(), BusError> {
        for stream in streams::all() {
            self.jetstream.create_or_update_stream(stream).await.map_err(BusError::failed)?;
        }
        Ok(())
    }
}
