//! The turn: one prompt and its answers. Regenerating adds an answer; comparing models is one prompt with several.
//!
//! An answer ends exactly once. The turn decides that by the sequence of its events; who may still work on an
//! attempt is fenced by the attempt's number.

mod answer;
mod command;
mod discussion;
mod end_frame;
mod event;
mod request;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::{
    answer::{Answer, AnswerStatus, Standing},
    command::{AnswerEnd, NewAnswer, NextAttempt, TurnCommand},
    end_frame::{EndFrame, EndKind},
    event::{
        AttemptReason, AttemptRecord, DiscussionEnd, ErrorRecord, Feedback, Finish, Timings, TurnEvent, UsageRecord,
    },
    request::{AnswerPurpose, AnswerRequest, Discussion, ModelRef, Params, Prompt, ResponseFormat, TurnPurpose},
};
use crate::{ids::AnswerId, money::NanoUsd};

/// State of a turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// The prompt; none before it was posted.
    pub prompt: Option<Prompt>,
    /// Its answers by id (UUIDv7, so in the order of their making).
    pub answers: BTreeMap<AnswerId, Answer>,
    /// What all attempts have cost.
    pub cost: NanoUsd,
    /// Whether its discussion ended without a verdict.
    pub discussion_closed: bool,
}

impl Turn {
    /// Answer that the prompt replies to; none for the first prompt of a session.
    pub fn parent(&self) -> Option<AnswerId> {
        self.prompt.as_ref().and_then(|prompt| prompt.parent)
    }

    /// The answer that the conversation goes through where nobody has chosen one: the newest of the best standing.
    pub fn active_answer(&self) -> Option<(AnswerId, &Answer)> {
        self.answers
            .iter()
            .map(|(id, answer)| (*id, answer))
            .max_by_key(|(_, answer)| (answer.standing(), answer.version))
    }

    /// Whether something of it is still in the making.
    pub fn is_busy(&self) -> bool {
        self.is_discussing() || self.answers.values().any(|answer| !answer.status.is_final())
    }

    /// Whether a person sees it in the conversation.
    pub fn is_conversation(&self) -> bool {
        self.prompt.as_ref().is_some_and(|prompt| prompt.purpose.is_conversation())
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
    /// An answer is still in the making.
    #[error("an answer is still in the making")]
    InProgress,
    /// An end was reported for an attempt that never began.
    #[error("the attempt has not been started")]
    NotStarted,
}

impl Turn {
    fn open_answer(&self, id: AnswerId) -> Result<&Answer, TurnError> {
        let answer = self.answers.get(&id).ok_or(TurnError::NotFound)?;
        if answer.status.is_final() { Err(TurnError::AlreadyEnded) } else { Ok(answer) }
    }

    /// Checks that `attempt` is the newest one and that nothing has ended it.
    fn running_attempt(&self, id: AnswerId, attempt: u32) -> Result<(), TurnError> {
        let answer = self.open_answer(id)?;
        match attempt {
            0 => Err(TurnError::NotStarted),
            attempt if attempt != answer.attempt => Err(TurnError::Superseded),
            _ => Ok(()),
        }
    }

    fn requested(&self, answers: Vec<NewAnswer>) -> impl Iterator<Item = TurnEvent> + use<> {
        let first = u32::try_from(self.answers.len()).unwrap_or(u32::MAX).saturating_add(1);
        answers.into_iter().zip(first..).map(|(new, version)| new.requested(version))
    }

    fn decide(&self, command: TurnCommand) -> Result<Vec<TurnEvent>, TurnError> {
        match command {
            TurnCommand::Post { .. } if self.prompt.is_some() => Err(TurnError::AlreadyPosted),
            TurnCommand::Post { prompt, answers } => {
                Ok(std::iter::once(TurnEvent::PromptPosted(prompt)).chain(self.requested(answers)).collect())
            }
            _ if self.prompt.is_none() => Err(TurnError::NotFound),
            TurnCommand::AddAnswers { .. } if self.is_busy() => Err(TurnError::InProgress),
            TurnCommand::AddAnswers { answers } => Ok(self.requested(answers).collect()),
            TurnCommand::Advance { answer_ids } => Ok(self.advance(answer_ids)),
            TurnCommand::GiveFeedback { answer_id, feedback } => {
                let answer = self.answers.get(&answer_id).ok_or(TurnError::NotFound)?;
                match &answer.feedback {
                    _ if !answer.status.is_final() => Err(TurnError::InProgress),
                    Some(given) if *given == feedback => Ok(vec![]),
                    _ => Ok(vec![TurnEvent::FeedbackGiven { answer_id, feedback }]),
                }
            }
            TurnCommand::WithdrawFeedback { answer_id } => {
                let answer = self.answers.get(&answer_id).ok_or(TurnError::NotFound)?;
                Ok(answer.feedback.iter().map(|_| TurnEvent::FeedbackWithdrawn { answer_id }).collect())
            }
            TurnCommand::StartAttempt { answer_id, attempt, worker, reason, model } => {
                let answer = self.open_answer(answer_id)?;
                if attempt <= answer.attempt {
                    return Err(TurnError::Superseded);
                }
                let model = model.filter(|model| *model != answer.request.model);
                Ok(vec![TurnEvent::AttemptStarted { answer_id, attempt, worker, reason, model }])
            }
            TurnCommand::FailAttempt { answer_id, record, error, next: NextAttempt { worker, reason, model } } => {
                self.running_attempt(answer_id, record.attempt)?;
                let model = Some(model).filter(|model| *model != self.answers[&answer_id].request.model);
                let attempt = record.attempt + 1;
                let failed = TurnEvent::AttemptFailed { answer_id, record: *record, error };
                Ok(vec![failed, TurnEvent::AttemptStarted { answer_id, attempt, worker, reason, model }])
            }
            TurnCommand::Stop { answer_id } => {
                let answer = self.answers.get(&answer_id).ok_or(TurnError::NotFound)?;
                Ok(stopped(answer_id, answer).into_iter().collect())
            }
            TurnCommand::StopAll => {
                let stops = self.answers.iter().filter_map(|(id, answer)| stopped(*id, answer));
                Ok(self.closed(DiscussionEnd::Stopped).into_iter().chain(stops).collect())
            }
            TurnCommand::End { answer_id, end } => {
                self.running_attempt(answer_id, end.record().attempt)?;
                Ok(vec![end.into_event(answer_id)])
            }
        }
    }
}

/// What stopping an answer does; nothing where it comes too late, or twice, as two clicks do.
fn stopped(answer_id: AnswerId, answer: &Answer) -> Option<TurnEvent> {
    if answer.status.is_final() || answer.stop_requested {
        return None;
    }
    if answer.attempt > 0 {
        return Some(TurnEvent::StopRequested { answer_id });
    }
    Some(TurnEvent::AnswerStopped { answer_id, record: AttemptRecord::empty(answer.model.clone()) })
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
        if let Some((_, record)) = event.attempt() {
            self.cost = self.cost + record.cost;
        }
        match event {
            TurnEvent::PromptPosted(prompt) => self.prompt = Some(prompt),
            TurnEvent::AnswerRequested { answer_id, version, request } => {
                self.answers.insert(answer_id, Answer::requested(request, version));
            }
            TurnEvent::AttemptStarted { answer_id, attempt, model, .. } => {
                self.change(answer_id, |answer| {
                    answer.attempt = attempt;
                    answer.attempt_failed = false;
                    answer.status = AnswerStatus::Streaming;
                    answer.model = model.unwrap_or_else(|| answer.request.model.clone());
                });
            }
            TurnEvent::AttemptFailed { answer_id, .. } => {
                self.change(answer_id, |answer| answer.attempt_failed = true);
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
            TurnEvent::FeedbackGiven { answer_id, feedback } => {
                self.change(answer_id, |answer| answer.feedback = Some(feedback));
            }
            TurnEvent::FeedbackWithdrawn { answer_id } => self.change(answer_id, |answer| answer.feedback = None),
            TurnEvent::DiscussionClosed { .. } => self.discussion_closed = true,
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
