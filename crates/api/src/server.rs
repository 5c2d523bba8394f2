//! Two listeners, the layers around the routes, and how they stop.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, extract::Request, response::Redirect, routing::get, serve::ListenerExt};
use metrics_exporter_prometheus::PrometheusHandle;
use polyphony_platform::lifecycle::Shutdown;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    auth, docs, middleware,
    routes::{self, health},
    state::{AppState, Deps},
    stream,
};

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
    OpenApiRouter::with_openapi(docs::info()).nest("/api/v1", routes::api()).split_for_parts()
}

fn router(state: AppState) -> Router {
    let (routes, document) = documented();
    routes
        .merge(health::router())
        .merge(docs::router(&document))
        .route("/", get(|| async { Redirect::temporary("/api/docs") }))
        .method_not_allowed_fallback(middleware::method_not_allowed)
        .fallback(middleware::not_found)
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(axum::middleware::from_fn(middleware::around))
        .with_state(state)
}

type Tapped = axum::serve::TapIo<TcpListener, fn(&mut TcpStream)>;

/// A listener, and the address that it got.
async fn listen(address: SocketAddr) -> Result<(Tapped, SocketAddr), ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|error| ServeError::Bind(address, error))?;
    let address = listener.local_addr()?;
    // Small chunks must not wait for one another.
    let tapped: Tapped = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    Ok((tapped, address))
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
    let stop = shutdown.soft.clone();
    let background = shutdown.hard.child_token();
    let (main, address) = listen(config.http.addr).await?;
    let (private, _) = listen(config.http.metrics_addr).await?;
    tokio::spawn(stream::run_hub(state.clone(), background.clone()));
    tokio::spawn(auth::follow(state.clone(), background.clone()));
    let (reads, bus) = (state.reads.clone(), state.bus.clone());
    let following = background.clone();
    tokio::spawn(async move { reads.follow(bus, following).await });
    tracing::info!(%address, "serving");
    let private_stop = stop.clone();
    let private = axum::serve(private, health::private(metrics)).with_graceful_shutdown(async move {
        private_stop.cancelled().await;
    });
    let private = tokio::spawn(private.into_future());
    let service =
        <Router as axum::ServiceExt<Request>>::into_make_service_with_connect_info::<SocketAddr>(router(state));
    let serving = axum::serve(main, service).with_graceful_shutdown({
        let stop = stop.clone();
        async move { stop.cancelled().await }
    });
    let drain = async {
        stop.cancelled().await;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(config.http.drain_seconds.into())) => {}
            () = shutdown.hard.cancelled() => {}
        }
    };
    tokio::select! {
        done = serving.into_future() => done?,
        // Streams that are still open are cut: their readers go on, on another node, after their last id.
        () = drain => {}
    }
    background.cancel();
    private.abort();
    Ok(())
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
    let (listener, _) = listen(address).await?;
    let serving =
        axum::serve(listener, health::private(metrics)).with_graceful_shutdown(async move { stop.cancelled().await });
    tokio::select! {
        done = serving.into_future() => Ok(done?),
        () = hard.cancelled() => Ok(()),
    }
}
