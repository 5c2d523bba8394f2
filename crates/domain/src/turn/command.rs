//! What can be asked of a turn.

use super::event::{AttemptReason, AttemptRecord, ErrorRecord, Finish, ModelRef, Params, TurnEvent};
use crate::ids::{AnswerId, KeyId, SessionId};

/// An answer to be made.
#[derive(Clone, Debug)]
pub struct NewAnswer {
    /// Its id.
    pub answer_id: AnswerId,
    /// Model to ask.
    pub model: ModelRef,
    /// Sampling parameters.
    pub params: Params,
    /// Stored key to use; none for a provider that needs none.
    pub key_id: Option<KeyId>,
}

impl NewAnswer {
    pub(super) fn requested(self, version: u32) -> TurnEvent {
        let Self { answer_id, model, params, key_id } = self;
        TurnEvent::AnswerRequested { answer_id, model, version, params, key_id, derived_from: vec![] }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum AnswerEnd {
    /// As the model wanted.
    Completed(AttemptRecord, Finish),
    /// By an error.
    Failed(AttemptRecord, ErrorRecord),
    /// By a person.
    Stopped(AttemptRecord),
    /// By a broken stream, after text had been shown.
    Interrupted(AttemptRecord, ErrorRecord),
}

impl AnswerEnd {
    /// What the attempt left.
    pub const fn record(&self) -> &AttemptRecord {
        match self {
            Self::Completed(record, _)
            | Self::Failed(record, _)
            | Self::Stopped(record)
            | Self::Interrupted(record, _) => record,
        }
    }

    pub(super) fn into_event(self, answer_id: AnswerId) -> TurnEvent {
        match self {
            Self::Completed(record, finish) => TurnEvent::AnswerCompleted { answer_id, record, finish },
            Self::Failed(record, error) => TurnEvent::AnswerFailed { answer_id, record, error },
            Self::Stopped(record) => TurnEvent::AnswerStopped { answer_id, record },
            Self::Interrupted(record, error) => TurnEvent::AnswerInterrupted { answer_id, record, error },
        }
    }
}

/// What can be asked of a turn.
#[derive(Clone, Debug)]
pub enum TurnCommand {
    /// Asks something and has models answer.
    Post {
        /// Session.
        session_id: SessionId,
        /// Answer that the prompt replies to.
        parent: Option<AnswerId>,
        /// The prompt.
        content: String,
        /// Answers to be made.
        answers: Vec<NewAnswer>,
    },
    /// A worker begins an attempt.
    StartAttempt {
        /// The answer.
        answer_id: AnswerId,
        /// Number of the attempt, greater than every one before it.
        attempt: u32,
        /// Name of the worker process.
        worker: String,
        /// Why.
        reason: AttemptReason,
    },
    /// A person wants it to stop. Stopping what has ended changes nothing.
    Stop {
        /// The answer.
        answer_id: AnswerId,
    },
    /// The worker of the newest attempt says how it ended.
    End {
        /// The answer.
        answer_id: AnswerId,
        /// How.
        end: Box<AnswerEnd>,
    },
}
