//! A session's turns, and the ways through them.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use crate::{
    ids::{AnswerId, TurnId},
    personal::Personal,
    session::Session,
    turn::{Answer, Turn},
};

/// A session and its turns.
#[derive(Clone, Debug)]
pub struct History<'a> {
    session: &'a Session,
    turns: BTreeMap<TurnId, &'a Turn>,
    owners: HashMap<AnswerId, TurnId>,
}

impl<'a> History<'a> {
    /// The history of a session.
    pub fn new(session: &'a Session, turns: impl IntoIterator<Item = (TurnId, &'a Turn)>) -> Self {
        let turns: BTreeMap<TurnId, &Turn> = turns.into_iter().collect();
        let owners = turns.iter().flat_map(|(id, turn)| turn.answers.keys().map(|answer| (*answer, *id))).collect();
        Self { session, turns, owners }
    }

    /// The session.
    pub const fn session(&self) -> &'a Session {
        self.session
    }

    /// A turn.
    pub fn turn(&self, id: TurnId) -> Option<&'a Turn> {
        self.turns.get(&id).copied()
    }

    /// All turns, hidden ones too.
    pub fn turns(&self) -> impl Iterator<Item = (TurnId, &'a Turn)> {
        self.turns.iter().map(|(id, turn)| (*id, *turn))
    }

    /// The turn that an answer belongs to.
    pub fn turn_of(&self, answer: AnswerId) -> Option<TurnId> {
        self.owners.get(&answer).copied()
    }

    /// The turns from the root to `turn`, in order. A parent that isn't there ends the path.
    pub fn path_to(&self, turn: TurnId) -> Vec<(TurnId, &'a Turn)> {
        let (mut path, mut seen, mut next) = (Vec::new(), HashSet::new(), Some(turn));
        while let Some(id) = next.filter(|id| seen.insert(*id)) {
            let Some(turn) = self.turn(id) else { break };
            path.push((id, turn));
            next = turn.parent().and_then(|answer| self.turn_of(answer));
        }
        path.reverse();
        path
    }

    /// The turns that lead to an answer, each with the answer that the next one replies to. Hidden turns are no part of
    /// a conversation, even where somebody replied to one.
    pub(super) fn path_through(&self, answer: AnswerId) -> Vec<(TurnId, &'a Turn, AnswerId)> {
        let Some(last) = self.turn_of(answer) else { return vec![] };
        let path = self.path_to(last);
        let following = path.iter().skip(1).map(|(_, next)| next.parent()).chain([Some(answer)]);
        let chosen: Vec<_> =
            path.iter().zip(following).filter_map(|((id, turn), answer)| Some((*id, *turn, answer?))).collect();
        let is_shown = |turn: &Turn| turn.prompt.as_ref().is_some_and(|prompt| prompt.purpose.is_conversation());
        chosen.into_iter().filter(|(_, turn, _)| is_shown(turn)).collect()
    }

    /// An answer.
    pub fn answer(&self, answer: AnswerId) -> Option<&'a Answer> {
        self.turn(self.turn_of(answer)?)?.answers.get(&answer)
    }

    /// What a message says: a prompt by its turn's id, or an answer. A deleted one says nothing any more.
    pub(super) fn text_of(&self, message: Uuid) -> Option<&'a Personal> {
        if self.session.deleted.contains(&message) {
            return None;
        }
        if let Some(turn) = self.turn(TurnId::new(message)) {
            return turn.prompt.as_ref().map(|prompt| &prompt.content);
        }
        self.answer(AnswerId::new(message))?.record.as_ref().map(|record| &record.text)
    }
}
