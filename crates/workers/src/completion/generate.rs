//! One call of a provider: streams its events into the emitter until it ends, fails, or is told to stop.

use std::time::{Duration, Instant};

use futures::StreamExt;
use polyphony_domain::{chunk_map::ChunkKind, content::Part};
use polyphony_platform::{failpoint, mutated};
use polyphony_providers::{
    Adapter, AdapterEvent, ErrorKind, FinishReason, ProviderError, ProviderKey, Rendered, Usage,
};
use tokio_util::sync::CancellationToken;

use super::{emitter::Emitter, leases::Signals, next::Others};
use crate::routing::{Call, Switchboard, pause};

/// Tries with one key within one attempt, while nothing was shown.
const TRIES: u32 = 3;

/// The pause of a mistaken worker that forgives nobody.
const GRUDGE: Duration = Duration::from_millis(1_500);

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
    /// What came besides text and reasoning, in order.
    pub(super) parts: Vec<Part>,
    /// Whether the provider took the request on: only then does it cost anything.
    pub(super) accepted: bool,
}

/// What ends a wait or a call from outside.
#[derive(Clone, Copy)]
pub(super) struct Interrupts<'a> {
    pub(super) signals: &'a Signals,
    pub(super) hand_over: &'a CancellationToken,
}

impl Interrupts<'_> {
    /// Waits; how the attempt ended, if it was told to meanwhile.
    pub(super) async fn wait(self, time: Duration) -> Option<Ended> {
        tokio::select! {
            biased;
            ended = self.any() => Some(ended),
            () = tokio::time::sleep(time) => None,
        }
    }

    async fn any(self) -> Ended {
        tokio::select! {
            biased;
            () = self.signals.lost.cancelled() => Ended::Lost,
            () = self.signals.stop.cancelled() => Ended::Stopped,
            () = self.hand_over.cancelled() => Ended::HandOver,
        }
    }
}

pub(super) struct Generation<'a> {
    pub(super) adapter: &'a dyn Adapter,
    pub(super) key: Option<&'a ProviderKey>,
    pub(super) call: &'a Call,
    pub(super) switchboard: &'a Switchboard,
    pub(super) interrupts: Interrupts<'a>,
    /// What else could be tried.
    pub(super) others: Others,
}

impl Generation<'_> {
    /// Runs it. Dropping the provider's stream closes its connection, which is how a stop reaches the provider.
    pub(super) async fn run(&self, rendered: &Rendered, emitter: &mut Emitter, report: &mut Report) -> Ended {
        for attempt in 1.. {
            report.parts.clear();
            let ended = self.once(rendered, emitter, report).await;
            match &ended {
                Ended::Finished(_) => self.call.learn(Ok(())),
                Ended::Failed(error) => self.call.learn(Err(error)),
                Ended::Stopped | Ended::Lost | Ended::HandOver => {}
            }
            let Ended::Failed(error) = &ended else { return ended };
            let untouched = emitter.is_untouched() || mutated!("retry_after_text");
            if attempt == TRIES || !untouched || !error.retryable() {
                return ended;
            }
            let wait = pause(attempt, error.retry_after);
            if wait > self.others.patience(error.kind) || !self.switchboard.may_retry(Instant::now()) {
                return ended;
            }
            tracing::info!(kind = ?error.kind, wait_ms = wait.as_millis() as u64, "asking the provider again");
            emitter.say_waiting(wait, error.kind);
            if let Some(ended) = self.interrupts.wait(wait).await {
                return ended;
            }
        }
        Ended::Lost
    }

    async fn once(&self, rendered: &Rendered, emitter: &mut Emitter, report: &mut Report) -> Ended {
        if mutated!("hold_grudge") && self.call.is_limited() {
            tokio::time::sleep(GRUDGE).await;
        }
        failpoint!("worker.before_connect");
        let mut stream = tokio::select! {
            biased;
            ended = self.interrupts.any() => return ended,
            stream = self.adapter.stream(rendered.clone(), self.key) => match stream {
                Ok(stream) => stream,
                Err(error) => return Ended::Failed(error),
            },
        };
        failpoint!("worker.after_headers");
        report.accepted = true;
        let mut finish = None;
        loop {
            tokio::select! {
                biased;
                ended = self.interrupts.any() => return ended,
                event = stream.next() => match event {
                    Some(Ok(AdapterEvent::Text(text))) => {
                        emitter.push(ChunkKind::Text, &text);
                        failpoint!("worker.after_chunk");
                    }
                    Some(Ok(AdapterEvent::Reasoning(text))) => emitter.push(ChunkKind::Reasoning, &text),
                    Some(Ok(AdapterEvent::Usage(usage))) => report.used(usage),
                    Some(Ok(AdapterEvent::Finish(reason))) => finish = Some(reason),
                    Some(Ok(AdapterEvent::Part(part))) => {
                        // What a model has to say is shown, also when it's a no.
                        if let Part::Refusal { text } = &part {
                            emitter.push(ChunkKind::Text, text.as_str());
                        }
                        report.parts.push(part);
                    }
                    Some(Ok(AdapterEvent::Limits(limits))) => self.call.heed(limits),
                    Some(Err(error)) => return Ended::Failed(error),
                    None => return Ended::Finished(finish.unwrap_or(FinishReason::Stop)),
                },
                () = emitter.ready() => emitter.turn(),
            }
            // Thoughts without an end are too much as well.
            if emitter.is_overfull() {
                return Ended::Failed(ProviderError::of(ErrorKind::ResponseTooLarge));
            }
        }
    }
}

impl Report {
    /// Keeps a report of usage; each is cumulative, so the newest counts.
    fn used(&mut self, mut usage: Usage) {
        if let (true, Some(before)) = (mutated!("sum_usage"), &self.usage) {
            usage.input += before.input;
            usage.output += before.output;
        }
        self.usage = Some(usage);
    }
}

/// Milliseconds since `since`.
pub(super) fn millis_since(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
