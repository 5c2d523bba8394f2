//! Processes die and stores vanish; answers don't.

use polyphony_tests::{Client, Deployment, eventually};
use reqwest::Method;

const ENDINGS: &str = "SELECT count(*) FROM events WHERE event_type = 'answer_completed'";

#[tokio::test]
async fn an_answer_survives_the_death_of_its_worker() {
    // A lease that doesn't keep the test waiting.
    let lease = [("POLYPHONY_WORKER__LEASE_SECONDS", "2"), ("POLYPHONY_WORKER__HEARTBEAT_SECONDS", "1")];
    let deployment = Deployment::new(&lease).await;
    let (api, mut first, _relay, _projector) = tokio::join!(
        deployment.start("api"),
        deployment.start("worker"),
        deployment.start("relay"),
        deployment.start("projector")
    );
    let client = Client::register(&api.url()).await;
    let session = client.session("demo-n300-i10").await;
    let mut stream = client.ask(session, "count").await;
    stream.until_pieces(30).await;
    first.kill9();
    let _second = deployment.start("worker").await;
    assert_eq!(stream.to_end().await.event, "done");
    let restarts: Vec<_> = stream.seen.iter().filter(|event| event.event == "restart").collect();
    assert_eq!((restarts.len(), restarts[0].data["attempt"].as_u64()), (1, Some(2)));
    let message = client.message(&stream.message_id()).await;
    assert_eq!((message["content"].as_str(), message["attempt"].as_u64()), (Some(stream.text().as_str()), Some(2)));
    assert_eq!((stream.ends(), deployment.count(ENDINGS).await), (1, 1));
    let reason = "SELECT payload->'attempt_started'->>'reason' FROM events WHERE event_type = 'attempt_started' \
        ORDER BY sequence DESC LIMIT 1";
    assert_eq!(deployment.text(reason).await, "lease_expired");
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_hands_its_answers_over() {
    let deployment = Deployment::new(&[("POLYPHONY_WORKER__DRAIN_SECONDS", "1")]).await;
    let (api, mut first, _relay, _projector) = tokio::join!(
        deployment.start("api"),
        deployment.start("worker"),
        deployment.start("relay"),
        deployment.start("projector")
    );
    let client = Client::register(&api.url()).await;
    let session = client.session("demo-n300-i10").await;
    let mut stream = client.ask(session, "count").await;
    stream.until_pieces(5).await;
    let _second = deployment.start("worker").await;
    first.sigterm();
    assert_eq!(first.exit_code().await, Some(0));
    assert_eq!(stream.to_end().await.event, "done");
    assert_eq!(client.message(&stream.message_id()).await["content"], stream.text().as_str());
    assert_eq!(deployment.count(ENDINGS).await, 1);
}

#[tokio::test]
async fn deleting_the_message_bus_loses_no_answer() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let session = client.session("demo-n300-i10").await;
        streams.push(client.ask(session, "count").await);
    }
    for stream in &mut streams {
        stream.until_pieces(10).await;
    }
    deployment.nats.kill9();
    deployment.nats.delete_data();
    // While the bus is away, prompts are still taken.
    let session = client.session("demo-n40-i10").await;
    streams.push(client.ask(session, "count").await);
    deployment.nats.start();
    for stream in &mut streams {
        assert_eq!(stream.to_end().await.event, "done");
        assert_eq!(client.message(&stream.message_id()).await["content"], stream.text().as_str());
    }
    assert_eq!(deployment.count(ENDINGS).await, 6);
    eventually("every answer is counted", async || {
        let (_, answer) = client.call(Method::GET, "/stats/overview", None).await;
        (answer["data"]["requests"] == 6).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_projector_that_is_killed_again_and_again_ends_with_the_same_rows() {
    let deployment = Deployment::new(&[("POLYPHONY_PROJECTOR__BATCH", "3")]).await;
    let (api, _worker, _relay) =
        tokio::join!(deployment.start("api"), deployment.start("worker"), deployment.start("relay"));
    let client = Client::register(&api.url()).await;
    let mut projector = deployment.start("projector").await;
    for round in 0..4 {
        let session = client.session("demo-n40-i10").await;
        let mut stream = client.ask(session, "count").await;
        stream.until_pieces(5 + round).await;
        projector.kill9();
        projector = deployment.start("projector").await;
        stream.to_end().await;
    }
    let behind =
        "SELECT count(*) FROM events, read.checkpoints c WHERE (events.xid, events.position) > (c.xid, c.position)";
    eventually("the views are level", async || (deployment.count(behind).await == 0).then_some(())).await;
    let rows = "SELECT md5(string_agg(data::text, '|' ORDER BY id)) FROM (\
        SELECT id, data FROM read.sessions UNION ALL SELECT id, data FROM read.messages) AS rows";
    let (live, requests) = (deployment.text(rows).await, requests(&client).await);
    assert_eq!(requests, 4);
    drop(projector);
    assert!(deployment.run(&["rebuild", "--all"]).await.contains("usage_v1"));
    assert_eq!(deployment.text(rows).await, live);
    assert_eq!(self::requests(&client).await, 4);
}

async fn requests(client: &Client) -> u64 {
    client.call(Method::GET, "/stats/overview", None).await.1["data"]["requests"].as_u64().unwrap()
}

#[tokio::test]
async fn three_hundred_sessions_are_never_read_stale_on_another_node() {
    let deployment = Deployment::new(&[]).await;
    let (all, other) = tokio::join!(deployment.start("all"), deployment.start("api"));
    let mut people = Vec::new();
    for _ in 0..6 {
        people.push(Client::register(&all.url()).await);
    }
    let reading = people.iter().map(|person| {
        let elsewhere = person.at(&other.url());
        async move {
            for count in 1..=50 {
                let session = person.session("demo").await;
                let (status, answer) = elsewhere.call(Method::GET, &format!("/sessions/{session}"), None).await;
                assert_eq!(status, 200, "{answer}");
                let (_, list) = elsewhere.call(Method::GET, "/sessions?limit=1", None).await;
                assert_eq!(
                    (list["meta"]["total"].as_u64(), list["data"][0]["id"].as_str()),
                    (Some(count), Some(session.to_string().as_str()))
                );
            }
        }
    });
    futures::future::join_all(reading).await;
}
