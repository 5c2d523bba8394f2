//! What an attempt left: usage, cost, times, and how it ended.

use std::time::{Duration, Instant};

use chrono::Utc;
use polyphony_domain::{
    context::{Range, Receipt},
    ids::KeyId,
    turn::{AnswerEnd, AttemptRecord, ErrorRecord, Finish, Timings, UsageRecord},
};
use polyphony_providers::{ErrorKind, ProviderError, Usage, tokens};

use super::{
    attempt::{Started, Worker},
    context,
    generate::{Ended, Report, millis_since},
    live::Shown,
};

/// What was made in an attempt.
pub(super) struct Made {
    pub(super) ended: Ended,
    pub(super) report: Report,
    /// What the model was shown; none where nothing was sent.
    pub(super) context: Option<Receipt>,
    /// What is to be summarised for the turns after this one.
    pub(super) compaction: Option<Range>,
    pub(super) key_id: Option<KeyId>,
}

impl Made {
    /// An attempt that ended before anything was sent.
    pub(super) fn unsent(ended: Ended) -> Self {
        Self { ended, report: Report::default(), context: None, compaction: None, key_id: None }
    }
}

impl Worker<'_> {
    /// The record of an attempt.
    pub(super) async fn record(
        &self,
        started: &Started,
        made: &mut Made,
        shown: Shown,
        first_chunk: Option<Instant>,
    ) -> AttemptRecord {
        let usage = match made.report.usage.take() {
            Some(usage) => as_reported(usage),
            // Nothing was taken on, so nothing was used.
            None if !made.report.accepted => UsageRecord::default(),
            None => {
                let input = made.context.as_ref().map_or(0, |receipt| receipt.used);
                estimate(&started.answer.model.provider, input, &shown.text, &shown.reasoning).await
            }
        };
        if let Some(receipt) = made.context.as_ref().filter(|_| made.report.accepted) {
            self.deps.contexts.learn(&context::known(self.deps, &started.answer.model), receipt, &usage);
        }
        let model = self.deps.catalog.resolve(&started.answer.model.id.to_string());
        let bill = model.map(|model| model.bill(&usage, Utc::now())).unwrap_or_default();
        let queue_ms = Utc::now().timestamp_millis() - self.job().requested_at_ms;
        let total_ms = millis_since(started.since);
        let first_chunk_ms =
            first_chunk.map(|first| u64::try_from(first.duration_since(started.since).as_millis()).unwrap_or(u64::MAX));
        let timings = Timings {
            queue_ms: u64::try_from(queue_ms).unwrap_or(0).saturating_sub(total_ms),
            first_chunk_ms,
            total_ms,
        };
        if started.attempt == 1 {
            metrics::histogram!("polyphony_queue_wait_seconds").record(timings.queue_ms as f64 / 1e3);
        }
        if let Some(first) = first_chunk_ms {
            metrics::histogram!("polyphony_first_chunk_seconds").record(first as f64 / 1e3);
        }
        AttemptRecord {
            attempt: started.attempt,
            model: started.answer.model.clone(),
            reasoning: Some(shown.reasoning).filter(|text| !text.is_empty()).map(Into::into),
            text: shown.text.into(),
            chunks: shown.chunks,
            cost: bill.cost,
            price_version: bill.price_version,
            usage,
            timings,
            request_hash: made.context.as_ref().map(|receipt| receipt.request_hash.clone()).unwrap_or_default(),
            parts: std::mem::take(&mut made.report.parts),
            key_id: made.key_id,
            context: made.context.take().map(Box::new),
        }
    }
}

/// Counts the tokens ourselves, since the provider did not say.
async fn estimate(provider: &str, input: u64, text: &str, reasoning: &str) -> UsageRecord {
    let output = tokens::count_text(format!("{reasoning}{text}"), provider).await;
    UsageRecord { input, output: output.tokens, estimated: true, ..UsageRecord::default() }
}

fn as_reported(usage: Usage) -> UsageRecord {
    UsageRecord {
        input: usage.input,
        output: usage.output,
        cached_input: usage.cached_input.unwrap_or(0),
        cache_write: usage.cache_write.unwrap_or(0),
        reasoning: usage.reasoning.unwrap_or(0),
        estimated: false,
        raw: usage.raw.to_string(),
    }
}

/// How an answer ends with this attempt.
pub(super) fn end(ended: Ended, record: AttemptRecord) -> AnswerEnd {
    match ended {
        Ended::Finished(reason) => AnswerEnd::Completed(record, Finish { reason: reason.as_str().to_owned() }),
        Ended::Failed(error) => {
            let has_text = !record.text.as_str().is_empty();
            let described = describe(&error);
            if has_text && error.kind == ErrorKind::Interrupted {
                AnswerEnd::Interrupted(record, described)
            } else {
                AnswerEnd::Failed(record, described)
            }
        }
        Ended::Stopped | Ended::Lost | Ended::HandOver => AnswerEnd::Stopped(record),
    }
}

/// An error as the log keeps it; a wait that the provider asked for is said.
pub(super) fn describe(error: &ProviderError) -> ErrorRecord {
    let mut message = error.message.clone();
    if let Some(wait) = error.retry_after.filter(|_| error.retryable()) {
        message = format!("{message}; it can be tried again in {}", in_words(wait));
    }
    ErrorRecord { code: error.api_code().to_owned(), message, retryable: error.retryable() }
}

fn in_words(wait: Duration) -> String {
    match wait.as_secs() + u64::from(wait.subsec_nanos() > 0) {
        1 => "1 second".to_owned(),
        seconds @ 0..120 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_said_where_waiting_helps() {
        let error = |kind, wait| ProviderError { retry_after: wait, ..ProviderError::of(kind) };
        let said = |kind, wait: Option<u64>| describe(&error(kind, wait.map(Duration::from_millis))).message;
        assert!(said(ErrorKind::RateLimited, Some(3_600_000)).ends_with("; it can be tried again in 60 minutes"));
        assert!(said(ErrorKind::Overloaded, Some(1_200)).ends_with("in 2 seconds"));
        assert!(!said(ErrorKind::InvalidKey, Some(1_000)).contains("again"));
        assert!(!said(ErrorKind::RateLimited, None).contains("again"));
    }
}
