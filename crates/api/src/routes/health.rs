//! Alive, ready, metrics.

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Json, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use crate::state::AppState;

/// On the main listener.
pub fn router() -> Router<AppState> {
    Router::new().route("/healthz", get(|| async { "ok" })).route("/readyz", get(ready))
}

/// On the private listener.
pub fn private(handle: PrometheusHandle) -> Router {
    let render = move || {
        let handle = handle.clone();
        async move {
            handle.run_upkeep();
            handle.render()
        }
    };
    Router::new().route("/healthz", get(|| async { "ok" })).route("/metrics", get(render))
}

/// Ready when what every request needs is there. ClickHouse is not: without it only the dashboards wait.
async fn ready(State(state): State<AppState>) -> Response {
    let postgres = state.store.ping().await.is_ok();
    let nats = state.bus.is_ready();
    let status = if postgres && nats { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = |ok: bool| if ok { "ok" } else { "unreachable" };
    let body = json!({
        "success": status == StatusCode::OK,
        "data": {"postgres": word(postgres), "nats": word(nats)},
    });
    (status, Json(body)).into_response()
}
