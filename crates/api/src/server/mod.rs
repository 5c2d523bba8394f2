//! Two listeners, the layers around the routes, and how they stop.

mod listener;
mod patient;

use std::{net::SocketAddr, time::Duration};

use axum::{Router, response::Redirect, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use polyphony_platform::lifecycle::Shutdown;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    auth, docs,
    middleware::{self, Transport},
    routes::{self, health},
    state::{AppState, Deps},
    stream,
};

/// How long requests to the private listener may finish.
const PRIVATE_DRAIN: Duration = Duration::from_secs(2);

/// The interface can't be served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// An address is taken, or not ours.
    #[error("can't listen on {0}")]
    Bind(SocketAddr, #[source] std::io::Error),
    /// A listener failed.
    #[error("a listener failed")]
    Io(#[from] std::io::Error),
}

/// The routes with their document.
pub(crate) fn documented() -> (Router<AppState>, utoipa::openapi::OpenApi) {
    let (router, document) = OpenApiRouter::with_openapi(docs::info()).nest("/api/v1", routes::api()).split_for_parts();
    let (for_sdks, theirs) = routes::v1::router();
    let mut document = document.nest("/v1", theirs);
    docs::complete(&mut document);
    (router.nest("/v1", for_sdks), document)
}

/// The layers that every answer passes, the outermost last.
fn layered<S: Clone + Send + Sync + 'static>(routes: Router<S>, transport: Transport) -> Router<S> {
    routes
        .method_not_allowed_fallback(middleware::method_not_allowed)
        .fallback(middleware::not_found)
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(axum::middleware::from_fn_with_state(transport, middleware::around))
}

fn router(state: AppState) -> Router {
    let (routes, document) = documented();
    let routes = routes
        .merge(health::router())
        .merge(docs::router(&document))
        .route("/", get(|| async { Redirect::temporary("/api/docs") }));
    layered(routes, Transport::of(&state.config.http.public_url)).with_state(state)
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|error| ServeError::Bind(address, error))
}

/// Serves until the shutdown: then open requests may finish for the drain time.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(deps: Deps, metrics: PrometheusHandle, shutdown: Shutdown) -> Result<(), ServeError> {
    let config = deps.config.clone();
    if config.limits.relaxed {
        tracing::warn!("limits.relaxed is set: there are no rate limits and no quotas; never do this in production");
    }
    let state = AppState::new(deps);
    let (main, private) = (bind(config.http.addr).await?, bind(config.http.metrics_addr).await?);
    let address = main.local_addr()?;
    let background = shutdown.hard.child_token();
    let _ends_with_us = background.clone().drop_guard();
    tokio::spawn(stream::run_hub(state.clone(), background.clone()));
    tokio::spawn(auth::follow(state.clone(), background.clone()));
    let (reads, bus) = (state.reads.clone(), state.bus.clone());
    let following = background.clone();
    tokio::spawn(async move { reads.follow(bus, following).await });
    tokio::spawn(serve_private(private, metrics, background.clone()));
    tracing::info!(%address, "serving");
    let drain = async {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(config.http.drain_seconds.into())) => {}
            () = shutdown.hard.cancelled() => {}
        }
    };
    listener::serve(main, router(state), shutdown.soft.clone(), drain).await;
    Ok(())
}

async fn serve_private(listener: TcpListener, metrics: PrometheusHandle, stop: CancellationToken) {
    // A block, so that the time begins to run when it is asked for.
    let drain = async { tokio::time::sleep(PRIVATE_DRAIN).await };
    listener::serve(listener, health::private(metrics), stop, drain).await;
}

/// Serves only `/metrics` and `/healthz`, for a process without the interface.
///
/// # Errors
/// [`ServeError`].
pub async fn serve_metrics(
    address: SocketAddr,
    metrics: PrometheusHandle,
    stop: CancellationToken,
    hard: CancellationToken,
) -> Result<(), ServeError> {
    let listener = bind(address).await?;
    tokio::select! {
        () = serve_private(listener, metrics, stop) => {}
        () = hard.cancelled() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        http::{Method, Request, StatusCode},
    };
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;

    async fn ask(transport: Transport, method: Method, path: &str) -> (axum::http::response::Parts, Value) {
        let broken = get(|| async {
            assert!(std::hint::black_box(false), "the secret of this handler");
        });
        let app = layered(Router::new().route("/broken", broken), transport);
        let request = Request::builder().method(method).uri(path).header("x-request-id", "mine").body(Body::empty());
        let (parts, body) = app.oneshot(request.unwrap()).await.unwrap().into_parts();
        (parts, serde_json::from_slice(&to_bytes(body, 1 << 20).await.unwrap()).unwrap())
    }

    #[tokio::test]
    async fn a_panic_an_unknown_path_and_a_wrong_method_have_the_envelope_and_the_headers() {
        for (method, path, status, code) in [
            (Method::GET, "/broken", StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
            (Method::GET, "/nowhere", StatusCode::NOT_FOUND, "NOT_FOUND"),
            (Method::POST, "/broken", StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
        ] {
            let (parts, body) = ask(Transport::Http, method, path).await;
            assert_eq!((parts.status, body["error"]["code"].as_str()), (status, Some(code)), "{path}");
            assert_eq!(body["success"], false);
            assert!(!body.to_string().contains("secret"));
            assert_eq!(parts.headers["x-request-id"], "mine");
            assert_eq!(parts.headers["x-content-type-options"], "nosniff");
            assert_eq!(parts.headers["referrer-policy"], "no-referrer");
            assert_eq!(parts.headers["cache-control"], "no-store");
            assert_eq!(parts.headers["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
            assert_eq!(parts.headers.contains_key("allow"), status == StatusCode::METHOD_NOT_ALLOWED);
            assert!(!parts.headers.contains_key("strict-transport-security"));
        }
    }

    #[tokio::test]
    async fn browsers_are_told_to_stay_with_tls_where_there_is_tls() {
        let (parts, _) = ask(Transport::Https, Method::GET, "/nowhere").await;
        assert!(parts.headers["strict-transport-security"].to_str().unwrap().starts_with("max-age=31536000"));
    }
}
