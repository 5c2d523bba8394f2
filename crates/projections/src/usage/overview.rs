//! The overview of a person's usage, from the daily rollup.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, Utc};
use clickhouse::{Client, error::Error};
use polyphony_domain::{ids::AccountId, money::NanoUsd};
use serde::Deserialize;
use sqlx::{PgPool, Row};

use super::{batch::NAME, schema};
use crate::ProjectionError;

/// How far back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Seven days, today included.
    Week,
    /// Thirty days, today included.
    Month,
    /// From the beginning.
    All,
}

impl Period {
    const fn days(self) -> Option<u64> {
        match self {
            Self::Week => Some(7),
            Self::Month => Some(30),
            Self::All => None,
        }
    }
}

/// Sums over some days.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
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
    /// Sessions with at least one attempt.
    pub sessions: u64,
    /// Median and 95th percentile of the whole answer, milliseconds.
    pub latency_ms: (f32, f32),
    /// Median and 95th percentile to the first chunk, milliseconds.
    pub first_chunk_ms: (f32, f32),
}

/// One day.
#[derive(Clone, Debug, PartialEq)]
pub struct Day {
    /// The day, UTC.
    pub date: NaiveDate,
    /// Its sums.
    pub totals: Totals,
}

/// The whole picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Overview {
    /// The period.
    pub totals: Totals,
    /// The period before it; none for all time.
    pub previous: Option<Totals>,
    /// Day by day, days without use left out.
    pub series: Vec<Day>,
    /// Everything that ended before is in it.
    pub as_of: DateTime<Utc>,
}

#[derive(clickhouse::Row, Deserialize)]
struct Sums {
    /// Days since 1970.
    day: u16,
    requests: u64,
    errors: u64,
    tokens_input: u64,
    tokens_output: u64,
    cost_nanos: i64,
    sessions: u64,
    latency: Vec<f32>,
    first_chunk: Vec<f32>,
}

impl From<Sums> for Totals {
    fn from(sums: Sums) -> Self {
        let pair = |values: &[f32]| {
            let at = |index: usize| values.get(index).copied().filter(|value| value.is_finite()).unwrap_or(0.0);
            (at(0), at(1))
        };
        Self {
            requests: sums.requests,
            errors: sums.errors,
            tokens_input: sums.tokens_input,
            tokens_output: sums.tokens_output,
            cost: NanoUsd(sums.cost_nanos),
            sessions: sums.sessions,
            latency_ms: pair(&sums.latency),
            first_chunk_ms: pair(&sums.first_chunk),
        }
    }
}

const SUMS: &str = "sum(requests) AS requests, sum(errors) AS errors, sum(tokens_input) AS tokens_input, \
     sum(tokens_output) AS tokens_output, sum(cost_nanos) AS cost_nanos, uniqExactMerge(sessions) AS sessions, \
     quantilesTDigestMerge(0.5, 0.95)(latency) AS latency, quantilesTDigestMerge(0.5, 0.95)(first_chunk) AS first_chunk";
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What ClickHouse calls a table that isn't there.
pub(super) const UNKNOWN_TABLE: &str = "Code: 60.";

/// The live tables, and up to when what is in them is complete.
pub(super) async fn place(pool: &PgPool) -> Result<(i64, DateTime<Utc>), ProjectionError> {
    let row = sqlx::query(
        "SELECT c.epoch, least(now(), missing.recorded_at) FROM read.checkpoints AS c LEFT JOIN LATERAL \
         (SELECT e.recorded_at FROM events AS e WHERE (e.xid, e.position) > (c.xid, c.position) \
          ORDER BY e.xid, e.position LIMIT 1) AS missing ON true \
         WHERE c.name = $1",
    )
    .bind(NAME)
    .fetch_optional(pool)
    .await?;
    let row = row.ok_or_else(|| ProjectionError::Unknown(NAME.to_owned()))?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Reads the overview of one person. The user is the first term of every query.
pub(crate) async fn overview(
    pool: &PgPool,
    client: &Client,
    owner: AccountId,
    period: Period,
) -> Result<Overview, ProjectionError> {
    let (epoch, as_of) = place(pool).await?;
    match of_epoch(client, epoch, owner, period, as_of).await {
        // A rebuild has just switched over.
        Err(Error::BadResponse(reason)) if reason.contains(UNKNOWN_TABLE) => {
            let (epoch, as_of) = place(pool).await?;
            Ok(of_epoch(client, epoch, owner, period, as_of).await?)
        }
        result => Ok(result?),
    }
}

async fn of_epoch(
    client: &Client,
    epoch: i64,
    owner: AccountId,
    period: Period,
    as_of: DateTime<Utc>,
) -> Result<Overview, Error> {
    let from = format!(
        "FROM {} AS d WHERE d.user_id = toUUID(?) AND d.day >= toDate(?) AND d.day <= toDate(?)",
        schema::table("usage_daily", epoch)
    );
    let query = |sql: &str, first: NaiveDate, last: NaiveDate| {
        client.query(sql).bind(owner.to_string()).bind(first.to_string()).bind(last.to_string())
    };
    let today = Utc::now().date_naive();
    let back = |days: u64| today.checked_sub_days(Days::new(days)).unwrap_or(NaiveDate::MIN);
    // ClickHouse's `Date` begins here.
    let beginning = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap_or(today);
    let first = period.days().map_or(beginning, |days| back(days - 1));
    let total = format!("SELECT toDate(0) AS day, {SUMS} {from}");
    let by_day = format!("SELECT d.day AS day, {SUMS} {from} GROUP BY day ORDER BY day");
    let sums = async |first: NaiveDate, last: NaiveDate| {
        query(&total, first, last).fetch_one::<Sums>().await.map(Totals::from)
    };
    let before = async {
        match period.days() {
            None => Ok(None),
            Some(days) => sums(back(2 * days - 1), back(days)).await.map(Some),
        }
    };
    let series = query(&by_day, first, today).fetch_all::<Sums>();
    let all = async { tokio::try_join!(sums(first, today), before, series) };
    let (totals, previous, series) = schema::within(TIMEOUT, all).await?;
    let series = series.into_iter().map(|sums| {
        let date = beginning.checked_add_days(Days::new(sums.day.into()));
        Day { date: date.unwrap_or(today), totals: sums.into() }
    });
    Ok(Overview { totals, previous, series: series.collect(), as_of })
}
