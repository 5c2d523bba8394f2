//! Summaries: answers of hidden turns that may stand for a range of a branch.
//!
//! A summary belongs to the turns from the first to the last of its range and to the answer that the last one was left
//! with. It stands for them on every branch that runs through exactly these; an edited or regenerated message makes
//! another branch, where it stands for nothing. The messages themselves are never touched.

use std::collections::HashMap;

use uuid::Uuid;

use super::{History, Thread, words::Language};
use crate::{
    content::{Conversation, Message, Part, Role},
    ids::{AnswerId, TurnId},
    personal::Personal,
    turn::{Answer, AnswerStatus, Prompt, Turn, TurnPurpose},
};

/// Most tokens of a summary.
pub const MOST_OUTPUT: u32 = 4_096;

/// The turns that a summary is to stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// First turn.
    pub first: TurnId,
    /// Last turn.
    pub last: TurnId,
    /// The answer that the last turn was left with.
    pub parent: AnswerId,
}

impl Range {
    /// The range of a turn that summarises, and whether a person asked for it; none for any other turn.
    pub fn of(prompt: &Prompt) -> Option<(Self, bool)> {
        let TurnPurpose::Summary { first, last, by_request } = prompt.purpose else { return None };
        Some((Self { first, last, parent: prompt.parent? }, by_request))
    }
}

/// A summary that may be used in a thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The answer that it is.
    pub answer_id: AnswerId,
    /// The text.
    pub text: Personal,
    /// Whether a person asked for it.
    pub by_request: bool,
    /// First entry that it stands for.
    pub first: usize,
    /// Entry after the last one.
    pub end: usize,
}

fn newest<'a>(turn: &'a Turn, history: &History<'_>) -> Option<(AnswerId, &'a Answer)> {
    let dismissed = &history.session().dismissed;
    let usable = |(id, answer): &(&AnswerId, &Answer)| {
        let is_erased = answer.record.as_ref().is_some_and(|record| record.text.is_erased());
        answer.status == AnswerStatus::Complete && answer.has_usable_text() && !is_erased && !dismissed.contains(id)
    };
    turn.answers.iter().rev().find(usable).map(|(id, answer)| (*id, answer))
}

/// The summaries that hold for a thread, oldest first.
pub(super) fn valid(history: &History<'_>, thread: &Thread) -> Vec<Summary> {
    let mut places: HashMap<TurnId, (usize, usize)> = HashMap::new();
    for (index, turn) in thread.entries.iter().enumerate().filter_map(|(index, entry)| Some((index, entry.turn?))) {
        places.entry(turn).or_insert((index, index)).1 = index;
    }
    let exchanges = thread.exchanges();
    // Where an exchange begins or all ends: a summary that cut one in two would part calls from their results.
    let is_border = |at: usize| at == 0 || at == exchanges.len() || exchanges[at] != exchanges[at - 1];
    let summary = |turn: &Turn| {
        let (range, by_request) = Range::of(turn.prompt.as_ref()?)?;
        let (first, end) = (places.get(&range.first)?.0, places.get(&range.last)?.1 + 1);
        let holds =
            thread.chosen(range.last) == Some(range.parent) && first < end && is_border(first) && is_border(end);
        let (answer_id, answer) = newest(turn, history).filter(|_| holds)?;
        let text = answer.record.as_ref()?.text.clone();
        Some(Summary { answer_id, text, by_request, first, end })
    };
    history.turns().filter_map(|(_, turn)| summary(turn)).collect()
}

impl Thread {
    /// What a summary should stand for so that the rest has at most `keep` tokens: the oldest exchanges, but never the
    /// newest one. None where that would be less than a whole turn.
    pub fn range_to_summarise(&self, tokens: &[u64], keep: u64) -> Option<Range> {
        let exchanges = self.exchanges();
        let (mut rest, mut cut) = (0_u64, exchanges.len());
        for index in (0..exchanges.len()).rev() {
            rest = rest.saturating_add(tokens.get(index).copied().unwrap_or(0));
            let is_newest = exchanges.get(index) == exchanges.last();
            if rest > keep && !is_newest {
                break;
            }
            if index == 0 || exchanges[index] != exchanges[index - 1] {
                cut = index;
            }
        }
        self.range(cut)
    }

    /// The range from the beginning to the turn of a message. None where the message isn't here, or where what follows
    /// answers its calls of tools.
    pub fn range_up_to(&self, message: Uuid) -> Option<Range> {
        let turn = self.entries.iter().find(|entry| entry.message.message_id == Some(message))?.turn?;
        let end = self.entries.iter().rposition(|entry| entry.turn == Some(turn))? + 1;
        let exchanges = self.exchanges();
        let is_border = end == exchanges.len() || exchanges[end] != exchanges[end - 1];
        is_border.then(|| self.range(end)).flatten()
    }

    fn range(&self, end: usize) -> Option<Range> {
        let covered = self.entries.get(..end).filter(|covered| covered.len() > 1)?;
        let (first, last) = (covered.first()?.turn?, covered.last()?.turn?);
        Some(Range { first, last, parent: self.chosen(last)? })
    }
}

/// The conversation that has a model summarise another one.
pub fn transcript(of: &Conversation, language: Language) -> Conversation {
    let mut text = String::new();
    for message in &of.messages {
        let who = match message.role {
            Role::User => "Person",
            Role::Assistant => "Model",
            Role::System => "Instruction",
        };
        text.push_str(&format!("## {who}\n"));
        for part in &message.parts {
            let said = match part {
                Part::Text { text } | Part::Refusal { text } => text.as_str().to_owned(),
                Part::Image { .. } => "[a picture]".to_owned(),
                Part::File { name, .. } => format!("[the document {}]", name.as_str()),
                Part::ToolCall(call) => format!("[called {} with {}]", call.name, call.arguments.as_str()),
                Part::ToolResult(result) => format!("[{} answered: {}]", result.name, result.content.as_str()),
                Part::Citation(citation) => format!("[source: {}]", citation.url.as_str()),
                Part::Reasoning { .. } => continue,
            };
            // What is said can't end the transcript.
            text.push_str(&said.replace("</transcript", "<\\/transcript"));
            text.push('\n');
        }
        text.push('\n');
    }
    Conversation {
        system: Some(language.brief().into()),
        messages: vec![Message::text(Role::User, language.request(&text))],
    }
}
