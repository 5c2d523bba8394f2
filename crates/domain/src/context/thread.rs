//! The conversation along one branch of a session, whole.

use std::collections::HashMap;

use uuid::Uuid;

use super::{
    History, Mended, Range, Summary,
    messages::{of_answer, of_prompt},
    pairs, summary,
    words::Language,
};
use crate::{
    content::{Conversation, Message, Part, Role},
    ids::{AnswerId, TurnId},
    personal::Personal,
    turn::Prompt,
};

/// A message of the thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The message.
    pub message: Message,
    /// Turn that it belongs to; none for what a client brought.
    pub turn: Option<TurnId>,
    /// Whether it is shown whatever else has to go: it is pinned, an instruction, or what is to be answered.
    pub protected: bool,
}

/// A conversation before anything is left out.
#[derive(Clone, Debug, Default)]
pub struct Thread {
    /// What the model is told first.
    pub system: Option<Personal>,
    /// The messages, oldest first.
    pub entries: Vec<Entry>,
    /// Summaries that may stand for some of them.
    pub summaries: Vec<Summary>,
    /// What was changed so that calls of tools and their results pair.
    pub mended: Vec<Mended>,
    /// Answer of each turn along the branch.
    chosen: HashMap<TurnId, AnswerId>,
}

impl Thread {
    /// What is known before the next prompt: the branch up to and including an answer.
    pub fn before(history: &History<'_>, parent: Option<AnswerId>) -> Self {
        let mut thread = Self::along(history, parent);
        thread.finish(history, true);
        thread
    }

    /// What the answers of a turn are made from: the branch up to and including its prompt, or the conversation that the
    /// client gave with it instead.
    pub fn to(history: &History<'_>, id: TurnId) -> Self {
        let Some((turn, prompt)) = history.turn(id).and_then(|turn| Some((turn, turn.prompt.as_ref()?))) else {
            return Self::default();
        };
        let mut thread = match given(prompt) {
            Some(given) => Self::of_given(given),
            None => Self::along(history, turn.parent()),
        };
        if !prompt.purpose.is_conversation() {
            // What the person tells a model that talks isn't meant for one that works on the conversation.
            thread.system = None;
        }
        thread.push(of_prompt(history, id, prompt), id);
        thread.finish(history, false);
        thread
    }

    /// The turns that a summary is to stand for; none where they aren't a branch.
    pub fn of_range(history: &History<'_>, range: &Range) -> Option<Self> {
        let mut thread = Self::along(history, Some(range.parent));
        let first = thread.entries.iter().position(|entry| entry.turn == Some(range.first))?;
        let last = thread.entries.iter().rposition(|entry| entry.turn == Some(range.last))?;
        thread.entries = thread.entries.get(first..=last)?.to_vec();
        thread.finish(history, false);
        Some(thread)
    }

    fn along(history: &History<'_>, parent: Option<AnswerId>) -> Self {
        let system =
            history.session().system_prompt.clone().filter(|text| !text.is_erased() && !text.as_str().is_empty());
        let mut thread = Self { system, ..Self::default() };
        let pinned = &history.session().pinned;
        for (id, turn, answer) in parent.map(|parent| history.path_through(parent)).unwrap_or_default() {
            let prompt = turn.prompt.as_ref().and_then(|prompt| of_prompt(history, id, prompt));
            let record = turn.answers.get(&answer).and_then(|answer| answer.record.as_ref());
            let answers = record.map(|record| of_answer(answer, record)).unwrap_or_default();
            for message in prompt.into_iter().chain(answers) {
                let protected = message.message_id.is_some_and(|id| pinned.contains(&id));
                thread.entries.push(Entry { message, turn: Some(id), protected });
            }
            thread.chosen.insert(id, answer);
        }
        thread
    }

    fn of_given(given: Conversation) -> Self {
        let entry = |message: Message| Entry { protected: message.role == Role::System, message, turn: None };
        let entries =
            given.messages.into_iter().map(|message| entry(Message { message_id: None, ..message })).collect();
        Self { system: given.system.filter(|text| !text.is_erased()), entries, ..Self::default() }
    }

    /// Adds a message to what is to be answered.
    pub fn push(&mut self, message: Option<Message>, turn: TurnId) {
        self.entries.extend(message.map(|message| Entry { message, turn: Some(turn), protected: true }));
    }

    /// Adds to what is to be answered: the words stand at the end of the last prompt's own message.
    pub fn tell(&mut self, words: String) {
        if let Some(last) = self.entries.last_mut().filter(|last| last.message.role == Role::User) {
            last.message.parts.push(Part::text(words));
        }
    }

    fn finish(&mut self, history: &History<'_>, open_end: bool) {
        self.mended = pairs::mend(&mut self.entries, open_end);
        pairs::protect_pairs(&mut self.entries);
        self.summaries = summary::valid(history, self);
    }

    /// Answer of a turn of the branch.
    pub(super) fn chosen(&self, turn: TurnId) -> Option<AnswerId> {
        self.chosen.get(&turn).copied()
    }

    /// Number of the exchange that each entry belongs to.
    pub fn exchanges(&self) -> Vec<usize> {
        pairs::exchanges(&self.entries)
    }

    /// Language that marks and notices are written in.
    pub fn language(&self) -> Language {
        // The newest messages say what is spoken now.
        Language::of(self.entries.iter().rev().take(20).flat_map(|entry| entry.message.texts()))
    }

    /// Ids of the messages that have one.
    pub fn message_ids(&self) -> impl Iterator<Item = Uuid> {
        self.entries.iter().filter_map(|entry| entry.message.message_id)
    }

    /// Makes every message equal: none is protected. Summaries are made of such threads.
    pub fn unprotected(mut self) -> Self {
        self.entries.iter_mut().for_each(|entry| entry.protected = false);
        self
    }

    /// Bounds the texts of each message, so that one message can't fill a window alone.
    pub fn bounded(mut self, most_bytes: usize) -> Self {
        for part in self.entries.iter_mut().flat_map(|entry| &mut entry.message.parts) {
            match part {
                Part::Text { text } | Part::Refusal { text } => super::words::shorten(text, most_bytes),
                Part::ToolCall(call) => super::words::shorten(&mut call.arguments, most_bytes),
                Part::ToolResult(result) => super::words::shorten(&mut result.content, most_bytes),
                _ => {}
            }
        }
        self
    }
}

/// The conversation that a client gave with its prompt. It was checked when it came in; one that can't be read any more
/// was erased.
fn given(prompt: &Prompt) -> Option<Conversation> {
    let given = prompt.given.as_ref().filter(|given| !given.is_erased())?;
    serde_json::from_str(given.as_str()).ok()
}
