//! Jobs: published with a message id, consumed by pull, acknowledged explicitly.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    jetstream::{
        AckKind,
        consumer::{AckPolicy, DeliverPolicy, pull},
        context::PublishErrorKind,
        message::{Message, PublishMessage},
    },
};
use futures::{FutureExt, StreamExt};
use polyphony_platform::{config::WorkerConfig, telemetry::TraceContext};

use crate::{
    Bus, BusError, streams, subjects,
    wire::{Job, JobClass},
};

/// Jobs fetched ahead of the workers' slots.
const PREFETCH: usize = 64;
/// The server says that it lives this often; twice the silence means that the pull is dead.
const IDLE_HEARTBEAT: Duration = Duration::from_secs(2);
const TRACE: &str = "traceparent";

impl Bus {
    /// Publishes a job and waits for the stream to take it. A job that was issued before is taken once.
    ///
    /// # Errors
    /// [`BusError::Failed`]: nobody may have it; the sweeper will issue it again.
    pub async fn publish_job(&self, job: &Job, class: JobClass, trace: &TraceContext) -> Result<(), BusError> {
        let payload = serde_json::to_vec(job).map_err(BusError::failed)?;
        for attempt in 0..2 {
            let mut headers = HeaderMap::new();
            headers.insert(TRACE, trace.to_string().as_str());
            let message = PublishMessage::build()
                .message_id(format!("{}:{}", job.answer_id, job.issue))
                .headers(headers)
                .payload(payload.clone().into());
            let sent = self.jetstream.send_publish(subjects::job(class.as_str()), message).await;
            match async { sent?.await }.await {
                Ok(_) => return Ok(()),
                // The server came back without its streams.
                Err(error) if attempt == 0 && error.kind() == PublishErrorKind::StreamNotFound => {
                    self.ensure_streams().await?;
                }
                Err(error) => return Err(BusError::failed(error)),
            }
        }
        Ok(())
    }

    /// Begins to consume jobs.
    ///
    /// # Errors
    /// [`BusError::Failed`] when the consumer can't be made at all.
    pub async fn job_consumer(&self, class: JobClass, config: &WorkerConfig) -> Result<JobConsumer, BusError> {
        let mut consumer = JobConsumer { bus: self.clone(), class, config: config.clone(), messages: None };
        consumer.connect().await?;
        Ok(consumer)
    }
}

/// A pull consumer that mends itself when the stream, the consumer or the server goes away.
pub struct JobConsumer {
    bus: Bus,
    class: JobClass,
    config: WorkerConfig,
    messages: Option<pull::Stream>,
}

impl JobConsumer {
    async fn connect(&mut self) -> Result<(), BusError> {
        self.bus.ensure_streams().await?;
        let name = format!("workers-{}", self.class.as_str());
        let config = pull::Config {
            durable_name: Some(name.clone()),
            filter_subject: subjects::job(self.class.as_str()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_secs(self.config.ack_wait_seconds.into()),
            max_deliver: i64::from(self.config.max_deliver),
            // At least all slots of a fleet; a smaller one would stall healthy workers behind slow answers.
            max_ack_pending: 1_000_000,
            ..pull::Config::default()
        };
        let stream = self.bus.jetstream.get_stream(streams::JOBS).await.map_err(BusError::failed)?;
        let consumer = stream.get_or_create_consumer(&name, config).await.map_err(BusError::failed)?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(PREFETCH.min(self.config.slots as usize).max(1))
            .heartbeat(IDLE_HEARTBEAT)
            .expires(Duration::from_secs(30))
            .messages()
            .await
            .map_err(BusError::failed)?;
        self.messages = Some(messages);
        Ok(())
    }

    /// The next job. Never ends: it reconnects until it is dropped.
    pub async fn next(&mut self) -> JobDelivery {
        let mut pause = Duration::from_millis(50);
        loop {
            let message = match &mut self.messages {
                Some(messages) => messages.next().await,
                None => None,
            };
            match message {
                Some(Ok(message)) => {
                    if let Some(delivery) = JobDelivery::read(message, self.config.max_deliver).await {
                        return delivery;
                    }
                    continue;
                }
                Some(Err(error)) => tracing::debug!(%error, "the job pull broke"),
                None => {}
            }
            self.messages = None;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
            if let Err(error) = self.connect().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "jobs can't be consumed");
            }
        }
    }
}

/// A job that was delivered.
#[derive(Clone)]
pub struct JobDelivery {
    /// The job.
    pub job: Job,
    /// Whether this message is delivered for the last time.
    is_last: bool,
    /// The trace that the job belongs to.
    pub trace: TraceContext,
    message: Message,
}

impl JobDelivery {
    /// Reads a message; one that isn't a job is removed, since the sweeper knows every answer anyway.
    async fn read(message: Message, max_deliver: u32) -> Option<Self> {
        let trace = message.headers.as_ref().and_then(|headers| headers.get(TRACE)?.as_str().parse().ok());
        match serde_json::from_slice(&message.payload) {
            Ok(job) => {
                let is_last = message.info().is_ok_and(|info| info.delivered >= i64::from(max_deliver));
                Some(Self { job, is_last, trace: trace.unwrap_or_else(TraceContext::random), message })
            }
            Err(error) => {
                tracing::error!(%error, "a message in the job stream is not a job; it is removed");
                message.ack_with(AckKind::Term).await.ok();
                None
            }
        }
    }

    async fn acknowledge(&self, kind: AckKind) -> Result<(), BusError> {
        self.message.ack_with(kind).map(|done| done.map_err(BusError::failed)).await
    }

    /// Says that the work goes on.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn progress(&self) -> Result<(), BusError> {
        self.acknowledge(AckKind::Progress).await
    }

    /// Says that the job is done with.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn ack(&self) -> Result<(), BusError> {
        self.acknowledge(AckKind::Ack).await
    }

    /// Has the job delivered again after a while. After its last delivery it is removed instead: nobody would ever
    /// get it again, and it would lie in the stream. The sweeper issues a new one.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn nak(&self, after: Duration) -> Result<(), BusError> {
        self.acknowledge(if self.is_last { AckKind::Term } else { AckKind::Nak(Some(after)) }).await
    }
}
