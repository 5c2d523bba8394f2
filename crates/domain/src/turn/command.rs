//! What can be asked of a turn.

use super::{
    event::{AttemptReason, AttemptRecord, ErrorRecord, Feedback, Finish, TurnEvent},
    request::{AnswerRequest, ModelRef, Prompt},
};
use crate::ids::AnswerId;

/// An answer to be made.
#[derive(Clone, Debug)]
pub struct NewAnswer {
    /// Its id.
    pub answer_id: AnswerId,
    /// How.
    pub request: AnswerRequest,
}

impl NewAnswer {
    pub(super) fn requested(self, version: u32) -> TurnEvent {
        TurnEvent::AnswerRequested { answer_id: self.answer_id, version, request: self.request }
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

/// The attempt that follows one that failed.
#[derive(Clone, Debug)]
pub struct NextAttempt {
    /// Name of the worker process, the same as before.
    pub worker: String,
    /// Why.
    pub reason: AttemptReason,
    /// The model that is asked.
    pub model: ModelRef,
}

/// What can be asked of a turn.
#[derive(Clone, Debug)]
pub enum TurnCommand {
    /// Asks something and has models answer.
    Post {
        /// The prompt.
        prompt: Prompt,
        /// Answers to be made.
        answers: Vec<NewAnswer>,
    },
    /// Has models answer the prompt once more. Refused while an answer is in the making.
    AddAnswers {
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
        /// The model that is asked, where it is another than was requested.
        model: Option<ModelRef>,
    },
    /// The worker of the newest attempt says that it failed, and begins another one.
    FailAttempt {
        /// The answer.
        answer_id: AnswerId,
        /// What came of it.
        record: Box<AttemptRecord>,
        /// Why.
        error: ErrorRecord,
        /// What follows.
        next: NextAttempt,
    },
    /// A person wants it to stop. Stopping what has ended changes nothing.
    Stop {
        /// The answer.
        answer_id: AnswerId,
    },
    /// A person wants everything of the turn to stop, a discussion included.
    StopAll,
    /// Has a discussion go on whose round is complete: the next round, the verdict, or its end. Changes nothing when
    /// there is no discussion, or nothing to do for it now.
    Advance {
        /// Ids for the answers that may have to be asked for, in order of time; as many as the discussion has members.
        answer_ids: Vec<AnswerId>,
    },
    /// A person says what they think of an answer.
    GiveFeedback {
        /// The answer.
        answer_id: AnswerId,
        /// What they think.
        feedback: Feedback,
    },
    /// They take it back.
    WithdrawFeedback {
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
