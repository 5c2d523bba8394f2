//! Alive, ready, metrics.

use std::{future::Future, io, time::Duration};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Json, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpStream;
use url::Url;

use crate::state::AppState;

/// How long a dependency may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

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

/// Ready when what every request needs is there. ClickHouse is not: without it only the dashboards wait, so it is
/// told but doesn't count.
async fn ready(State(state): State<AppState>) -> Response {
    let (postgres, clickhouse) =
        tokio::join!(answers(state.store.ping()), answers(reach(&state.config.clickhouse.url)));
    let nats = state.bus.is_ready();
    // Until then no access token is accepted.
    let knows_revocations = state.revocations.is_known();
    let status = if postgres && nats && knows_revocations { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = |ok: bool| if ok { "ok" } else { "unreachable" };
    let body = json!({
        "success": status == StatusCode::OK,
        "data": {"postgres": word(postgres), "nats": word(nats), "clickhouse": word(clickhouse)},
    });
    (status, Json(body)).into_response()
}

async fn answers<E>(asking: impl Future<Output = Result<(), E>>) -> bool {
    tokio::time::timeout(PATIENCE, asking).await.is_ok_and(|answer| answer.is_ok())
}

async fn reach(url: &Url) -> io::Result<()> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    TcpStream::connect((host, url.port_or_known_default().unwrap_or_default())).await.map(drop)
}
