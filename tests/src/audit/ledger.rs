//! The log as the auditor reads it: every answer with all that was ever written of it.

use std::collections::{BTreeMap, HashMap};

use polyphony_domain::{
    ids::{AnswerId, TurnId},
    record::Cursor,
    turn::{AttemptRecord, Turn, TurnEvent},
};
use polyphony_eventstore::{Store, load::decode};
use polyphony_testkit::emulator::markers;

/// One answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Marker of its prompt; empty for a prompt without one.
    pub marker: String,
    /// Its requests; one, if all is well.
    pub requests: u32,
    /// Numbers of its attempts, as they were started.
    pub attempts: Vec<u32>,
    /// What each attempt that ended has left.
    pub records: Vec<AttemptRecord>,
    /// Stored types of the events that ended it.
    pub ends: Vec<String>,
    /// Stored types of what came after the end.
    pub after_end: Vec<String>,
}

impl Answer {
    /// What it ended with.
    pub fn record(&self) -> Option<&AttemptRecord> {
        if self.ends.is_empty() { None } else { self.records.last() }
    }
}

/// The log.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Answers by id.
    pub answers: BTreeMap<String, Answer>,
    /// How many prompts carry a marker.
    pub prompts: HashMap<String, u32>,
    /// Events in all.
    pub events: usize,
}

impl Ledger {
    /// Reads the whole log in commit order.
    pub async fn read(store: &Store) -> Self {
        let (mut ledger, mut at) = (Self::default(), Cursor::default());
        let mut prompts: HashMap<TurnId, String> = HashMap::new();
        loop {
            let events = store.read_after(at, 1_000).await.unwrap();
            let Some(last) = events.last() else { return ledger };
            at = last.cursor;
            ledger.events += events.len();
            for event in store.open(events).await.unwrap() {
                if event.aggregate_type != "turn" {
                    continue;
                }
                let (turn, kind) = (TurnId::new(event.aggregate_id), event.event_type.clone());
                ledger.take(turn, kind, decode::<Turn>(event).unwrap(), &mut prompts);
            }
        }
    }

    fn take(&mut self, turn: TurnId, kind: String, event: TurnEvent, prompts: &mut HashMap<TurnId, String>) {
        match event {
            TurnEvent::PromptPosted(prompt) => {
                let marker = markers(prompt.content.as_str()).pop().map(|marker| marker.text).unwrap_or_default();
                *self.prompts.entry(marker.clone()).or_default() += 1;
                prompts.insert(turn, marker);
            }
            TurnEvent::AnswerRequested { answer_id, .. } => {
                let marker = prompts.get(&turn).cloned().unwrap_or_default();
                let answer = self.answer(answer_id);
                answer.marker = marker;
                answer.requests += 1;
            }
            TurnEvent::AttemptStarted { answer_id, attempt, .. } => {
                let answer = self.answer(answer_id);
                answer.attempts.push(attempt);
                answer.note(kind);
            }
            TurnEvent::StopRequested { answer_id } => self.answer(answer_id).note(kind),
            other => {
                let ended = other.end().is_some();
                let Some((answer_id, record)) = other.attempt() else { return };
                let answer = self.answer(answer_id);
                answer.note(kind.clone());
                answer.records.push(record.clone());
                if ended {
                    answer.ends.push(kind);
                }
            }
        }
    }

    fn answer(&mut self, id: AnswerId) -> &mut Answer {
        self.answers.entry(id.to_string()).or_default()
    }
}

impl Answer {
    fn note(&mut self, kind: String) {
        if !self.ends.is_empty() {
            self.after_end.push(kind);
        }
    }
}
