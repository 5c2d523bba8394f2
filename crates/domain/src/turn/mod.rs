//! The turn: one prompt and its answers. Regenerating adds an answer; comparing models is one prompt with several.
//!
//! An answer ends exactly once. The turn decides that by the sequence of its events; who may still work on an
//! attempt is fenced by the attempt's number.

mod answer;
mod command;
mod end_frame;
mod event;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::{
    answer::{Answer, AnswerStatus},
    command::{AnswerEnd, NewAnswer, TurnCommand},
    end_frame::{EndFrame, EndKind},
    event::{AttemptReason, AttemptRecord, ErrorRecord, Finish, ModelRef, Params, Timings, TurnEvent, UsageRecord},
};
use crate::{
    ids::{AnswerId, SessionId},
    personal::Personal,
};

/// State of a turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Its session; none before the prompt.
    pub session_id: Option<SessionId>,
    /// Answer that the prompt replies to; none for the first prompt of a session.
    pub parent: Option<AnswerId>,
    /// The prompt.
    pub prompt: Personal,
    /// Its answers by id (UUIDv7, so in the order of their making).
    pub answers: BTreeMap<AnswerId, Answer>,
}

impl Turn {
    /// The newest answer that has ended with something to go on from, else the newest of all.
    pub fn active_answer(&self) -> Option<(AnswerId, &Answer)> {
        let newest_first = || self.answers.iter().rev().map(|(id, answer)| (*id, answer));
        newest_first().find(|(_, answer)| answer.has_usable_text()).or_else(|| newest_first().next())
    }
}

/// Why a turn refuses a command.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TurnError {
    /// The id is taken.
    #[error("the turn exists already")]
    AlreadyPosted,
    /// There is no such turn or answer.
    #[error("there is no such answer")]
    NotFound,
    /// The answer has ended.
    #[error("the answer has already ended")]
    AlreadyEnded,
    /// Another attempt has taken over.
    #[error("a newer attempt has taken over")]
    Superseded,
    /// An end was reported for an attempt that never began.
    #[error("the attempt has not been started")]
    NotStarted,
}

impl Turn {
    fn open_answer(&self, id: AnswerId) -> Result<&Answer, TurnError> {
        let answer = self.answers.get(&id).ok_or(TurnError::NotFound)?;
        if answer.status.is_final() { Err(TurnError::AlreadyEnded) } else { Ok(answer) }
    }

    fn decide(&self, command: TurnCommand) -> Result<Vec<TurnEvent>, TurnError> {
        match command {
            TurnCommand::Post { .. } if self.session_id.is_some() => Err(TurnError::AlreadyPosted),
            TurnCommand::Post { session_id, parent, content, answers } => {
                let posted = TurnEvent::PromptPosted { session_id, parent, content: content.into() };
                let requested = answers.into_iter().zip(1..).map(|(new, version)| new.requested(version));
                Ok(std::iter::once(posted).chain(requested).collect())
            }
            _ if self.session_id.is_none() => Err(TurnError::NotFound),
            TurnCommand::StartAttempt { answer_id, attempt, worker, reason } => {
                let answer = self.open_answer(answer_id)?;
                if attempt <= answer.attempt {
                    return Err(TurnError::Superseded);
                }
                Ok(vec![TurnEvent::AttemptStarted { answer_id, attempt, worker, reason }])
            }
            TurnCommand::Stop { answer_id } => match self.open_answer(answer_id) {
                // A stop that comes too late, or twice, is what two clicks do.
                Err(TurnError::AlreadyEnded) => Ok(vec![]),
                Err(error) => Err(error),
                Ok(answer) if answer.stop_requested => Ok(vec![]),
                Ok(answer) if answer.attempt == 0 => {
                    let record = AttemptRecord::empty(answer.model.clone());
                    Ok(vec![TurnEvent::AnswerStopped { answer_id, record }])
                }
                Ok(_) => Ok(vec![TurnEvent::StopRequested { answer_id }]),
            },
            TurnCommand::End { answer_id, end } => {
                let answer = self.open_answer(answer_id)?;
                match end.record().attempt {
                    0 => return Err(TurnError::NotStarted),
                    attempt if attempt != answer.attempt => return Err(TurnError::Superseded),
                    _ => {}
                }
                Ok(vec![end.into_event(answer_id)])
            }
        }
    }
}

impl Aggregate for Turn {
    const TYPE: &'static str = "turn";
    type Command = TurnCommand;
    type Event = TurnEvent;
    type Error = TurnError;
    type Services = ();

    async fn handle(&mut self, command: TurnCommand, (): &(), sink: &EventSink<Self>) -> Result<(), TurnError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: TurnEvent) {
        match event {
            TurnEvent::PromptPosted { session_id, parent, content } => {
                self.session_id = Some(session_id);
                self.parent = parent;
                self.prompt = content;
            }
            TurnEvent::AnswerRequested { answer_id, model, version, params, key_id, derived_from } => {
                self.answers.insert(answer_id, Answer::requested(model, version, params, key_id, derived_from));
            }
            TurnEvent::AttemptStarted { answer_id, attempt, .. } => {
                self.change(answer_id, |answer| {
                    answer.attempt = attempt;
                    answer.status = AnswerStatus::Streaming;
                });
            }
            TurnEvent::StopRequested { answer_id } => self.change(answer_id, |answer| answer.stop_requested = true),
            TurnEvent::AnswerCompleted { answer_id, record, finish } => {
                self.change(answer_id, |answer| answer.end(AnswerStatus::Complete, record, Some(finish), None));
            }
            TurnEvent::AnswerFailed { answer_id, record, error } => {
                self.change(answer_id, |answer| answer.end(AnswerStatus::Failed, record, None, Some(error)));
            }
            TurnEvent::AnswerStopped { answer_id, record } => {
                self.change(answer_id, |answer| answer.end(AnswerStatus::Stopped, record, None, None));
            }
            TurnEvent::AnswerInterrupted { answer_id, record, error } => {
                self.change(answer_id, |answer| answer.end(AnswerStatus::Interrupted, record, None, Some(error)));
            }
        }
    }
}

impl Turn {
    fn change(&mut self, id: AnswerId, change: impl FnOnce(&mut Answer)) {
        if let Some(answer) = self.answers.get_mut(&id) {
            change(answer);
        }
    }
}
