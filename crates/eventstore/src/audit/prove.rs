//! Proving that an event is in the log.

use polyphony_audit_verify::{
    event::LoggedEvent,
    proof::{FORMAT, Proof},
    tree,
};
use polyphony_domain::{ids::AnswerId, record::Cursor};
use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use super::{chain::place, rows::Batch};
use crate::{Store, StoreError};

/// Why there is no proof.
#[derive(Debug, Error)]
pub enum ProofError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such answer or event.
    #[error("there is no answer or event {0}")]
    Unknown(Uuid),
    /// The relay has not chained it yet.
    #[error("the event is not in the chain yet; the relay adds it within a second while it runs")]
    NotYet,
    /// The log holds something else than what was chained.
    #[error("the event is not what was chained: run `polyphony audit verify`")]
    Broken,
}

impl Store {
    /// A proof that an answer's end, or any event by its id, is in the log.
    ///
    /// # Errors
    /// See [`ProofError`].
    pub async fn prove(&self, id: Uuid) -> Result<Proof, ProofError> {
        let event = match self.answer(AnswerId::new(id)).await? {
            Some(place) => self.last_of_answer(place.turn_id.as_uuid(), id).await?,
            None => self.logged_event(id).await?,
        };
        let event = event.ok_or(ProofError::Unknown(id))?;
        let batch = self.batch_of(place(&event)).await?.ok_or(ProofError::NotYet)?;
        let index = index_in(&batch, place(&event)).ok_or(ProofError::Broken)?;
        let checkpoint = self.last_batch().await?.ok_or(ProofError::NotYet)?.checkpoint;
        let mut path = Vec::new();
        for step in tree::steps(index, checkpoint.size) {
            path.push(hex::encode(tree::step_hash(&self.subtrees(&step).await?)));
        }
        Ok(Proof { format: FORMAT.to_owned(), event, index, path, checkpoint })
    }

    /// The newest event of a turn about an answer: its end, once it has ended.
    async fn last_of_answer(&self, turn: Uuid, answer: Uuid) -> Result<Option<LoggedEvent>, StoreError> {
        let condition = "aggregate_type = 'turn' AND aggregate_id = $1 ORDER BY sequence DESC";
        let events = self.logged(condition, turn.to_string()).await?;
        let answer = answer.to_string();
        Ok(events.into_iter().find(|event| {
            let payload: Value = serde_json::from_str(&event.payload).unwrap_or_default();
            payload[&event.event_type]["answer_id"] == answer.as_str()
        }))
    }
}

fn index_in(batch: &Batch, place: Cursor) -> Option<u64> {
    let index = batch.entries.iter().position(|entry| entry.cursor == place)?;
    Some(batch.first + index as u64)
}
