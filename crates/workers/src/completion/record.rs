//! What an attempt left: usage, cost, times, and how it ended.

use std::time::{Duration, Instant};

use chrono::Utc;
use polyphony_domain::{
    context::{Range, Receipt},
    ids::KeyId,
    personal::Personal,
    turn::{AnswerEnd, AttemptRecord, ErrorRecord, Finish, Timings, UsageRecord},
};
use polyphony_providers::{ErrorKind, FinishReason, ProviderError, Usage, tokens};

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
            // Nothing was taken on, so nothing was used.
            None if !made.report.accepted => UsageRecord::default(),
            reported => {
                let sent = made.context.as_ref().map_or(0, |receipt| receipt.used);
                counted(reported.unwrap_or_default(), sent, &started.answer.model.provider, &shown).await
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

/// What the provider reported, and our own count of what it left out: no prompt has no tokens, and no text either.
/// Some leave out one of the two: llama.cpp's Anthropic dialect the input, where its first token is half a character.
async fn counted(reported: Usage, sent: u64, provider: &str, shown: &Shown) -> UsageRecord {
    let mut usage = UsageRecord {
        input: reported.input,
        output: reported.output,
        cached_input: reported.cached_input.unwrap_or(0),
        cache_write: reported.cache_write.unwrap_or(0),
        reasoning: reported.reasoning.unwrap_or(0),
        estimated: false,
        raw: if reported.raw.is_null() { String::new() } else { reported.raw.to_string() },
    };
    if usage.input == 0 && sent > 0 {
        (usage.input, usage.estimated) = (sent, true);
    }
    if usage.output == 0 && !(shown.text.is_empty() && shown.reasoning.is_empty()) {
        usage.output = tokens::count_text(format!("{}{}", shown.reasoning, shown.text), provider).await.tokens;
        usage.estimated = true;
    }
    usage
}

/// How an answer ends with this attempt; `stop` are the texts that were to end it.
pub(super) fn end(ended: Ended, record: AttemptRecord, stop: &[String]) -> AnswerEnd {
    match ended {
        Ended::Finished(reason) => {
            let stop_sequence = stopped_by(&reason, stop).map(Personal::from);
            AnswerEnd::Completed(record, Finish { stop_sequence, ..Finish::new(reason.as_str()) })
        }
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

/// The text that ended an answer, of those that were to; empty where the provider doesn't say which.
fn stopped_by(reason: &FinishReason, stop: &[String]) -> Option<String> {
    match (reason, stop) {
        (FinishReason::StopSequence(Some(said)), _) if stop.contains(said) => Some(said.clone()),
        (FinishReason::StopSequence(_), [only]) => Some(only.clone()),
        // What nobody asked for is the host's own end.
        (FinishReason::StopSequence(_), [_, _, ..]) => Some(String::new()),
        _ => None,
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

    #[tokio::test]
    async fn what_a_provider_leaves_out_is_counted_here() {
        let shown = |text: &str| Shown { text: text.to_owned(), ..Shown::default() };
        let reported = Usage { input: 5, output: 7, cached_input: Some(2), ..Usage::default() };
        let usage = counted(reported, 9, "anthropic", &shown("hello")).await;
        assert_eq!((usage.input, usage.output, usage.cached_input, usage.estimated), (5, 7, 2, false));
        let usage = counted(Usage { output: 7, ..Usage::default() }, 9, "anthropic", &shown("hello")).await;
        assert_eq!((usage.input, usage.output, usage.estimated), (9, 7, true));
        let usage = counted(Usage { input: 5, ..Usage::default() }, 9, "anthropic", &shown("hello")).await;
        assert!(usage.input == 5 && usage.output > 0 && usage.estimated, "{usage:?}");
        let usage = counted(Usage { input: 5, ..Usage::default() }, 9, "anthropic", &shown("")).await;
        assert_eq!((usage.input, usage.output, usage.estimated), (5, 0, false));
        assert_eq!(counted(Usage::default(), 9, "demo", &shown("hello")).await.raw, "");
    }

    #[test]
    fn only_a_text_that_was_asked_for_has_ended_an_answer() {
        let asked = ["a".to_owned(), "b".to_owned()];
        let by = |said: Option<&str>, stop: &[String]| {
            stopped_by(&FinishReason::StopSequence(said.map(str::to_owned)), stop)
        };
        assert_eq!(by(Some("b"), &asked).as_deref(), Some("b"));
        assert_eq!(by(None, &asked[..1]).as_deref(), Some("a"));
        // One of them, but nobody knows which.
        assert_eq!(by(None, &asked).as_deref(), Some(""));
        assert_eq!(by(Some("c"), &asked).as_deref(), Some(""));
        assert_eq!(by(Some("c"), &[]), None);
        assert_eq!(stopped_by(&FinishReason::Stop, &asked), None);
    }

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
