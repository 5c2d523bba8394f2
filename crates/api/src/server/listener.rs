//! Connections: accepted, bounded in what they may send and in how long they may take for it, and ended.
//!
//! axum's own `serve` sets no time limit on the head of a request, so that anybody could hold any number of half
//! requests open. Hence a loop of our own around hyper.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use polyphony_platform::patience;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::patient::Patient;

/// Most bytes of a request's head.
const HEAD_BYTES: u32 = 16 * 1024;
/// How long the head of a request may take to arrive.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 256;
/// How often a silent HTTP/2 peer is asked whether it is there, and how long it may think.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long a peer may take nothing of what it is sent.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);
/// The pause after the process has run out of file descriptors.
const BREATH: Duration = Duration::from_millis(50);

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_BYTES as usize)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    builder
}

/// Serves `app` until `stop`; then open connections finish what they are at, until `cut`.
pub async fn serve(listener: TcpListener, app: Router, stop: CancellationToken, cut: impl Future<Output = ()>) {
    let builder = builder();
    let graceful = GracefulShutdown::new();
    let end = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Small chunks must not wait for one another.
                let _ = stream.set_nodelay(true);
                let stream = Patient::new(stream, patience!("api.write", WRITE_PATIENCE));
                let service = {
                    let app = app.clone();
                    service_fn(move |request| answer(app.clone(), peer, request))
                };
                let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
                let connection = graceful.watch(connection);
                let end = end.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = end.cancelled() => {}
                        // What peers do wrong is theirs.
                        _ = connection => {}
                    }
                });
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "connections can't be accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    drop(listener);
    let cut = pin!(cut);
    tokio::select! {
        () = graceful.shutdown() => {}
        // Streams that are still open are cut: their readers go on, on another node, after their last id.
        () = cut => {}
    }
    end.cancel();
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn answer(
    app: Router,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<axum::response::Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    app.oneshot(request).await
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use bytes::Bytes;
    use futures::{StreamExt, channel::mpsc};
    use reqwest::Response;
    use tokio::{sync::oneshot, task::JoinHandle};

    use super::*;

    type Chunk = Result<Bytes, Infallible>;

    /// A stream that is fed by the test, through a listener of its own.
    struct Streaming {
        feed: mpsc::UnboundedSender<Chunk>,
        response: Response,
        stop: CancellationToken,
        cut: oneshot::Sender<()>,
        serving: JoinHandle<()>,
    }

    async fn streaming() -> Streaming {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (feed, fed) = mpsc::unbounded::<Chunk>();
        let fed = std::sync::Arc::new(std::sync::Mutex::new(Some(fed)));
        let route = get(move || {
            let fed = fed.lock().unwrap().take().unwrap();
            async move { Body::from_stream(fed) }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (stop, (cut, is_cut)) = (CancellationToken::new(), oneshot::channel());
        let app = Router::new().route("/", route);
        let cutting = async move { drop(is_cut.await) };
        let serving = tokio::spawn(serve(listener, app, stop.clone(), cutting));
        let response = reqwest::get(url).await.unwrap();
        Streaming { feed, response, stop, cut, serving }
    }

    impl Streaming {
        async fn passes(&mut self, chunk: &'static str) {
            self.feed.unbounded_send(Ok(Bytes::from_static(chunk.as_bytes()))).unwrap();
            assert_eq!(self.response.chunk().await.unwrap().unwrap(), chunk.as_bytes());
        }
    }

    #[tokio::test]
    async fn chunks_pass_one_by_one_and_a_stream_may_end_after_the_stop() {
        let mut streaming = streaming().await;
        streaming.passes("one").await;
        streaming.passes("two").await;
        streaming.stop.cancel();
        streaming.passes("three").await;
        streaming.feed.close_channel();
        assert_eq!(streaming.response.chunk().await.unwrap(), None);
        streaming.serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_stream_that_does_not_end_is_cut() {
        let mut streaming = streaming().await;
        streaming.passes("one").await;
        streaming.stop.cancel();
        streaming.cut.send(()).unwrap();
        streaming.serving.await.unwrap();
        let rest: Vec<_> = streaming.response.bytes_stream().collect().await;
        assert!(rest.iter().any(Result::is_err), "a reader must see that the end is missing");
    }
}
