//! What the facts are compared by, and whether the rollups are their sums.

use std::{collections::HashSet, time::Duration};

use clickhouse::Client;
use futures::{Stream, stream};
use serde::Deserialize;
use uuid::Uuid;

use super::schema;
use crate::ProjectionError;

/// Longest wait for a comparison of the rollups.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How often a difference must be seen before it counts: an insert reaches the facts before their rollups.
const LOOKS: u32 = 3;
/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// What is summed up in the rollups.
const SUMS: [&str; 5] = ["requests", "errors", "tokens_input", "tokens_output", "cost_nanos"];

#[derive(clickhouse::Row, Deserialize)]
struct Hashed {
    #[serde(with = "clickhouse::serde::uuid")]
    event_id: Uuid,
    hash: u64,
}

#[derive(clickhouse::Row, Deserialize)]
struct Key {
    key: String,
}

/// Ids and hashes of the facts of an epoch, in the order of the ids.
pub(crate) fn hashes(
    client: &Client,
    epoch: i64,
) -> Result<impl Stream<Item = Result<(Uuid, String), ProjectionError>> + use<>, ProjectionError> {
    // As a text, which sorts as the bytes do; a UUID of ClickHouse sorts by its second half first.
    let sql = format!(
        "SELECT event_id, cityHash64(*) AS hash FROM {} ORDER BY toString(event_id)",
        schema::table("usage_events", epoch)
    );
    let cursor = client.query(&sql).fetch::<Hashed>()?;
    Ok(stream::try_unfold(cursor, async |mut cursor| {
        let next = cursor.next().await?;
        Ok(next.map(|fact| ((fact.event_id, fact.hash.to_string()), cursor)))
    }))
}

/// The rollups of an epoch that are not the sums of its facts, by person and time. Medians and numbers of sessions
/// are states of their own and are not compared.
pub(crate) async fn differing_rollups(client: &Client, epoch: i64) -> Result<Vec<String>, ProjectionError> {
    let mut suspects: Option<HashSet<String>> = None;
    for look in 0..LOOKS {
        let mut now = HashSet::new();
        for (table, time, of) in [("usage_hourly", "hour", "toStartOfHour(ts)"), ("usage_daily", "day", "toDate(ts)")] {
            let sql = differences(schema::table(table, epoch), time, of, schema::table("usage_events", epoch));
            let keys = schema::within(TIMEOUT, client.query(&sql).fetch_all::<Key>()).await?;
            now.extend(keys.into_iter().map(|key| format!("{table} {}", key.key)));
        }
        let suspected = match suspects {
            None => now,
            Some(before) => before.intersection(&now).cloned().collect(),
        };
        if suspected.is_empty() {
            return Ok(vec![]);
        }
        suspects = Some(suspected);
        if look + 1 < LOOKS {
            tokio::time::sleep(PAUSE).await;
        }
    }
    let mut suspects: Vec<String> = suspects.into_iter().flatten().collect();
    suspects.sort_unstable();
    Ok(suspects)
}

/// Rollup minus facts must be nothing, for every person, time and model. Old hours are left out: they expire.
fn differences(rollup: String, time: &str, of: &str, facts: String) -> String {
    let keys = format!("user_id, {time}, model_id, model, provider");
    let sums = SUMS.map(|name| format!("sum(toInt64({name})) AS {name}")).join(", ");
    let minus = "-1 AS requests, -toInt64(outcome IN ('failed', 'interrupted')) AS errors, \
         -toInt64(tokens_input) AS tokens_input, -toInt64(tokens_output) AS tokens_output, -cost_nanos AS cost_nanos";
    let plus = SUMS.map(|name| format!("toInt64({name}) AS {name}")).join(", ");
    let differ = SUMS.map(|name| format!("{name} != 0")).join(" OR ");
    format!(
        "SELECT concat(toString(user_id), ' ', toString({time})) AS key FROM (\
            SELECT {keys}, {sums} FROM (\
                SELECT {keys}, {plus} FROM {rollup} UNION ALL \
                SELECT user_id, {of} AS {time}, model_id, model, provider, {minus} FROM {facts}) \
            WHERE {time} > now() - INTERVAL 360 DAY GROUP BY {keys}) \
         WHERE {differ} ORDER BY key LIMIT 100"
    )
}
