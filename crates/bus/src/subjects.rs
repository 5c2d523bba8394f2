//! Subjects, wide to narrow. Ids of aggregates are headers, not tokens: a server keeps state for every subject it sees.

use polyphony_domain::{
    ids::{AccountId, AnswerId},
    record::StoredEvent,
};

/// All events.
pub const EVENTS: &str = "evt.>";
/// All jobs.
pub const JOBS: &str = "job.>";
/// All chunks.
pub const CHUNKS: &str = "chunk.>";
/// All stop messages.
pub const STOPS: &str = "ctl.*.stop";
/// Something was appended.
pub const POKE_RELAY: &str = "poke.relay";
/// An answer that waited may begin.
pub const POKE_SWEEPER: &str = "poke.sweeper";
/// A device session has ended.
pub const REVOKED: &str = "poke.revoked";

/// Data keys were destroyed.
pub const ERASED: &str = "poke.erased";

/// Partitions of the event stream; order within an aggregate holds in its partition.
const PARTITIONS: u128 = 64;

/// `evt.<partition>.<aggregate>.<event>`.
pub fn event(event: &StoredEvent) -> String {
    let partition = event.aggregate_id.as_u128() % PARTITIONS;
    format!("evt.{partition:02}.{}.{}", event.aggregate_type, event.event_type)
}

/// `job.<class>`.
pub fn job(class: &str) -> String {
    format!("job.{class}")
}

/// `chunk.<owner>.<answer>`.
pub fn chunk(owner: AccountId, answer: AnswerId) -> String {
    format!("chunk.{owner}.{answer}")
}

/// `chunk.<owner>.*`.
pub fn chunks_of(owner: AccountId) -> String {
    format!("chunk.{owner}.*")
}

/// `chunkstate.<answer>`.
pub fn chunk_state(answer: AnswerId) -> String {
    format!("chunkstate.{answer}")
}

/// `ctl.<answer>.stop`.
pub fn stop(answer: AnswerId) -> String {
    format!("ctl.{answer}.stop")
}

/// `poke.projection.<name>`; `*` for all.
pub fn projection(name: &str) -> String {
    format!("poke.projection.{name}")
}

/// The token at `index`, read as an id.
pub(crate) fn id<T: std::str::FromStr>(subject: &str, index: usize) -> Option<T> {
    subject.split('.').nth(index)?.parse().ok()
}
