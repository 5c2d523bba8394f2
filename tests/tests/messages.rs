//! Messages asked for again, edited, chosen, rated, kept and deleted.
#![expect(clippy::unwrap_used, reason = "a test")]

use polyphony_tests::{Client, Deployment, eventually};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Calls and expects this status.
async fn expect(client: &Client, method: Method, path: &str, body: Option<Value>, status: u16) -> Value {
    let (got, answer) = client.call(method, path, body).await;
    assert_eq!(got.as_u16(), status, "{path}: {answer}");
    answer["data"].clone()
}

fn id(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A prompt of the session and its answer.
async fn exchange(client: &Client, session: Uuid, text: &str) -> [String; 2] {
    let answer = client.say(json!({"session_id": session, "content": text})).await;
    [id(&answer["parent_id"]), id(&answer["id"])]
}

/// Asks for an answer again and waits for its end.
async fn again(client: &Client, message: &str, body: Value) -> String {
    let mut stream = client.stream(&format!("/messages/{message}/regenerate"), body).await;
    assert_eq!(stream.to_end().await.event, "done");
    stream.message_id()
}

#[tokio::test]
async fn every_version_of_an_answer_stays_and_can_be_chosen() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo-n40-i10").await;
    let [first_prompt, v1] = exchange(&client, session, "one").await;
    let [second_prompt, tail] = exchange(&client, session, "two").await;
    // By the same model, then by another; only ids where no stream is asked for.
    let v2 = again(&client, &v1, json!({})).await;
    let ids =
        expect(&client, Method::POST, &format!("/messages/{v1}/regenerate"), Some(json!({"model_id": "demo"})), 202)
            .await;
    let v3 = id(&ids["message_id"]);
    client.attach(&v3, None).await.to_end().await;
    let (of_v2, of_v3) = (client.message(&v2).await, client.message(&v3).await);
    assert_eq!(
        (&of_v2["model"], &of_v2["version"], &of_v2["versions"]),
        (&json!("demo-n40-i10"), &json!(2), &json!(3))
    );
    assert_eq!((&of_v3["model"], &of_v3["parent_id"]), (&json!("demo"), &json!(first_prompt)));
    let versions = expect(&client, Method::GET, &format!("/messages/{v2}/versions"), None, 200).await;
    let versions: Vec<&Value> = versions.as_array().unwrap().iter().map(|version| &version["id"]).collect();
    assert_eq!(versions, [&v1, &v2, &v3]);
    // The newest is shown; the first one brings back what hung under it.
    assert_eq!(client.thread(session, false).await, [&first_prompt, &v3].map(String::as_str));
    expect(&client, Method::POST, &format!("/messages/{v1}/activate"), None, 200).await;
    assert_eq!(client.thread(session, false).await, [&first_prompt, &v1, &second_prompt, &tail].map(String::as_str));
    expect(&client, Method::POST, &format!("/messages/{v2}/activate"), None, 200).await;
    let [third_prompt, _] = exchange(&client, session, "three").await;
    assert_eq!(client.message(&third_prompt).await["parent_id"], v2.as_str());
    // Each plays again as it was.
    for version in [&v1, &v2, &v3] {
        let mut replay = client.attach(version, None).await;
        replay.to_end().await;
        assert_eq!(client.message(version).await["content"], replay.text().as_str());
    }
    assert_eq!(client.thread(session, true).await.len(), 8);
}

#[tokio::test]
async fn an_edited_prompt_is_a_branch_beside_the_old_one() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo-n40-i10").await;
    let [root, answer] = exchange(&client, session, "one").await;
    let [old, old_answer] = exchange(&client, session, "two").await;
    let ids =
        expect(&client, Method::PUT, &format!("/messages/{old}"), Some(json!({"content": "two, please"})), 202).await;
    let (new, new_answer) = (id(&ids["user_message_id"]), id(&ids["message_id"]));
    client.attach(&new_answer, None).await.to_end().await;
    let edited = client.message(&new).await;
    assert_eq!((&edited["content"], &edited["parent_id"]), (&json!("two, please"), &json!(answer)));
    assert_eq!((&edited["version"], &edited["versions"]), (&json!(2), &json!(2)));
    assert_eq!(edited["metadata"]["edited_from"], old.as_str());
    assert_eq!(client.message(&old).await["versions"], 2);
    assert_eq!(client.thread(session, false).await, [&root, &answer, &new, &new_answer].map(String::as_str));
    expect(&client, Method::POST, &format!("/messages/{old}/activate"), None, 200).await;
    assert_eq!(client.thread(session, false).await, [&root, &answer, &old, &old_answer].map(String::as_str));
    // The first prompt can be edited too, and kept without an answer; the next prompt takes its place.
    let body = json!({"content": "zero", "generate": false});
    let kept = expect(&client, Method::PUT, &format!("/messages/{root}"), Some(body), 200).await;
    assert_eq!((&kept["content"], &kept["parent_id"], &kept["version"]), (&json!("zero"), &Value::Null, &json!(2)));
    assert_eq!(client.thread(session, false).await, [id(&kept["id"])]);
    let late = again(&client, kept["id"].as_str().unwrap(), json!({})).await;
    assert_eq!(client.thread(session, false).await, [id(&kept["id"]), late]);
    // Answers can't be edited, and nobody edits another's.
    expect(&client, Method::PUT, &format!("/messages/{answer}"), Some(json!({"content": "x"})), 400).await;
    expect(&client, Method::PUT, &format!("/messages/{old}"), Some(json!({"content": ""})), 400).await;
    let stranger = Client::register(&all.url()).await;
    expect(&stranger, Method::PUT, &format!("/messages/{old}"), Some(json!({"content": "x"})), 404).await;
}

#[tokio::test]
async fn feedback_is_given_and_taken_back() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let (client, stranger) = (Client::register(&all.url()).await, Client::register(&all.url()).await);
    let session = client.session("demo-n40-i10").await;
    let [prompt, answer] = exchange(&client, session, "one").await;
    let path = format!("/messages/{answer}/feedback");
    let body = json!({"rating": -1, "comment": "too long"});
    let rated = expect(&client, Method::POST, &path, Some(body.clone()), 200).await;
    assert_eq!(rated["feedback"], body);
    expect(&client, Method::POST, &path, Some(json!({"rating": 1})), 200).await;
    assert_eq!(client.message(&answer).await["feedback"], json!({"rating": 1, "comment": null}));
    for (message, body, status) in [
        (&answer, json!({"rating": 0}), 400),
        (&answer, json!({"rating": 2}), 400),
        (&answer, json!({"rating": 1, "comment": "x".repeat(2_001)}), 400),
        (&answer, json!({}), 400),
        (&prompt, json!({"rating": 1}), 400),
    ] {
        expect(&client, Method::POST, &format!("/messages/{message}/feedback"), Some(body), status).await;
    }
    expect(&stranger, Method::POST, &path, Some(json!({"rating": 1})), 404).await;
    expect(&client, Method::DELETE, &path, None, 204).await;
    expect(&client, Method::DELETE, &path, None, 204).await;
    assert_eq!(client.message(&answer).await.get("feedback"), None);
    assert_eq!(deployment.count("SELECT count(*) FROM events WHERE event_type LIKE 'feedback_%'").await, 3);
    assert_eq!(deployment.count("SELECT count(*) FROM events WHERE payload::text LIKE '%too long%'").await, 0);
}

#[tokio::test]
async fn a_deleted_message_goes_with_everything_under_it() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo-n40-i10").await;
    let [p1, a1] = exchange(&client, session, "one").await;
    let [p2, a2] = exchange(&client, session, "two").await;
    let other = again(&client, &a1, json!({})).await;
    expect(&client, Method::POST, &format!("/messages/{a1}/activate"), None, 200).await;
    let stranger = Client::register(&all.url()).await;
    expect(&stranger, Method::DELETE, &format!("/messages/{a1}"), None, 404).await;
    expect(&client, Method::DELETE, &format!("/messages/{a1}"), None, 204).await;
    for gone in [&a1, &p2, &a2] {
        expect(&client, Method::GET, &format!("/messages/{gone}"), None, 404).await;
        expect(&client, Method::POST, &format!("/messages/{gone}/activate"), None, 404).await;
        expect(&client, Method::DELETE, &format!("/messages/{gone}"), None, 404).await;
    }
    let reply = json!({"session_id": session, "content": "x", "parent_id": a2});
    expect(&client, Method::POST, "/chat/completions/sync", Some(reply), 404).await;
    assert_eq!(client.thread(session, false).await, [&p1, &other].map(String::as_str));
    assert_eq!(client.thread(session, true).await.len(), 2);
    assert_eq!(client.message(&other).await["versions"], 1);
    let about = expect(&client, Method::GET, &format!("/sessions/{session}"), None, 200).await;
    assert_eq!(about["message_count"], 2);
    // The conversation goes on beside it; with the first prompt all is gone, and it begins anew.
    let [p3, _] = exchange(&client, session, "three").await;
    assert_eq!(client.message(&p3).await["parent_id"], other.as_str());
    expect(&client, Method::DELETE, &format!("/messages/{p1}"), None, 204).await;
    assert!(client.thread(session, false).await.is_empty());
    let [p4, _] = exchange(&client, session, "four").await;
    assert_eq!(client.message(&p4).await["parent_id"], Value::Null);
    // The view says the same when it is built anew.
    let behind =
        "SELECT count(*) FROM events, read.checkpoints c WHERE (events.xid, events.position) > (c.xid, c.position)";
    eventually("the views are level", async || (deployment.count(behind).await == 0).then_some(())).await;
    let rows = "SELECT md5(string_agg(m::text, '|' ORDER BY id)) FROM read.messages AS m";
    let live = deployment.text(rows).await;
    deployment.run(&["rebuild", "message_thread_v1"]).await;
    assert_eq!(deployment.text(rows).await, live);
}

#[tokio::test]
async fn nothing_is_deleted_or_asked_again_while_it_is_in_the_making() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo-n300-i10").await;
    let mut stream = client.ask(session, "one").await;
    stream.until_pieces(3).await;
    let (answer, prompt) = (stream.message_id(), id(&stream.seen[0].data["user_message_id"]));
    for message in [&answer, &prompt] {
        expect(&client, Method::DELETE, &format!("/messages/{message}"), None, 409).await;
        expect(&client, Method::POST, &format!("/messages/{message}/regenerate"), None, 409).await;
    }
    expect(&client, Method::POST, &format!("/messages/{answer}/feedback"), Some(json!({"rating": 1})), 409).await;
    expect(&client, Method::POST, "/chat/stop", Some(json!({"message_id": prompt})), 202).await;
    assert_eq!(stream.to_end().await.data["finish_reason"], "stopped");
    expect(&client, Method::DELETE, &format!("/messages/{prompt}"), None, 204).await;
    expect(&client, Method::GET, &format!("/messages/{answer}"), None, 404).await;
}

#[tokio::test]
async fn messages_are_pinned_quoted_and_paged() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo-n40-i10").await;
    let [p1, a1] = exchange(&client, session, "one").await;
    let pinned = expect(&client, Method::POST, &format!("/messages/{a1}/pin"), None, 200).await;
    assert_eq!(pinned["is_pinned"], true);
    expect(&client, Method::DELETE, &format!("/messages/{a1}/pin"), None, 204).await;
    assert_eq!(client.message(&a1).await["is_pinned"], false);
    let body = json!({"session_id": session, "content": "about that", "quote_message_id": p1});
    let answer = client.say(body).await;
    let (p2, a2) = (id(&answer["parent_id"]), id(&answer["id"]));
    assert_eq!(client.message(&p2).await["quote_message_id"], p1.as_str());
    let page = |before: &str| format!("/messages/session/{session}?limit=2&before={before}");
    let (_, last) = client.call(Method::GET, &format!("/messages/session/{session}?limit=2"), None).await;
    assert_eq!((&last["data"][0]["id"], &last["data"][1]["id"]), (&json!(p2), &json!(a2)));
    assert_eq!(last["meta"]["next_before"], p2.as_str());
    let (_, first) = client.call(Method::GET, &page(&p2), None).await;
    assert_eq!((&first["data"][0]["id"], &first["data"][1]["id"]), (&json!(p1), &json!(a1)));
    assert_eq!(first["meta"]["next_before"], Value::Null);
    expect(&client, Method::GET, &page(&Uuid::now_v7().to_string()), None, 404).await;
}

/// A deletion that holds the session's door, and dawdles there.
async fn begin_to_delete(
    deployment: &Deployment,
    client: &Client,
    session: Uuid,
    path: String,
) -> JoinHandle<StatusCode> {
    let client = client.clone();
    let deleting = tokio::spawn(async move { client.call(Method::DELETE, &path, None).await.0 });
    eventually("the deletion is under way", async || {
        deployment.holds_door(session, "ExclusiveLock").await.then_some(())
    })
    .await;
    deleting
}

#[tokio::test]
async fn a_prompt_that_comes_while_its_parent_is_deleted_is_refused() {
    let deployment = Deployment::new(&[]).await;
    // The second command on a session is the deletion: it dawdles before it is there for others to see.
    let slow = "store.before_commit.session=sleep:2000@2*1";
    let all = deployment.start_with("all", "POLYPHONY_FAILPOINTS", slow).await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo-n40-i10").await;
    let [_, a1] = exchange(&client, session, "one").await;
    let deleting = begin_to_delete(&deployment, &client, session, format!("/messages/{a1}")).await;
    let before = deployment.count("SELECT count(*) FROM events").await;
    let reply = |parent: Option<&String>| json!({"session_id": session, "content": "two", "parent_id": parent});
    let regenerate = format!("/messages/{a1}/regenerate");
    let (given, found, again) = tokio::join!(
        client.call(Method::POST, "/chat/completions/sync", Some(reply(Some(&a1)))),
        client.call(Method::POST, "/chat/completions/sync", Some(reply(None))),
        client.call(Method::POST, &regenerate, Some(json!({}))),
    );
    assert_eq!(deleting.await.unwrap(), 204);
    for (status, refused) in [given, found, again] {
        assert_eq!((status.as_u16(), &refused["error"]["code"]), (409, &json!("CONFLICT")), "{refused}");
    }
    // The deletion, and nothing else.
    assert_eq!(deployment.count("SELECT count(*) FROM events").await, before + 1);
}

#[tokio::test]
async fn a_prompt_that_comes_while_its_session_is_deleted_is_refused() {
    let deployment = Deployment::new(&[]).await;
    // The second command on a session is the deletion: it dawdles before it is there for others to see.
    let slow = "store.before_commit.session=sleep:2000@2*1";
    let all = deployment.start_with("all", "POLYPHONY_FAILPOINTS", slow).await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo-n40-i10").await;
    let [_, a1] = exchange(&client, session, "one").await;
    let deleting = begin_to_delete(&deployment, &client, session, format!("/sessions/{session}")).await;
    let before = deployment.count("SELECT count(*) FROM events").await;
    let reply = json!({"session_id": session, "content": "two"});
    let regenerate = format!("/messages/{a1}/regenerate");
    let (asked, again) = tokio::join!(
        client.call(Method::POST, "/chat/completions/sync", Some(reply.clone())),
        client.call(Method::POST, &regenerate, Some(json!({}))),
    );
    assert_eq!(deleting.await.unwrap(), 204);
    for (status, refused) in [asked, again] {
        assert_eq!((status.as_u16(), &refused["error"]["code"]), (409, &json!("CONFLICT")), "{refused}");
    }
    assert_eq!(deployment.count("SELECT count(*) FROM events").await, before + 1);
    // Restored, it goes on.
    expect(&client, Method::POST, "/chat/completions/sync", Some(reply), 404).await;
    expect(&client, Method::POST, &format!("/sessions/{session}/restore"), None, 200).await;
    exchange(&client, session, "two").await;
}

#[tokio::test]
async fn a_deletion_sees_the_prompt_that_came_just_before_it() {
    let deployment = Deployment::new(&[]).await;
    let roles = tokio::join!(deployment.start("worker"), deployment.start("relay"), deployment.start("projector"));
    // The second command on a turn of this node is the second prompt.
    let slow = "store.before_commit.turn=sleep:2000@2*1";
    let api = deployment.start_with("api", "POLYPHONY_FAILPOINTS", slow).await;
    let client = Client::register(&api.url()).await;
    let session = client.session("demo-n300-i10").await;
    let [_, a1] = exchange(&client, session, "one").await;
    let asking = {
        let (client, body) = (client.clone(), json!({"session_id": session, "content": "two", "parent_id": a1}));
        tokio::spawn(async move { client.stream("/chat/completions", body).await })
    };
    eventually("the prompt is under way", async || deployment.holds_door(session, "ShareLock").await.then_some(()))
        .await;
    expect(&client, Method::DELETE, &format!("/messages/{a1}"), None, 409).await;
    let mut stream = asking.await.unwrap();
    assert_eq!(stream.to_end().await.event, "done");
    assert_eq!(client.thread(session, false).await.len(), 4);
    expect(&client, Method::DELETE, &format!("/messages/{a1}"), None, 204).await;
    expect(&client, Method::GET, &format!("/messages/{}", stream.message_id()), None, 404).await;
    drop(roles);
}
