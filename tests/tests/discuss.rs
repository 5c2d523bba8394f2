//! Models make one answer of several, and discuss.
#![expect(clippy::unwrap_used, reason = "a test")]

use polyphony_tests::{Client, Deployment, Peer, Stream, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

const EVENTS: &str = "SELECT count(*) FROM events";
const MODELS: (&str, &str) =
    ("POLYPHONY_PROVIDERS__DEMO__MODELS", "demo-n40-i10,demo-n41-i10,demo-n42-i10,demo-n300-i10");

fn discussion(session: Uuid, models: &[&str], chair: &str, rounds: u32) -> Value {
    json!({"session_id": session, "content": "tea or coffee?", "model_ids": models, "chair_model_id": chair, "rounds": rounds})
}

/// Purpose, round and model of each answer, in the order in which they were asked for.
async fn answers(client: &Client, stream: &Stream) -> Vec<(String, u64, String)> {
    let mut answers = Vec::new();
    let mut messages = Vec::new();
    for lane in stream.lanes() {
        messages.push(client.message(&lane).await);
    }
    messages.sort_by_key(|message| message["version"].as_u64());
    for message in messages {
        let purpose = &message["metadata"]["purpose"];
        answers.push((
            purpose["kind"].as_str().unwrap_or("reply").to_owned(),
            purpose["round"].as_u64().unwrap_or(0),
            message["model"].as_str().unwrap().to_owned(),
        ));
    }
    answers
}

fn expected(rounds: &[(&str, u64, &[&str])]) -> Vec<(String, u64, String)> {
    let each = rounds.iter().flat_map(|(purpose, round, models)| {
        models.iter().map(|model| ((*purpose).to_owned(), *round, (*model).to_owned()))
    });
    each.collect()
}

#[tokio::test]
async fn models_comment_on_each_other_until_the_chair_closes() {
    let deployment = Deployment::new(&[MODELS]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo").await;
    let members = ["demo-n40-i10", "demo-n41-i10"];
    let mut stream = client.stream("/chat/discuss", discussion(session, &members, "demo-n42-i10", 2)).await;
    stream.to_end().await;
    assert_eq!(stream.ends(), 7);
    let rounds = [
        ("reply", 0, &members[..]),
        ("comment", 1, &members),
        ("comment", 2, &members),
        ("verdict", 0, &["demo-n42-i10"]),
    ];
    assert_eq!(answers(&client, &stream).await, expected(&rounds));
    for lane in stream.lanes() {
        assert_eq!(client.message(&lane).await["content"], stream.lane_text(&lane).as_str());
    }
    // A comment names what it comments on, the verdict everything.
    let lanes = stream.lanes();
    let mut versions = Vec::new();
    for lane in &lanes {
        versions.push(client.message(lane).await);
    }
    versions.sort_by_key(|message| message["version"].as_u64());
    assert_eq!(versions[4]["derived_from"], json!([versions[3]["id"]]));
    assert_eq!(versions[6]["derived_from"].as_array().unwrap().len(), 6);
    // The conversation goes through the verdict, and any answer can be chosen instead.
    let prompt = versions[0]["parent_id"].as_str().unwrap();
    assert_eq!(client.thread(session, false).await, [prompt, versions[6]["id"].as_str().unwrap()]);
    let comment = versions[2]["id"].as_str().unwrap();
    assert_eq!(client.call(Method::POST, &format!("/messages/{comment}/activate"), None).await.0, 200);
    assert_eq!(client.thread(session, false).await, [prompt, comment]);
    eventually("nothing is left to follow", async || {
        (deployment.count("SELECT count(*) FROM ops.follow_ups").await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_failed_member_leaves_the_others_talking() {
    let peer = Peer::start().await;
    let deployment = Deployment::with_peer(&peer).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo").await;
    let members = ["lab/teller", "lab/broken", "lab/scribe"];
    let mut stream = client.stream("/chat/discuss", discussion(session, &members, "lab/scribe", 1)).await;
    stream.to_end().await;
    let rounds: [(&str, u64, &[&str]); 3] = [
        ("reply", 0, &["teller", "broken", "scribe"]),
        ("comment", 1, &["teller", "scribe"]),
        ("verdict", 0, &["scribe"]),
    ];
    assert_eq!(answers(&client, &stream).await, expected(&rounds));
    // The chair is told who said what.
    let asked = peer.asked();
    let told = asked.iter().map(|body| body["messages"].to_string()).find(|told| told.contains("You are the chair"));
    let told = told.unwrap();
    assert!(told.contains("tea or coffee?") && told.contains("lab/teller") && told.contains("lab/scribe"), "{told}");
    assert!(!told.contains("lab/broken"), "{told}");
    // Nobody left: nothing to close.
    let dead = client.session("demo").await;
    let one = discussion(dead, &["lab/broken", "demo"], "demo", 4);
    let mut stream = client.stream("/chat/discuss", one).await;
    stream.to_end().await;
    assert_eq!(answers(&client, &stream).await.last().unwrap().0, "verdict");
}

#[tokio::test]
async fn a_discussion_survives_the_death_of_its_worker_between_and_within_rounds() {
    let settings = [MODELS, ("POLYPHONY_WORKER__LEASE_SECONDS", "2"), ("POLYPHONY_WORKER__HEARTBEAT_SECONDS", "1")];
    let deployment = Deployment::new(&settings).await;
    let (api, mut worker, _relay, _projector) = tokio::join!(
        deployment.start("api"),
        deployment.start("worker"),
        deployment.start("relay"),
        deployment.start("projector")
    );
    let client = Client::register(&api.url()).await;
    let session = client.session("demo").await;
    let members = ["demo-n40-i10", "demo-n41-i10"];
    let mut stream = client.stream("/chat/discuss", discussion(session, &members, "demo-n42-i10", 2)).await;
    // As soon as a round has ended, and once in the middle of the next one.
    for (ends, further) in [(2, 0), (4, 10)] {
        while stream.ends() < ends {
            stream.next().await.unwrap();
        }
        let shown = stream.seen.len() + further;
        while stream.seen.len() < shown {
            stream.next().await.unwrap();
        }
        worker.kill9();
        worker = deployment.start("worker").await;
    }
    stream.to_end().await;
    let rounds = [
        ("reply", 0, &members[..]),
        ("comment", 1, &members),
        ("comment", 2, &members),
        ("verdict", 0, &["demo-n42-i10"]),
    ];
    assert_eq!(answers(&client, &stream).await, expected(&rounds));
    assert_eq!(
        (stream.ends(), deployment.count("SELECT count(*) FROM events WHERE event_type = 'answer_completed'").await),
        (7, 7)
    );
}

#[tokio::test]
async fn stopping_ends_a_discussion_for_good() {
    let deployment = Deployment::new(&[MODELS]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    for by_message in [true, false] {
        let session = client.session("demo").await;
        let body = discussion(session, &["demo-n300-i10", "demo-n40-i10"], "demo-n42-i10", 4);
        let mut stream = client.stream("/chat/discuss", body).await;
        while stream.ends() < 1 {
            stream.next().await.unwrap();
        }
        // The one that still runs, or everything of the session.
        let lanes = stream.lanes();
        let running = lanes.iter().find(|lane| stream.lane(lane).last().unwrap().event != "done").unwrap();
        let body = if by_message { json!({ "message_id": running }) } else { json!({ "session_id": session }) };
        assert_eq!(client.call(Method::POST, "/chat/stop", Some(body)).await.0, 202);
        stream.to_end().await;
        assert_eq!((stream.lanes().len(), stream.ends()), (2, 2));
        assert_eq!(client.message(running).await["status"], "stopped");
        let closed = "SELECT count(*) FROM events WHERE event_type = 'discussion_closed'";
        assert_eq!(deployment.count(closed).await, if by_message { 1 } else { 2 });
        // The conversation goes on.
        client.say(json!({"session_id": session, "content": "well?"})).await;
    }
}

#[tokio::test]
async fn a_synthesis_knows_the_conversation_and_names_its_sources() {
    let peer = Peer::start().await;
    let deployment = Deployment::with_peer(&peer).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("lab/teller").await;
    client.say(json!({"session_id": session, "content": "I like hot drinks"})).await;
    let body = json!({"session_id": session, "content": "tea or coffee?", "model_ids": ["lab/teller", "demo-n40-i10"]});
    let mut stream = client.stream("/chat/compare", body).await;
    stream.to_end().await;
    let lanes = stream.lanes();
    let body =
        json!({"session_id": session, "message_ids": lanes, "model_id": "lab/scribe", "instructions": "in verse"});
    let mut synthesis = client.stream("/chat/synthesize", body).await;
    assert_eq!(synthesis.to_end().await.event, "done");
    let message = client.message(&synthesis.message_id()).await;
    assert_eq!((&message["version"], &message["derived_from"]), (&json!(3), &json!(lanes)));
    assert_eq!(message["metadata"]["purpose"]["kind"], "synthesis");
    let asked = peer.asked();
    let body = asked.iter().find(|body| body["model"] == "scribe" && body.to_string().contains("in verse")).unwrap();
    let told = body["messages"].to_string();
    for part in ["I like hot drinks", "tea or coffee?", "lab/teller", "demo/demo-n40-i10", "w1 w2 w3"] {
        assert!(told.contains(part), "{part} is missing in {told}");
    }
    // What can't be made one answer of, and appends nothing.
    let other = client.session("demo").await;
    let elsewhere = client.say(json!({"session_id": other, "content": "x"})).await["id"].clone();
    let first_answer = client.message(client.thread(session, false).await[1].as_str()).await["id"].clone();
    let stranger = Client::register(&all.url()).await;
    let foreign = stranger.session("demo").await;
    let foreign = stranger.say(json!({"session_id": foreign, "content": "x"})).await["id"].clone();
    eventually("the titles are found", async || {
        (deployment.count("SELECT count(*) FROM ops.follow_ups").await == 0).then_some(())
    })
    .await;
    let before = deployment.count(EVENTS).await;
    for (ids, model, status) in [
        (json!([lanes[0], foreign]), "demo", 404),
        (json!([lanes[0], elsewhere]), "demo", 404),
        (json!([lanes[0], Uuid::now_v7()]), "demo", 404),
        (json!([lanes[0], first_answer]), "demo", 400),
        (json!([lanes[0]]), "demo", 400),
        (json!([lanes[0], lanes[0]]), "demo", 400),
        (json!([]), "demo", 400),
        (json!(lanes), "nobody", 400),
        (json!(lanes), "openai/gpt-4o", 422),
    ] {
        let body = json!({"session_id": session, "message_ids": ids, "model_id": model});
        let (got, answer) = client.call(Method::POST, "/chat/synthesize", Some(body.clone())).await;
        assert_eq!(got.as_u16(), status, "{body}: {answer}");
    }
    assert_eq!(deployment.count(EVENTS).await, before);
}

#[tokio::test]
async fn a_discussion_that_cannot_be_held_appends_nothing() {
    let deployment = Deployment::new(&[MODELS]).await;
    let api = deployment.start("api").await;
    let client = Client::register(&api.url()).await;
    let session = client.session("demo").await;
    let before = deployment.count(EVENTS).await;
    let two = ["demo-n40-i10", "demo-n41-i10"];
    let mut dear = discussion(session, &two, "demo", 1);
    dear["max_cost_usd"] = json!("a lot");
    for (body, status, code) in [
        (discussion(session, &two, "demo", 0), 400, "VALIDATION_FAILED"),
        (discussion(session, &two, "demo", 5), 400, "VALIDATION_FAILED"),
        (discussion(session, &two[..1], "demo", 1), 400, "VALIDATION_FAILED"),
        (discussion(session, &[two[0], two[0]], "demo", 1), 400, "VALIDATION_FAILED"),
        (discussion(session, &two, "nobody", 1), 400, "VALIDATION_FAILED"),
        (discussion(session, &two, "openai/gpt-4o", 1), 422, "NO_API_KEY"),
        (discussion(Uuid::now_v7(), &two, "demo", 1), 404, "NOT_FOUND"),
        (dear, 400, "VALIDATION_FAILED"),
    ] {
        let (got, answer) = client.call(Method::POST, "/chat/discuss", Some(body.clone())).await;
        assert_eq!((got.as_u16(), answer["error"]["code"].as_str()), (status, Some(code)), "{body}: {answer}");
    }
    assert_eq!(deployment.count(EVENTS).await, before);
}
