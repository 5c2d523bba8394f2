//! What peers may do to a connection, and how a node stops.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{node::Deployment, person::Person};

async fn exchange(node: &crate::node::Node, request: &str) -> String {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    // The answer may come, and the connection end, before all is written.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = vec![];
    let _ = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn half_open_and_oversized_requests_cost_others_nothing() {
    let deployment = Deployment::new().await;
    let node = deployment.node().await;
    let mut half_open = vec![];
    for index in 0..500 {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        if index % 2 == 0 {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
        }
        half_open.push(stream);
    }
    let http = reqwest::Client::new();
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(http.get(format!("{}/healthz", node.url)).send().await.unwrap().status(), 200);
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");

    let huge = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Huge: {}\r\n\r\n", "x".repeat(40_000));
    assert!(exchange(&node, &huge).await.starts_with("HTTP/1.1 431"));
    let smuggled = "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}";
    assert!(exchange(&node, smuggled).await.starts_with("HTTP/1.1 400"));
    let traced = exchange(&node, "TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(traced.starts_with("HTTP/1.1 405"), "{traced}");

    // Whoever doesn't finish a head in time is cut off.
    let mut slow = half_open.remove(0);
    let mut rest = vec![];
    let cut = tokio::time::timeout(Duration::from_secs(20), slow.read_to_end(&mut rest)).await;
    assert!(cut.is_ok(), "the half request is still open");
}

#[tokio::test]
async fn a_node_that_stops_finishes_what_it_is_at_and_takes_nothing_new() {
    let deployment = Deployment::new().await;
    let node = deployment.node().await;
    let person = Person::register(&node.url).await;
    let asking = (0..20).map(|_| {
        let person = person.clone();
        async move { person.get("/users/me").await.status }
    });
    let asking = tokio::spawn(futures::future::join_all(asking));
    assert!(asking.await.unwrap().into_iter().all(|status| status == 200));
    let address = node.address;
    node.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}
