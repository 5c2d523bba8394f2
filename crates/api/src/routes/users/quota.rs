//! What the caller may use, and how much of it is in use.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::ApiError,
    extract::Caller,
    respond::{Envelope, Success},
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(quota))
}

/// A number that has a bound.
#[derive(Serialize, ToSchema)]
struct Bounded {
    /// The most; null where nobody counts.
    limit: Option<u32>,
    /// How many there are now.
    used: u32,
}

/// So many requests at once, and the same number again in this time. How many are left of it, the `RateLimit` header of
/// each limited answer says: it is counted on each node.
#[derive(Serialize, ToSchema)]
struct Rate {
    /// As in the `RateLimit` header.
    policy: &'static str,
    limit: u32,
    window_seconds: u64,
}

#[derive(Serialize, ToSchema)]
struct Quota {
    /// Answers in the making.
    in_flight: Bounded,
    /// Answers that wait for a place among those; further ones are refused with `RATE_LIMITED`.
    waiting: Bounded,
    /// Limits of requests: signing in by network and by account, and trying keys at their providers.
    rates: Vec<Rate>,
}

/// What the caller may use, and how much of it is in use.
#[utoipa::path(get, path = "/users/me/quota", tag = "users", responses((status = 200, body = Envelope<Quota>)))]
async fn quota(State(state): State<AppState>, caller: Caller) -> Result<Success<Quota>, ApiError> {
    let seats = state.store.seats_of(caller.account_id).await?;
    let limits = &state.limits;
    let policies = [limits.door.policy(), limits.account.policy(), limits.key_checks.policy()];
    let rate = |(policy, limit, window_seconds)| Rate { policy, limit, window_seconds };
    Ok(Success::ok(Quota {
        in_flight: Bounded { limit: seats.allowance, used: seats.in_flight },
        waiting: Bounded { limit: seats.allowance.map(|_| seats.most_waiting), used: seats.waiting },
        rates: policies.into_iter().flatten().map(rate).collect(),
    }))
}
