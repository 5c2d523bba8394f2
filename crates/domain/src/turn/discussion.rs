//! Discussions: what comes after each round. The turn decides, so that each step happens exactly once however often
//! and by whomever it is asked for.

use super::{
    Turn,
    answer::Answer,
    command::NewAnswer,
    event::{DiscussionEnd, TurnEvent},
    request::{AnswerPurpose, AnswerRequest, Discussion},
};
use crate::ids::AnswerId;

impl Turn {
    /// The plan, where the models are to discuss.
    pub fn discussion(&self) -> Option<&Discussion> {
        self.prompt.as_ref()?.discussion.as_deref()
    }

    /// Whether a discussion has a step to come that nobody has asked for yet.
    pub fn is_discussing(&self) -> bool {
        let has_verdict = || self.answers.values().any(|answer| answer.request.purpose == AnswerPurpose::Verdict);
        self.discussion().is_some() && !self.discussion_closed && !has_verdict()
    }

    /// The end of a discussion without a verdict, where it has not ended.
    pub(super) fn closed(&self, reason: DiscussionEnd) -> Option<TurnEvent> {
        self.is_discussing().then_some(TurnEvent::DiscussionClosed { reason })
    }

    /// What comes next; nothing while an answer is in the making, or where there is no discussion.
    pub(super) fn advance(&self, ids: Vec<AnswerId>) -> Vec<TurnEvent> {
        let Some(plan) = self.discussion().filter(|_| self.is_discussing()) else { return vec![] };
        if self.answers.values().any(|answer| !answer.status.is_final()) {
            return vec![];
        }
        let spoken: Vec<(AnswerId, &Answer)> = self.members().filter_map(|member| self.newest_of(member)).collect();
        if spoken.is_empty() {
            return self.closed(DiscussionEnd::NoAnswers).into_iter().collect();
        }
        let round = self.answers.values().map(|answer| round(answer.request.purpose)).max().unwrap_or(0);
        let may_spend = plan.max_cost.is_none_or(|most| self.cost < most);
        let requests = if round < plan.rounds && spoken.len() > 1 && may_spend {
            self.comments(round + 1, &spoken)
        } else {
            let usable = self.answers.iter().filter(|(_, answer)| answer.has_usable_text());
            let derived_from = usable.map(|(id, _)| *id).collect();
            vec![AnswerRequest { purpose: AnswerPurpose::Verdict, derived_from, ..plan.chair.clone() }]
        };
        let answers = ids.into_iter().zip(requests).map(|(answer_id, request)| NewAnswer { answer_id, request });
        self.requested(answers.collect()).collect()
    }

    /// How each model is asked that answers the prompt; every model is a member once.
    fn members(&self) -> impl Iterator<Item = &AnswerRequest> {
        self.answers.values().map(|answer| &answer.request).filter(|request| request.purpose.is_reply())
    }

    /// The newest text of a member.
    fn newest_of(&self, member: &AnswerRequest) -> Option<(AnswerId, &Answer)> {
        let own = self.answers.iter().rev().filter(|(_, answer)| answer.request.model == member.model);
        own.map(|(id, answer)| (*id, answer)).find(|(_, answer)| answer.has_usable_text())
    }

    /// Each member that has said something comments on the newest texts of the others.
    fn comments(&self, round: u32, spoken: &[(AnswerId, &Answer)]) -> Vec<AnswerRequest> {
        let members = self.members().filter(|member| self.newest_of(member).is_some());
        members
            .map(|member| AnswerRequest {
                purpose: AnswerPurpose::Comment { round },
                derived_from: spoken
                    .iter()
                    .filter(|(_, answer)| answer.request.model != member.model)
                    .map(|(id, _)| *id)
                    .collect(),
                ..member.clone()
            })
            .collect()
    }
}

/// The round of a discussion that an answer belongs to; the answers to the prompt are round 0.
const fn round(purpose: AnswerPurpose) -> u32 {
    match purpose {
        AnswerPurpose::Comment { round } => round,
        _ => 0,
    }
}
