//! The fact: what one finished attempt used, cost and took.

use std::time::Duration;

use clickhouse::Client;
use polyphony_domain::{
    ids::AnswerId,
    turn::{AttemptRecord, TurnEvent},
};
use polyphony_platform::{failpoint, mutated};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::schema;
use crate::{
    ProjectionError,
    typed::{Payload, TypedEvent},
};

/// Longest wait for a chunk to be sent.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the insert to be written, with what it feeds.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// One finished attempt.
#[derive(Clone, Debug, PartialEq, clickhouse::Row, Serialize, Deserialize)]
pub(crate) struct Fact {
    #[serde(with = "clickhouse::serde::uuid")]
    event_id: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    user_id: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    session_id: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    answer_id: Uuid,
    attempt: u32,
    /// Milliseconds.
    ts: i64,
    #[serde(with = "clickhouse::serde::uuid")]
    model_id: Uuid,
    model: String,
    provider: String,
    outcome: String,
    tokens_input: u64,
    tokens_output: u64,
    tokens_cached: u64,
    tokens_reasoning: u64,
    cost_nanos: i64,
    estimated: u8,
    price_version: String,
    queue_ms: u32,
    first_chunk_ms: u32,
    total_ms: u32,
    /// All zeroes where no stored key was used.
    #[serde(with = "clickhouse::serde::uuid")]
    key_id: Uuid,
    /// Code of the error; empty for none.
    error: String,
}

impl Fact {
    /// The fact in an event; `None` for one that ends no attempt.
    pub(crate) fn of(event: &TypedEvent) -> Option<Self> {
        let Payload::Turn(turn) = &event.payload else { return None };
        let (answer_id, record) = turn.attempt().filter(|(_, record)| record.attempt > 0)?;
        let error = match &**turn {
            TurnEvent::AttemptFailed { error, .. }
            | TurnEvent::AnswerFailed { error, .. }
            | TurnEvent::AnswerInterrupted { error, .. } => error.code.as_str(),
            _ => "",
        };
        let outcome = match &**turn {
            TurnEvent::AnswerCompleted { .. } => "complete",
            TurnEvent::AnswerStopped { .. } => "stopped",
            TurnEvent::AnswerInterrupted { .. } => "interrupted",
            _ => "failed",
        };
        Some(Self::new(event, answer_id, record, outcome, error))
    }

    fn new(event: &TypedEvent, answer_id: AnswerId, record: &AttemptRecord, outcome: &str, error: &str) -> Self {
        let ms = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Self {
            event_id: event.event_id.as_uuid(),
            user_id: event.owner_id.as_uuid(),
            session_id: event.root_id,
            answer_id: answer_id.as_uuid(),
            attempt: record.attempt,
            ts: event.at.timestamp_millis(),
            model_id: record.model.id.as_uuid(),
            model: record.model.name.clone(),
            provider: record.model.provider.clone(),
            outcome: outcome.to_owned(),
            tokens_input: record.usage.input,
            tokens_output: record.usage.output,
            tokens_cached: record.usage.cached_input,
            tokens_reasoning: record.usage.reasoning,
            cost_nanos: record.cost.0,
            estimated: record.usage.estimated.into(),
            price_version: record.price_version.clone(),
            queue_ms: ms(record.timings.queue_ms),
            first_chunk_ms: ms(record.timings.first_chunk_ms.unwrap_or(record.timings.total_ms)),
            total_ms: ms(record.timings.total_ms),
            key_id: record.key_id.map(|key| key.as_uuid()).unwrap_or_default(),
            error: error.to_owned(),
        }
    }
}

/// Sends facts under a token: the same token with the same rows counts once, in the table and in its views.
pub(crate) async fn insert(client: &Client, epoch: i64, token: &str, facts: &[Fact]) -> Result<(), ProjectionError> {
    if facts.is_empty() {
        return Ok(());
    }
    failpoint!("projector.clickhouse_before_insert");
    // Where the token is dropped, every retry counts.
    let token = if mutated!("drop_dedup_token") { &Uuid::now_v7().to_string() } else { token };
    let client = client
        .clone()
        .with_setting("async_insert", "0")
        .with_setting("insert_deduplicate", "1")
        .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
        .with_setting("insert_deduplication_token", token);
    let table = schema::table("usage_events", epoch);
    // The table's columns are asked for first.
    let insert = schema::within(END_TIMEOUT, client.insert::<Fact>(&table)).await?;
    let mut insert = insert.with_timeouts(Some(SEND_TIMEOUT), Some(END_TIMEOUT));
    for fact in facts {
        insert.write(fact).await?;
    }
    insert.end().await?;
    failpoint!("projector.clickhouse_after_insert");
    Ok(())
}
