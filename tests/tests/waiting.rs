//! What people see while nothing comes: a place in their own queue, a provider that wants to be left alone; and what they
//! may use at all.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::post};
use polyphony_tests::{Client, Deployment, Event};
use reqwest::Method;
use serde_json::{Value, json};

/// The first events of answers that say why nothing comes.
fn states(seen: &[Event], state: &str) -> Vec<Value> {
    let said = seen.iter().filter(|event| event.event == "typing" && event.data["state"] == state);
    said.map(|event| event.data.clone()).collect()
}

#[tokio::test]
async fn who_waits_for_a_seat_sees_the_place_and_the_quota() {
    let deployment = Deployment::new(&[
        ("POLYPHONY_LIMITS__RELAXED", "false"),
        ("POLYPHONY_LIMITS__IN_FLIGHT", "1"),
        ("POLYPHONY_LIMITS__WAITING", "2"),
    ])
    .await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let quota = async || {
        let (status, answer) = client.call(Method::GET, "/users/me/quota", None).await;
        assert_eq!(status, 200, "{answer}");
        answer["data"].clone()
    };
    let idle = quota().await;
    assert_eq!(
        (&idle["in_flight"], &idle["waiting"]),
        (&json!({"limit": 1, "used": 0}), &json!({"limit": 2, "used": 0}))
    );
    assert!(idle["rates"].as_array().unwrap().iter().any(|rate| rate["policy"] == "key-checks" && rate["limit"] == 20));
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(client.session("demo-n300-i10").await);
    }
    let mut first = client.ask(sessions[0], "one").await;
    first.until_pieces(1).await;
    assert!(states(&first.seen, "queued").is_empty());
    let mut second = client.ask(sessions[1], "two").await;
    let mut third = client.ask(sessions[2], "three").await;
    for (stream, place) in [(&mut second, 1), (&mut third, 2)] {
        let typing = stream.next().await.unwrap();
        assert_eq!((typing.event.as_str(), typing.id.as_str()), ("typing", "1.0"));
        assert_eq!((&typing.data["state"], &typing.data["queue_position"]), (&json!("queued"), &json!(place)));
        let message = client.message(&stream.message_id()).await;
        assert_eq!(message["status"], "queued");
    }
    let full = quota().await;
    assert_eq!(
        (&full["in_flight"], &full["waiting"]),
        (&json!({"limit": 1, "used": 1}), &json!({"limit": 2, "used": 2}))
    );
    let refused = json!({"session_id": sessions[3], "content": "four"});
    let (status, refused) = client.call(Method::POST, "/chat/completions/sync", Some(refused)).await;
    assert_eq!((status.as_u16(), &refused["error"]["code"]), (429, &json!("RATE_LIMITED")), "{refused}");
    // Who comes later sees the place too, and who is there sees it change.
    let mut late = client.attach(&third.message_id(), None).await;
    assert_eq!(late.next().await.unwrap().data["queue_position"], 2);
    let (status, _) = client.call(Method::POST, "/chat/stop", Some(json!({"session_id": sessions[0]}))).await;
    assert_eq!(status, 202);
    for stream in [&mut second, &mut third, &mut late] {
        assert_eq!(stream.to_end().await.event, "done");
    }
    let places = |seen: &[Event]| -> Vec<Value> {
        states(seen, "queued").into_iter().map(|data| data["queue_position"].clone()).collect()
    };
    assert_eq!((places(&second.seen), places(&third.seen)), (vec![json!(1)], vec![json!(2), json!(1)]));
    assert_eq!(third.text(), late.text());
    // Said again, it takes nobody back to the beginning.
    assert!(third.seen.iter().filter(|event| event.event == "typing").skip(1).all(|event| event.id.is_empty()));
}

/// A provider that is limited once, and then answers.
async fn limited_once(State(asked): State<Arc<AtomicUsize>>) -> impl IntoResponse {
    if asked.fetch_add(1, Ordering::Relaxed) == 0 {
        let error = json!({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}).to_string();
        return (StatusCode::TOO_MANY_REQUESTS, [("content-type", "application/json"), ("retry-after", "4")], error);
    }
    let text = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"At last.\"}}]}\n\n\
        data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    (StatusCode::OK, [("content-type", "text/event-stream"), ("x-served-by", "test")], text.to_owned())
}

#[tokio::test]
async fn who_watches_an_answer_that_waits_for_its_provider_is_told_how_long() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = Router::new().route("/v1/chat/completions", post(limited_once)).with_state(Arc::default());
    tokio::spawn(async move { axum::serve(listener, peer).await.unwrap() });
    let deployment = Deployment::new(&[
        ("POLYPHONY_PROVIDERS__LAB__KIND", "compatible"),
        ("POLYPHONY_PROVIDERS__LAB__BASE_URL", &format!("http://{address}/v1")),
        ("POLYPHONY_PROVIDERS__LAB__MODELS", "shy"),
        ("POLYPHONY_EGRESS__ALLOW", &address.to_string()),
    ])
    .await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    client.call(Method::PUT, "/users/me/settings", Some(json!({"auto_title": false}))).await;
    let session = client.session("lab/shy").await;
    let mut stream = client.ask(session, "hello").await;
    while states(&stream.seen, "waiting").is_empty() {
        assert!(stream.next().await.is_some());
    }
    let mut late = client.attach(&stream.message_id(), None).await;
    late.next().await.unwrap();
    for said in [states(&stream.seen, "waiting"), states(&late.seen, "waiting")] {
        assert_eq!((said.len(), &said[0]["reason"]), (1, &json!("rate_limited")), "{said:?}");
        assert!((1..=5).contains(&said[0]["wait_seconds"].as_u64().unwrap()), "{said:?}");
    }
    for stream in [&mut stream, &mut late] {
        assert_eq!(stream.to_end().await.event, "done");
        assert_eq!((stream.text().as_str(), stream.ends()), ("At last.", 1));
    }
    assert_eq!(client.message(&stream.message_id()).await["attempt"], 1);
}
