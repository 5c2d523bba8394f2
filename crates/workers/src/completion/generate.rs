//! One call of a provider: streams its events into the emitter until it ends, fails, or is told to stop.

use std::time::{Duration, Instant};

use futures::StreamExt;
use polyphony_domain::{
    chunk_map::ChunkKind,
    context::{Range, Receipt},
};
use polyphony_providers::{Adapter, AdapterEvent, FinishReason, ProviderError, ProviderKey, Rendered, Usage};
use tokio_util::sync::CancellationToken;

use super::{emitter::Emitter, leases::Signals};

/// Tries within one attempt, while nothing was shown.
const TRIES: u32 = 3;
/// The longest that a provider's `Retry-After` is honoured before the answer fails instead.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// How a generation ended.
pub(super) enum Ended {
    /// As the model wanted.
    Finished(FinishReason),
    /// By a person.
    Stopped,
    /// By a failure, before or after text was shown.
    Failed(ProviderError),
    /// Another worker has taken the attempt over.
    Lost,
    /// This process has to go.
    HandOver,
}

/// What a generation left besides its text.
#[derive(Default)]
pub(super) struct Report {
    /// The newest usage that the provider reported.
    pub(super) usage: Option<Usage>,
    /// What the model was shown.
    pub(super) context: Option<Receipt>,
    /// What is to be summarised for the turns after this one.
    pub(super) compaction: Option<Range>,
}

pub(super) struct Generation<'a> {
    pub(super) adapter: &'a dyn Adapter,
    pub(super) rendered: Rendered,
    pub(super) key: Option<&'a ProviderKey>,
    pub(super) signals: &'a Signals,
    pub(super) hand_over: &'a CancellationToken,
}

impl Generation<'_> {
    /// Runs it. Dropping the provider's stream closes its connection, which is how a stop reaches the provider.
    pub(super) async fn run(self, emitter: &mut Emitter) -> (Ended, Report) {
        let mut report = Report::default();
        for attempt in 1..=TRIES {
            let ended = self.once(emitter, &mut report).await;
            let Ended::Failed(error) = &ended else { return (ended, report) };
            let nothing_shown = emitter.first_chunk.is_none();
            let wait = error.retry_after.unwrap_or(Duration::from_millis(250 << attempt));
            if attempt == TRIES || !nothing_shown || !error.retryable() || wait > LONGEST_RETRY {
                return (ended, report);
            }
            tracing::info!(kind = ?error.kind, wait_ms = wait.as_millis() as u64, "asking the provider again");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.signals.lost.cancelled() => return (Ended::Lost, report),
                () = self.signals.stop.cancelled() => return (Ended::Stopped, report),
                () = self.hand_over.cancelled() => return (Ended::HandOver, report),
            }
        }
        (Ended::Lost, report)
    }

    async fn once(&self, emitter: &mut Emitter, report: &mut Report) -> Ended {
        let mut stream = tokio::select! {
            biased;
            () = self.signals.lost.cancelled() => return Ended::Lost,
            () = self.signals.stop.cancelled() => return Ended::Stopped,
            () = self.hand_over.cancelled() => return Ended::HandOver,
            stream = self.adapter.stream(self.rendered.clone(), self.key) => match stream {
                Ok(stream) => stream,
                Err(error) => return Ended::Failed(error),
            },
        };
        let mut finish = None;
        loop {
            tokio::select! {
                biased;
                () = self.signals.lost.cancelled() => return Ended::Lost,
                () = self.signals.stop.cancelled() => return Ended::Stopped,
                () = self.hand_over.cancelled() => return Ended::HandOver,
                event = stream.next() => match event {
                    Some(Ok(AdapterEvent::Text(text))) => emitter.push(ChunkKind::Text, &text),
                    Some(Ok(AdapterEvent::Reasoning(text))) => emitter.push(ChunkKind::Reasoning, &text),
                    Some(Ok(AdapterEvent::Usage(usage))) => report.usage = Some(usage),
                    Some(Ok(AdapterEvent::Finish(reason))) => finish = Some(reason),
                    // Tools aren't offered to the models yet, so a call of one has nobody to answer it.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Ended::Failed(error),
                    None => return Ended::Finished(finish.unwrap_or(FinishReason::Stop)),
                },
                () = emitter.ready() => emitter.turn(),
            }
        }
    }
}

/// Milliseconds since `since`.
pub(super) fn millis_since(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
