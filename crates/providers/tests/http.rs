//! The adapter against a real HTTP server on this machine: statuses, waits, redirects, silence, broken connections.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use polyphony_domain::content::{Conversation, Message, Role};
use polyphony_providers::{
    Adapter, AdapterEvent, ErrorKind, FinishReason, Options, ProviderError, ProviderKey, Timeouts,
    compatible::{Compatible, Quirks, preset},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use url::Url;

const KEY: &str = "sk-very-secret-0123456789";
const HELLO: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"你好\"}}]}\n\n";
const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// Short where a test waits for it to pass, long where it mustn't.
const TIMEOUTS: Timeouts = Timeouts {
    head: Duration::from_secs(30),
    idle: Duration::from_secs(30),
    content: Duration::from_secs(30),
    trailer: Duration::from_secs(30),
    drain: Duration::from_secs(30),
};
const SHORT: Duration = Duration::from_millis(100);

async fn serve(router: Router) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/v1", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

fn adapter(base_url: &Url, timeouts: Timeouts) -> Compatible {
    polyphony_platform::http::install_crypto_provider();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    Compatible::new("test", base_url, Quirks::COMMON, client).with_timeouts(timeouts)
}

async fn ask(adapter: &Compatible) -> Result<Vec<Result<AdapterEvent, ProviderError>>, ProviderError> {
    let user = Message::text(Role::User, "hi");
    let conversation = Conversation { system: None, messages: vec![user] };
    let rendered = adapter.render(&conversation, &Options { model: "m".to_owned(), ..Options::default() });
    Ok(adapter.stream(rendered, Some(&ProviderKey::new(KEY.into()))).await?.collect().await)
}

/// A server with one answer for everything.
async fn answering<A: IntoResponse + Clone + Send + Sync + 'static>(answer: A) -> Url {
    serve(Router::new().fallback(move || std::future::ready(answer.clone()))).await
}

/// A server whose body is these pieces; then it's silent for ever.
async fn silent_after(pieces: &'static [&'static str]) -> Url {
    let body = move || {
        let pieces = stream::iter(pieces.iter().map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece.as_bytes()))));
        std::future::ready(Body::from_stream(pieces.chain(stream::pending())))
    };
    serve(Router::new().fallback(body)).await
}

/// A server that closes the connection within the body, after these pieces.
async fn breaking_after(pieces: &'static [&'static str]) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/v1", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        // The whole request is read, or closing would reset the connection and lose what was written.
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            socket.read_buf(&mut request).await.unwrap();
        }
        let mut answer =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
        for piece in pieces {
            answer += &format!("{:x}\r\n{piece}\r\n", piece.len());
        }
        socket.write_all(answer.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
    });
    url
}

fn kinds(events: &[Result<AdapterEvent, ProviderError>]) -> Vec<Result<&AdapterEvent, ErrorKind>> {
    events.iter().map(|event| event.as_ref().map_err(|error| error.kind)).collect()
}

fn hello() -> AdapterEvent {
    AdapterEvent::Text("你好".to_owned())
}

#[tokio::test]
async fn every_status_has_its_kind_and_its_wait() {
    let cases = [
        (400, ErrorKind::BadRequest),
        (401, ErrorKind::InvalidKey),
        (402, ErrorKind::QuotaExceeded),
        (403, ErrorKind::InvalidKey),
        (404, ErrorKind::ModelUnavailable),
        (408, ErrorKind::Timeout),
        (413, ErrorKind::ContextTooLong),
        (429, ErrorKind::RateLimited),
        (500, ErrorKind::Overloaded),
        (503, ErrorKind::Overloaded),
        (529, ErrorKind::Overloaded),
        (307, ErrorKind::Redirect),
    ];
    for (status, kind) in cases {
        let answer = (StatusCode::from_u16(status).unwrap(), [(header::RETRY_AFTER, "6m0s")], "<html>sorry</html>");
        let error = ask(&adapter(&answering(answer).await, TIMEOUTS)).await.unwrap_err();
        assert_eq!((error.kind, error.status), (kind, Some(status)));
        if kind != ErrorKind::Redirect {
            assert_eq!(error.retry_after, Some(Duration::from_secs(360)));
        }
    }
}

#[tokio::test]
async fn the_key_reaches_the_host_and_no_error() {
    let echo = |headers: HeaderMap| async move {
        let sent = headers[header::AUTHORIZATION].to_str().unwrap().to_owned();
        assert_eq!(sent, format!("Bearer {KEY}"));
        (
            StatusCode::BAD_REQUEST,
            format!(r#"{{"error":{{"message":"you sent {sent}","code":"{KEY}","type":"{KEY}"}}}}"#),
        )
    };
    let url = serve(Router::new().fallback(echo)).await;
    let mut errors = vec![ask(&adapter(&url, TIMEOUTS)).await.unwrap_err()];
    let within = format!("{HELLO}data: {{\"error\":{{\"message\":\"{KEY}\",\"code\":\"{KEY}\"}}}}\n\n");
    errors.extend(ask(&adapter(&answering(within).await, TIMEOUTS)).await.unwrap().pop().unwrap().err());
    let nobody = Url::parse(&format!("http://127.0.0.1:1/{KEY}")).unwrap();
    errors.push(ask(&adapter(&nobody, TIMEOUTS)).await.unwrap_err());
    errors.extend(adapter(&url, TIMEOUTS).validate_key(&ProviderKey::new(b"a\nb".to_vec())).await.err());
    let kinds: Vec<ErrorKind> = errors.iter().map(|error| error.kind).collect();
    let expected = [ErrorKind::BadRequest, ErrorKind::Overloaded, ErrorKind::Unreachable, ErrorKind::InvalidKey];
    assert_eq!(kinds, expected);
    for error in errors {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("secret") && !shown.contains("127.0.0.1"), "{shown}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_error_and_is_not_followed() {
    let hits = Arc::new(AtomicUsize::new(0));
    let seen = hits.clone();
    let router = Router::new().fallback(move |uri: Uri| {
        seen.fetch_add(1, Ordering::SeqCst);
        let elsewhere = (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response();
        std::future::ready(if uri.path() == "/elsewhere" { DONE.into_response() } else { elsewhere })
    });
    let error = ask(&adapter(&serve(router).await, TIMEOUTS)).await.unwrap_err();
    assert_eq!((error.kind, hits.load(Ordering::SeqCst)), (ErrorKind::Redirect, 1));
    assert!(!error.retryable());
}

#[tokio::test]
async fn silence_before_the_head_is_a_timeout() {
    let url = serve(Router::new().fallback(std::future::pending::<Response>)).await;
    let error = ask(&adapter(&url, Timeouts { head: SHORT, ..TIMEOUTS })).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
}

#[tokio::test]
async fn silence_within_the_answer_is_a_timeout_and_keeps_the_text() {
    let url = silent_after(&[HELLO]).await;
    let events = ask(&adapter(&url, Timeouts { idle: SHORT, ..TIMEOUTS })).await.unwrap();
    assert_eq!(kinds(&events), [Ok(&hello()), Err(ErrorKind::Timeout)]);
}

#[tokio::test]
async fn comments_alone_do_not_keep_an_answer_alive() {
    let ping = || stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(b": ping\n\n")));
    let paced = move || {
        let paced = ping().then(|ping| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            ping
        });
        std::future::ready(Body::from_stream(paced))
    };
    let flood = move || std::future::ready(Body::from_stream(ping()));
    for router in [Router::new().fallback(paced), Router::new().fallback(flood)] {
        let url = serve(router).await;
        let events = ask(&adapter(&url, Timeouts { content: SHORT, ..TIMEOUTS })).await.unwrap();
        assert_eq!(kinds(&events), [Err(ErrorKind::Timeout)]);
    }
}

#[tokio::test]
async fn an_answer_with_its_finish_is_complete_whatever_the_connection_does_then() {
    let finished = [Ok(&hello()), Ok(&AdapterEvent::Finish(FinishReason::Stop))];
    let short = Timeouts { trailer: SHORT, drain: SHORT, ..TIMEOUTS };
    for url in [
        silent_after(&[HELLO, STOP]).await,
        silent_after(&[HELLO, STOP, DONE]).await,
        breaking_after(&[HELLO, STOP]).await,
        breaking_after(&[HELLO, STOP, DONE]).await,
    ] {
        assert_eq!(kinds(&ask(&adapter(&url, short)).await.unwrap()), finished);
    }
}

#[tokio::test]
async fn a_broken_connection_is_an_interruption_and_keeps_the_text() {
    let broken = ask(&adapter(&breaking_after(&[HELLO]).await, TIMEOUTS)).await.unwrap();
    assert_eq!(kinds(&broken), [Ok(&hello()), Err(ErrorKind::Interrupted)]);
    let clean = ask(&adapter(&answering(HELLO).await, TIMEOUTS)).await.unwrap();
    assert_eq!(kinds(&clean), [Ok(&hello()), Err(ErrorKind::Interrupted)]);
}

#[tokio::test]
async fn the_heads_wish_for_a_wait_holds_for_an_error_within_the_stream() {
    let url = answering(([(header::RETRY_AFTER, "7")], "data: {\"error\":{\"code\":429}}\n\n")).await;
    let error = ask(&adapter(&url, TIMEOUTS)).await.unwrap().pop().unwrap().unwrap_err();
    assert_eq!((error.kind, error.retry_after), (ErrorKind::RateLimited, Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let (sender, mut receiver) = mpsc::unbounded_channel::<()>();
    let body = move || {
        let alive = sender.clone();
        let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(HELLO.as_bytes()))]);
        // Held by the body: it's told when the connection's end drops it.
        let guard = Guard(alive);
        let rest = stream::pending().map(move |piece: Result<Bytes, Infallible>| (&guard, piece).1);
        std::future::ready(Body::from_stream(first.chain(rest)))
    };
    let adapter = adapter(&serve(Router::new().fallback(body)).await, TIMEOUTS);
    let rendered = adapter.render(&Conversation::default(), &Options::default());
    let mut stream = adapter.stream(rendered, None).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), hello());
    drop(stream);
    tokio::time::timeout(Duration::from_secs(20), receiver.recv()).await.unwrap().unwrap();
}

/// Sends when dropped.
struct Guard(mpsc::UnboundedSender<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

async fn listed(adapter: &Compatible) -> Vec<String> {
    adapter.list_models(None).await.unwrap().into_iter().map(|model| model.name).collect()
}

#[tokio::test]
async fn models_are_listed_and_keys_are_checked() {
    let router = Router::new().fallback(|uri: Uri, headers: HeaderMap| async move {
        let good = headers.get(header::AUTHORIZATION).is_some_and(|sent| sent.as_bytes().ends_with(KEY.as_bytes()));
        match uri.path() {
            "/v1/models" => (StatusCode::OK, r#"{"data":[{"id":"b"},{"id":"a"}]}"#),
            "/v1/key" if good => (StatusCode::OK, "{}"),
            "/v1/key" => (StatusCode::UNAUTHORIZED, "{}"),
            _ => (StatusCode::NOT_FOUND, "{}"),
        }
    });
    let url = serve(router).await;
    assert_eq!(listed(&adapter(&url, TIMEOUTS)).await, ["b", "a"]);
    let openrouter = Compatible::new("openrouter", &url, preset("openrouter").unwrap().quirks, reqwest::Client::new());
    openrouter.validate_key(&ProviderKey::new(KEY.into())).await.unwrap();
    let refused = openrouter.validate_key(&ProviderKey::new(b"other".to_vec())).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidKey);
}

#[tokio::test]
async fn the_base_urls_path_and_query_stay() {
    let echo = |uri: Uri| async move { (StatusCode::OK, format!(r#"{{"data":[{{"id":"{uri}"}}]}}"#)) };
    let mut url = serve(Router::new().fallback(echo)).await;
    url.set_path("/openai/v1/");
    url.set_query(Some("api-version=1"));
    assert_eq!(listed(&adapter(&url, TIMEOUTS)).await, ["/openai/v1/models?api-version=1"]);
}
