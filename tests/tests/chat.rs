//! One message from POST to dashboard, resumed and stopped at every moment.

use polyphony_tests::{Client, Deployment, eventually};
use reqwest::Method;
use serde_json::json;

const ENDINGS: &str = "SELECT count(*) FROM events WHERE event_type IN \
    ('answer_completed', 'answer_failed', 'answer_stopped', 'answer_interrupted')";

#[tokio::test]
async fn what_was_streamed_is_what_is_kept_and_counted() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    for (model, least) in [("demo/demo", 400), ("demo-n2000-i1", 10_000), ("demo-n20000-i0", 100_000)] {
        let session = client.session(model).await;
        let mut stream = client.ask(session, "你好 👩‍👩‍👧‍👦").await;
        assert_eq!(stream.to_end().await.event, "done");
        assert_eq!(stream.seen[0].event, "typing");
        assert_eq!((stream.ends(), stream.text().len() > least), (1, true), "{model}");
        let message = client.message(&stream.message_id()).await;
        assert_eq!(message["content"], stream.text().as_str());
        assert_eq!(message["status"], "complete");
        // A second prompt goes on from the first answer. After the longest it would lack room, and a summary would be
        // another request.
        if least == 100_000 {
            continue;
        }
        let mut next = client.ask(session, "and now?").await;
        next.to_end().await;
        let second = client.message(next.seen[0].data["user_message_id"].as_str().unwrap()).await;
        assert_eq!(second["parent_id"], stream.message_id().as_str());
    }
    let overview = eventually("five requests are counted", async || {
        let (_, answer) = client.call(Method::GET, "/stats/overview?period=7d", None).await;
        (answer["data"]["requests"] == 5).then(|| answer["data"].clone())
    })
    .await;
    assert_eq!((&overview["sessions"], &overview["errors"]), (&json!(3), &json!(0)));
    assert_eq!(overview["series"][0]["requests"], 5);
}

#[tokio::test]
async fn a_stream_goes_on_after_any_chunk_on_another_node() {
    let deployment = Deployment::new(&[]).await;
    let (all, other) = tokio::join!(deployment.start("all"), deployment.start("api"));
    let client = Client::register(&all.url()).await;
    let elsewhere = client.at(&other.url());
    let session = client.session("demo-n300-i10").await;
    let mut live = client.ask(session, "count").await;
    live.until_pieces(20).await;
    // In the middle, on another node, from the beginning and after a chunk.
    let message = live.message_id();
    let after = live.pieces()[9].id.clone();
    let (mut whole, mut rest) =
        tokio::join!(elsewhere.attach(&message, None), elsewhere.attach(&message, Some(&after)));
    tokio::join!(whole.to_end(), rest.to_end(), live.to_end());
    assert_eq!(whole.text(), live.text());
    let head: String = live.pieces()[..10].iter().map(|event| event.data["content"].as_str().unwrap()).collect();
    assert_eq!(head + &rest.text(), live.text());
    // Afterwards, after every chunk: the very same events with the very same ids.
    let pieces: Vec<_> = live.seen.iter().filter(|event| event.event != "typing").cloned().collect();
    for (index, piece) in pieces.iter().enumerate().step_by(7) {
        let mut replay = elsewhere.attach(&message, Some(&piece.id)).await;
        replay.to_end().await;
        // Whoever has seen the end is shown the end.
        let rest = (index + 1).min(pieces.len() - 1);
        assert_eq!(replay.seen[1..], pieces[rest..], "after {}", piece.id);
    }
    // A stranger sees nothing of it.
    let stranger = Client::register(&other.url()).await;
    let (status, answer) = stranger.call(Method::GET, &format!("/chat/streams/{message}"), None).await;
    assert_eq!((status.as_u16(), &answer["error"]["code"]), (404, &json!("NOT_FOUND")));
}

#[tokio::test]
async fn stopping_keeps_the_text_so_far_and_ends_once() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let moments = [0, 1, 2, 5, 9, 14, 20, 27, 35, 39, 40];
    for moment in moments {
        let session = client.session("demo-n40-i10").await;
        let mut stream = client.ask(session, "count").await;
        stream.next().await;
        stream.until_pieces(moment).await;
        let body =
            if moment % 2 == 0 { json!({"session_id": session}) } else { json!({"message_id": stream.message_id()}) };
        let (status, _) = client.call(Method::POST, "/chat/stop", Some(body)).await;
        assert_eq!(status, 202);
        assert_eq!(stream.to_end().await.event, "done");
        let message = client.message(&stream.message_id()).await;
        assert_eq!(message["content"], stream.text().as_str(), "stopped after {moment}");
        assert!(["stopped", "complete"].contains(&message["status"].as_str().unwrap()));
        assert_eq!(stream.ends(), 1);
    }
    assert_eq!(deployment.count(ENDINGS).await, i64::try_from(moments.len()).unwrap());
    assert_eq!(deployment.count("SELECT count(*) FROM ops.runs").await, 0);
}

#[tokio::test]
async fn an_answer_that_nobody_works_on_can_be_stopped_and_asked_for_again() {
    let deployment = Deployment::new(&[]).await;
    let api = deployment.start("api").await;
    let client = Client::register(&api.url()).await;
    let session = client.session("demo").await;
    let key = uuid::Uuid::now_v7().to_string();
    let body = json!({"session_id": session, "content": "hello"});
    let post = || {
        client
            .request(Method::POST, "/chat/completions")
            .header("accept", "application/json")
            .header("idempotency-key", &key)
    };
    let (status, first) = polyphony_tests::read(post().json(&body).send().await.unwrap()).await;
    assert_eq!(status, 202, "{first}");
    // The same request again is the same generation; another one under the same key is refused.
    let (_, again) = polyphony_tests::read(post().json(&body).send().await.unwrap()).await;
    assert_eq!(first["data"], again["data"]);
    let other = json!({"session_id": session, "content": "another"});
    assert_eq!(post().json(&other).send().await.unwrap().status(), 409);
    // A second prompt would build on an answer that isn't there yet.
    let (status, refused) = client.call(Method::POST, "/chat/completions/sync", Some(other)).await;
    assert_eq!((status.as_u16(), &refused["error"]["code"]), (409, &json!("GENERATION_IN_PROGRESS")));
    let message = first["data"]["message_id"].as_str().unwrap();
    let mut stream = client.attach(message, None).await;
    stream.next().await;
    let (status, _) = client.call(Method::POST, "/chat/stop", Some(json!({ "message_id": message }))).await;
    assert_eq!(status, 202);
    assert_eq!(stream.to_end().await.data["finish_reason"], "stopped");
    assert_eq!(deployment.count(ENDINGS).await, 1);
}
