//! The overview of a person's usage, from the daily rollup.

use chrono::{DateTime, Days, NaiveDate, Utc};
use clickhouse::Row;
use polyphony_domain::{ids::AccountId, money::NanoUsd};
use serde::Deserialize;

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
    /// When it was computed.
    pub as_of: DateTime<Utc>,
}

#[derive(Row, Deserialize)]
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
     quantilesTDigestMerge(0.5, 0.95)(latency) AS latency, quantilesTDigestMerge(0.5, 0.95)(first_chunk) AS first_chunk \
     FROM usage_daily WHERE usage_daily.user_id = toUUID(?) \
     AND usage_daily.day >= toDate(?) AND usage_daily.day <= toDate(?)";

/// Reads the overview of one person. The user is the first term of every query.
pub(crate) async fn overview(
    client: &clickhouse::Client,
    owner: AccountId,
    period: Period,
) -> Result<Overview, ProjectionError> {
    let as_of = Utc::now();
    let today = as_of.date_naive();
    let back = |days: u64| today.checked_sub_days(Days::new(days)).unwrap_or(NaiveDate::MIN);
    // ClickHouse's `Date` begins here.
    let beginning = NaiveDate::from_ymd_opt(1970, 1, 2).unwrap_or(today);
    let first = period.days().map_or(beginning, |days| back(days - 1));
    let sums = async |from: NaiveDate, to: NaiveDate| {
        let sql = format!("SELECT toDate(0) AS day, {SUMS}");
        let query = client.query(&sql).bind(owner.to_string()).bind(from.to_string()).bind(to.to_string());
        query.fetch_one::<Sums>().await.map(Totals::from)
    };
    let previous = match period.days() {
        None => None,
        Some(days) => Some(sums(back(2 * days - 1), back(days)).await?),
    };
    let sql = format!("SELECT day, {SUMS} GROUP BY day ORDER BY day");
    let query = client.query(&sql).bind(owner.to_string()).bind(first.to_string()).bind(today.to_string());
    let series = query.fetch_all::<Sums>().await?;
    let series = series
        .into_iter()
        .map(|sums| {
            let date = NaiveDate::from_ymd_opt(1970, 1, 1)
                .and_then(|epoch| epoch.checked_add_days(Days::new(sums.day.into())));
            Day { date: date.unwrap_or(today), totals: sums.into() }
        })
        .collect();
    Ok(Overview { totals: sums(first, today).await?, previous, series, as_of })
}
