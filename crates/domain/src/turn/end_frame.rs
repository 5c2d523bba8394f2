//! The last frame of an answer's stream, made from the log: the same whether it is live or replayed.

use serde_json::{Value, json};

use super::{Answer, AnswerStatus};
use crate::ids::AnswerId;

/// Which of the two events ends the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// `done`: complete, or stopped by a person.
    Done,
    /// `error`: failed or interrupted.
    Error,
}

/// `done` or `error` of the contract.
#[derive(Clone, Debug, PartialEq)]
pub struct EndFrame {
    /// Number within the attempt: one more than the last chunk's.
    pub n: u32,
    /// Which event.
    pub kind: EndKind,
    /// The event's `data`.
    pub data: Value,
}

impl EndFrame {
    /// The end of an answer; `None` while it has not ended.
    pub fn of(answer_id: AnswerId, answer: &Answer) -> Option<Self> {
        let record = answer.record.as_ref().filter(|_| answer.status.is_final())?;
        let n = record.chunks.len() + 1;
        if let Some(error) = &answer.error {
            let data = json!({
                "message_id": answer_id, "code": error.code, "message": error.message, "retryable": error.retryable,
                "status": answer.status.as_str(),
            });
            return Some(Self { n, kind: EndKind::Error, data });
        }
        let finish_reason = match (&answer.finish, answer.status) {
            (Some(finish), _) => finish.reason.as_str(),
            (None, AnswerStatus::Stopped) => "stopped",
            (None, _) => "unknown",
        };
        let data = json!({
            "message_id": answer_id, "model": record.model.name, "finish_reason": finish_reason,
            "tokens_input": record.usage.input, "tokens_output": record.usage.output,
            "cost_usd": record.cost.to_string(), "version": answer.version, "status": answer.status.as_str(),
        });
        Some(Self { n, kind: EndKind::Done, data })
    }
}
