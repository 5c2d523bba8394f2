//! Usage as the dashboard shows it.

use axum::extract::State;
use polyphony_projections::{Overview, Period, usage::Totals};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::ApiError,
    extract::{Caller, Params},
    respond::{Envelope, Success},
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(overview))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct PeriodParams {
    /// `7d`, `30d` or `all`.
    period: Option<String>,
}

fn totals(totals: &Totals) -> Value {
    let pair = |(p50, p95): (f32, f32)| json!({"p50": p50.round(), "p95": p95.round()});
    json!({
        "requests": totals.requests, "tokens_input": totals.tokens_input, "tokens_output": totals.tokens_output,
        "cost_usd": totals.cost.to_string(), "sessions": totals.sessions, "errors": totals.errors,
        "latency_ms": pair(totals.latency_ms), "first_chunk_ms": pair(totals.first_chunk_ms),
    })
}

fn shape(name: &str, overview: &Overview) -> Value {
    let mut shape = totals(&overview.totals);
    shape["period"] = name.into();
    shape["series"] = overview
        .series
        .iter()
        .map(|day| {
            let mut shape = totals(&day.totals);
            shape["date"] = day.date.to_string().into();
            shape
        })
        .collect();
    shape["previous"] = overview.previous.as_ref().map_or(Value::Null, totals);
    shape["as_of"] = json!(overview.as_of);
    shape
}

/// Requests, tokens, cost, latency: sums, by day, and of the period before.
#[utoipa::path(get, path = "/stats/overview", tag = "stats", params(PeriodParams),
    responses((status = 200, body = Envelope<Value>)))]
async fn overview(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PeriodParams>,
) -> Result<Success<Value>, ApiError> {
    let name = params.period.as_deref().unwrap_or("7d");
    let period = match name {
        "7d" => Period::Week,
        "30d" => Period::Month,
        "all" => Period::All,
        _ => return Err(ApiError::invalid("period", "must be 7d, 30d or all")),
    };
    Ok(Success::ok(shape(name, &state.reads.overview(caller.account_id, period).await?)))
}
