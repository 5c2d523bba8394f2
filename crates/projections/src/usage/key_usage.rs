//! What one stored key has been used for, from the facts.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clickhouse::{Client, error::Error};
use polyphony_domain::{
    ids::{AccountId, KeyId},
    money::NanoUsd,
};
use serde::Deserialize;
use sqlx::PgPool;

use super::{overview, schema};
use crate::ProjectionError;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a key has been used for.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyUsage {
    /// Finished attempts.
    pub requests: u64,
    /// Of those, failed or interrupted.
    pub errors: u64,
    /// Input tokens.
    pub tokens_input: u64,
    /// Output tokens.
    pub tokens_output: u64,
    /// Cost.
    pub cost: NanoUsd,
    /// When the last of them ended.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The code that the last one failed with; empty where it went well.
    pub last_error: String,
    /// Everything that ended before is in it.
    pub as_of: DateTime<Utc>,
}

#[derive(clickhouse::Row, Deserialize)]
struct Sums {
    requests: u64,
    errors: u64,
    tokens_input: u64,
    tokens_output: u64,
    cost_nanos: i64,
    /// Unix milliseconds.
    last: i64,
    last_error: String,
}

/// Reads the use of one key of one person. The user is the first term of the query.
pub(crate) async fn key_usage(
    pool: &PgPool,
    client: &Client,
    owner: AccountId,
    key: KeyId,
) -> Result<KeyUsage, ProjectionError> {
    let (mut epoch, mut as_of) = overview::place(pool).await?;
    let sums = match of_epoch(client, epoch, owner, key).await {
        // A rebuild has just switched over.
        Err(Error::BadResponse(reason)) if reason.contains(overview::UNKNOWN_TABLE) => {
            (epoch, as_of) = overview::place(pool).await?;
            of_epoch(client, epoch, owner, key).await?
        }
        result => result?,
    };
    Ok(KeyUsage {
        requests: sums.requests,
        errors: sums.errors,
        tokens_input: sums.tokens_input,
        tokens_output: sums.tokens_output,
        cost: NanoUsd(sums.cost_nanos),
        last_used_at: DateTime::from_timestamp_millis(sums.last).filter(|_| sums.requests > 0),
        last_error: sums.last_error,
        as_of,
    })
}

async fn of_epoch(client: &Client, epoch: i64, owner: AccountId, key: KeyId) -> Result<Sums, Error> {
    let sql = format!(
        "SELECT count() AS requests, countIf(f.outcome IN ('failed', 'interrupted')) AS errors, \
         sum(f.tokens_input) AS tokens_input, sum(f.tokens_output) AS tokens_output, sum(f.cost_nanos) AS cost_nanos, \
         toUnixTimestamp64Milli(max(f.ts)) AS last, toString(argMax(f.error, f.ts)) AS last_error \
         FROM {} AS f WHERE f.user_id = toUUID(?) AND f.key_id = toUUID(?)",
        schema::table("usage_events", epoch)
    );
    let query = client.query(&sql).bind(owner.to_string()).bind(key.to_string());
    schema::within(TIMEOUT, query.fetch_one::<Sums>()).await
}
