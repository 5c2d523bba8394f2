//! Several models answer one prompt side by side.

use polyphony_tests::{Client, Deployment, Peer, Stream, read};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

const EVENTS: &str = "SELECT count(*) FROM events";
const ENDINGS: &str = "SELECT count(*) FROM events WHERE event_type IN \
    ('answer_completed', 'answer_failed', 'answer_stopped', 'answer_interrupted')";

fn comparison(session: Uuid, models: &[&str]) -> Value {
    json!({"session_id": session, "content": "tea or coffee?", "model_ids": models})
}

#[tokio::test]
async fn each_lane_has_its_own_stream_fate_and_version() {
    let peer = Peer::start().await;
    let deployment = Deployment::with_peer(&peer).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo").await;
    let models = ["demo-n40-i10", "lab/broken", "demo-n300-i10"];
    let mut stream = client.stream("/chat/compare", comparison(session, &models)).await;
    stream.to_end().await;
    let lanes = stream.lanes();
    assert_eq!((lanes.len(), stream.ends()), (3, 3));
    for (index, lane) in lanes.iter().enumerate() {
        let events = stream.lane(lane);
        assert_eq!(events[0].event, "typing");
        assert!(events.iter().all(|event| event.id.starts_with(&format!("{lane}:1."))), "{events:?}");
        let message = client.message(lane).await;
        let end = events.last().unwrap();
        let (status, ending) = if index == 1 { ("failed", "error") } else { ("complete", "done") };
        assert_eq!((message["status"].as_str(), end.event.as_str()), (Some(status), ending));
        assert_eq!(message["content"], stream.lane_text(lane).as_str());
        assert_eq!((message["version"].as_u64(), message["versions"].as_u64()), (Some(index as u64 + 1), Some(3)));
    }
    assert_eq!(deployment.count(ENDINGS).await, 3);
    assert_eq!(
        deployment.count("SELECT count(DISTINCT xid) FROM events WHERE event_type = 'answer_requested'").await,
        1
    );
    // Each can be played again, alone or with the others, and chosen; the next prompt goes on from it.
    let prompt = stream.seen[0].data["user_message_id"].as_str().unwrap().to_owned();
    let mut replay = client.attach(&prompt, None).await;
    replay.to_end().await;
    for lane in &lanes {
        assert_eq!(replay.lane_text(lane), stream.lane_text(lane));
        let mut alone = client.attach(lane, None).await;
        alone.to_end().await;
        assert_eq!(alone.text(), stream.lane_text(lane));
    }
    assert_eq!(client.thread(session, false).await, [prompt.as_str(), &lanes[2]]);
    for lane in [&lanes[0], &lanes[1], &lanes[2], &lanes[0]] {
        let (status, chosen) = client.call(Method::POST, &format!("/messages/{lane}/activate"), None).await;
        assert_eq!((status.as_u16(), &chosen["data"]["id"]), (200, &json!(lane)));
        assert_eq!(client.thread(session, false).await, [prompt.as_str(), lane]);
    }
    let next = client.say(json!({"session_id": session, "content": "why?", "model_id": "demo"})).await;
    let asked = client.message(next["parent_id"].as_str().unwrap()).await;
    assert_eq!(asked["parent_id"], lanes[0].as_str());
}

#[tokio::test]
async fn one_lane_stops_and_the_others_go_on() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo").await;
    let mut stream = client.stream("/chat/compare", comparison(session, &["demo-n300-i10", "demo-n300-i10"])).await;
    while stream.lanes().len() < 2 {
        stream.next().await.unwrap();
    }
    let lanes = stream.lanes();
    stream.until_lane(&lanes[0], 5).await;
    // Nothing can be added to the prompt meanwhile, nor after it.
    let again = client.call(Method::POST, &format!("/messages/{}/regenerate", lanes[0]), None).await;
    let next = json!({"session_id": session, "content": "and?", "model_id": "demo"});
    let next = client.call(Method::POST, "/chat/completions/sync", Some(next)).await;
    for (status, refused) in [again, next] {
        assert_eq!((status.as_u16(), &refused["error"]["code"]), (409, &json!("GENERATION_IN_PROGRESS")));
    }
    let (status, _) = client.call(Method::POST, "/chat/stop", Some(json!({"message_id": lanes[0]}))).await;
    assert_eq!(status, 202);
    stream.to_end().await;
    let (first, second) = (client.message(&lanes[0]).await, client.message(&lanes[1]).await);
    assert_eq!((&first["status"], &second["status"]), (&json!("stopped"), &json!("complete")));
    assert_eq!(first["content"], stream.lane_text(&lanes[0]).as_str());
    assert_eq!(second["content"], stream.lane_text(&lanes[1]).as_str());
    assert_eq!(deployment.count("SELECT count(*) FROM ops.runs").await, 0);
}

#[tokio::test]
async fn a_comparison_that_cannot_be_made_appends_nothing() {
    let deployment = Deployment::new(&[]).await;
    let api = deployment.start("api").await;
    let (client, stranger) = (Client::register(&api.url()).await, Client::register(&api.url()).await);
    let (session, foreign) = (client.session("demo").await, stranger.session("demo").await);
    let before = deployment.count(EVENTS).await;
    let two = ["demo", "demo-n40-i10"];
    let with = |name: &str, value: Value| {
        let mut body = comparison(session, &two);
        body[name] = value;
        body
    };
    for (body, status, code) in [
        (comparison(session, &[]), 400, "VALIDATION_FAILED"),
        (comparison(session, &["demo"]), 400, "VALIDATION_FAILED"),
        (comparison(session, &["demo"; 9]), 400, "VALIDATION_FAILED"),
        (comparison(session, &["demo", "no-such-model"]), 400, "VALIDATION_FAILED"),
        (comparison(session, &["demo", "openai/gpt-4o"]), 422, "NO_API_KEY"),
        (comparison(foreign, &two), 404, "NOT_FOUND"),
        (with("content", json!("")), 400, "VALIDATION_FAILED"),
        (with("params", json!({"temperature": 2.5})), 400, "VALIDATION_FAILED"),
        (with("params", json!({"max_tokens": 1_000_000})), 400, "VALIDATION_FAILED"),
        (with("parent_id", json!(Uuid::now_v7())), 404, "NOT_FOUND"),
        (with("quote_message_id", json!(Uuid::now_v7())), 404, "NOT_FOUND"),
        (with("surprise", json!(1)), 400, "VALIDATION_FAILED"),
    ] {
        let (got, answer) = client.call(Method::POST, "/chat/compare", Some(body.clone())).await;
        assert_eq!((got.as_u16(), answer["error"]["code"].as_str()), (status, Some(code)), "{body}: {answer}");
    }
    let mut twice = comparison(session, &["demo", "demo"]);
    twice["params"] = json!({"temperature": 0});
    assert_eq!(client.call(Method::POST, "/chat/compare", Some(twice)).await.0, 400);
    assert_eq!(deployment.count(EVENTS).await, before);
    assert_eq!(deployment.count("SELECT count(*) FROM ops.runs").await, 0);
}

#[tokio::test]
async fn a_comparison_is_found_again_under_its_key_and_goes_on_in_every_lane() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo").await;
    let key = Uuid::now_v7().to_string();
    let body = comparison(session, &["demo-n40-i10", "demo-n300-i10"]);
    let post = || client.request(Method::POST, "/chat/compare").header("idempotency-key", &key).json(&body);
    let mut first = Stream::new(post().send().await.unwrap());
    while first.lanes().len() < 2 {
        first.next().await.unwrap();
    }
    let lanes = first.lanes();
    first.until_lane(&lanes[1], 20).await;
    let last = |lane: &String| first.lane(lane).last().unwrap().id.clone();
    let after = lanes.iter().map(last).collect::<Vec<_>>().join(",");
    let heads: Vec<String> = lanes.iter().map(|lane| first.lane_text(lane)).collect();
    drop(first);
    let mut rest = Stream::new(post().header("last-event-id", &after).send().await.unwrap());
    rest.to_end().await;
    for (lane, head) in lanes.iter().zip(heads) {
        let message = client.message(lane).await;
        assert_eq!(message["content"], (head + &rest.lane_text(lane)).as_str());
    }
    // The ids alone, the same ones; a position that belongs to no lane is refused.
    let (status, ids) = read(post().header("accept", "application/json").send().await.unwrap()).await;
    assert_eq!((status.as_u16(), &ids["data"]["message_ids"]), (202, &json!(lanes)));
    assert_eq!(post().header("last-event-id", "1.5").send().await.unwrap().status(), 400);
    assert_eq!(deployment.count("SELECT count(*) FROM events WHERE event_type = 'answer_requested'").await, 2);
}

#[tokio::test]
async fn lanes_survive_the_death_of_their_worker() {
    let lease = [("POLYPHONY_WORKER__LEASE_SECONDS", "2"), ("POLYPHONY_WORKER__HEARTBEAT_SECONDS", "1")];
    let deployment = Deployment::new(&lease).await;
    let (api, mut first, _relay, _projector) = tokio::join!(
        deployment.start("api"),
        deployment.start("worker"),
        deployment.start("relay"),
        deployment.start("projector")
    );
    let client = Client::register(&api.url()).await;
    let session = client.session("demo").await;
    let mut stream = client.stream("/chat/compare", comparison(session, &["demo-n300-i10", "demo-n300-i10"])).await;
    while stream.lanes().len() < 2 {
        stream.next().await.unwrap();
    }
    let lanes = stream.lanes();
    stream.until_lane(&lanes[0], 20).await;
    stream.until_lane(&lanes[1], 20).await;
    first.kill9();
    let _second = deployment.start("worker").await;
    stream.to_end().await;
    for lane in &lanes {
        let restarts = stream.lane(lane).iter().filter(|event| event.event == "restart").count();
        let message = client.message(lane).await;
        assert_eq!((restarts, message["status"].as_str()), (1, Some("complete")));
        assert_eq!(message["content"], stream.lane_text(lane).as_str());
    }
    assert_eq!((stream.ends(), deployment.count(ENDINGS).await), (2, 2));
}
