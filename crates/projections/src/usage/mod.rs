//! Usage: facts in ClickHouse, exactly once, and the dashboards' numbers from its rollups.

mod overview;

use polyphony_domain::{
    ids::AnswerId,
    record::{Cursor, StoredEvent},
    turn::{AttemptRecord, TurnEvent},
};
use polyphony_platform::config::ClickhouseConfig;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use uuid::Uuid;

pub(crate) use self::overview::overview;
pub use self::overview::{Day, Overview, Period, Totals};
use crate::{
    ProjectionError,
    checkpoint::{self, Checkpoint},
    runner::{Deps, Projection},
    typed::{self, Payload, TypedEvent},
};

/// Name of the checkpoint.
pub(crate) const NAME: &str = "usage_v1";
const SCHEMA: &str = include_str!("../../../../migrations/clickhouse/0001_usage.sql");
/// Tables that hold what is projected.
pub(crate) const TABLES: [&str; 3] = ["usage_events", "usage_hourly", "usage_daily"];

/// A client of the configured database.
pub fn client(config: &ClickhouseConfig) -> clickhouse::Client {
    let mut url = config.url.clone();
    let (user, password) = (url.username().to_owned(), url.password().map(str::to_owned));
    // Both can only fail for URLs without a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let client =
        clickhouse::Client::default().with_url(url.as_str().trim_end_matches('/')).with_database(&config.database);
    let client = if user.is_empty() { client } else { client.with_user(user) };
    match password {
        Some(password) => client.with_password(password),
        None => client,
    }
}

/// Creates the database and its tables where they're missing.
///
/// # Errors
/// [`ProjectionError::Clickhouse`].
pub async fn ensure_schema(client: &clickhouse::Client, database: &str) -> Result<(), ProjectionError> {
    let create = format!("CREATE DATABASE IF NOT EXISTS `{}`", database.replace('`', ""));
    client.clone().with_database("default").query(&create).execute().await?;
    let statements = SCHEMA.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
    for statement in statements.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        client.query(statement).execute().await?;
    }
    Ok(())
}

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
}

impl Fact {
    /// The fact in an event; `None` for one that ends no attempt.
    pub(crate) fn of(event: &TypedEvent) -> Option<Self> {
        let Payload::Turn(turn) = &event.payload else { return None };
        let (answer_id, record) = turn.end().filter(|(_, record)| record.attempt > 0)?;
        let outcome = match &**turn {
            TurnEvent::AnswerCompleted { .. } => "complete",
            TurnEvent::AnswerStopped { .. } => "stopped",
            TurnEvent::AnswerInterrupted { .. } => "interrupted",
            _ => "failed",
        };
        Some(Self::new(event, answer_id, record, outcome))
    }

    fn new(event: &TypedEvent, answer_id: AnswerId, record: &AttemptRecord, outcome: &str) -> Self {
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
        }
    }
}

/// The projection.
pub(crate) struct UsageFacts;

/// Stores where a batch that begins at the checkpoint ends, or says where it was said to end before.
async fn boundary(deps: &Deps, from: Checkpoint, to: Cursor) -> Result<Cursor, ProjectionError> {
    let row = sqlx::query(
        "WITH made AS (INSERT INTO read.usage_batches (epoch, from_xid, from_position, to_xid, to_position) \
                       VALUES ($1, $2::xid8, $3, $4::xid8, $5) ON CONFLICT DO NOTHING RETURNING to_xid, to_position) \
         SELECT to_xid::text, to_position FROM made UNION ALL \
         SELECT to_xid::text, to_position FROM read.usage_batches \
         WHERE epoch = $1 AND from_xid = $2::xid8 AND from_position = $3 LIMIT 1",
    )
    .bind(from.epoch)
    .bind(from.cursor.xid.to_string())
    .bind(from.cursor.position)
    .bind(to.xid.to_string())
    .bind(to.position)
    .fetch_optional(deps.store.pool())
    .await?;
    // Nothing comes back when another projector stored it in this very moment.
    let row = row.ok_or(ProjectionError::Fenced)?;
    let xid: String = row.try_get(0)?;
    Ok(Cursor { xid: xid.parse().map_err(|_| sqlx::Error::Decode("xid".into()))?, position: row.try_get(1)? })
}

/// Sends facts under a token: the same token with the same rows counts once, in the table and in its views.
pub(crate) async fn insert(client: &clickhouse::Client, token: &str, facts: &[Fact]) -> Result<(), ProjectionError> {
    if facts.is_empty() {
        return Ok(());
    }
    let client = client
        .clone()
        .with_setting("async_insert", "0")
        .with_setting("insert_deduplicate", "1")
        .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
        .with_setting("insert_deduplication_token", token);
    let mut insert = client.insert::<Fact>("usage_events").await?;
    for fact in facts {
        insert.write(fact).await?;
    }
    insert.end().await?;
    Ok(())
}

/// The token of a batch.
pub(crate) fn token(from: Checkpoint, to: Cursor) -> String {
    format!("{}:{}.{}:{}.{}", from.epoch, from.cursor.xid, from.cursor.position, to.xid, to.position)
}

impl Projection for UsageFacts {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn apply(
        &self,
        deps: &Deps,
        from: Checkpoint,
        mut events: Vec<StoredEvent>,
    ) -> Result<Cursor, ProjectionError> {
        let Some(last) = events.last().map(|event| event.cursor) else { return Ok(from.cursor) };
        let to = boundary(deps, from, last).await?;
        if to != last {
            // An earlier try ended elsewhere: exactly its rows must go again.
            events = deps.store.read_after(from.cursor, deps.config.batch.saturating_mul(4)).await?;
            events.retain(|event| event.cursor <= to);
            if events.last().map(|event| event.cursor) != Some(to) {
                return Err(ProjectionError::Fenced);
            }
        }
        let (events, poison) = typed::read(&deps.store, events).await?;
        let facts: Vec<Fact> = events.iter().filter_map(Fact::of).collect();
        insert(&deps.clickhouse, &token(from, to), &facts).await?;
        let mut transaction = deps.store.pool().begin().await?;
        checkpoint::advance(&mut transaction, NAME, from, to).await?;
        checkpoint::park(&mut transaction, NAME, &poison).await?;
        sqlx::query("DELETE FROM read.usage_batches WHERE epoch = $1 AND from_xid = $2::xid8 AND from_position = $3")
            .bind(from.epoch)
            .bind(from.cursor.xid.to_string())
            .bind(from.cursor.position)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(to)
    }
}
