//! Titles that models find, settings of models and of people.

use polyphony_tests::{Client, Deployment, Peer, SAYS, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

async fn put(client: &Client, path: &str, body: Value) -> (u16, Value) {
    let (status, answer) = client.call(Method::PUT, path, Some(body)).await;
    (status.as_u16(), answer)
}

async fn session(client: &Client, id: Uuid) -> Value {
    client.call(Method::GET, &format!("/sessions/{id}"), None).await.1["data"].clone()
}

const FOLLOW_UPS: &str = "SELECT count(*) FROM ops.follow_ups";
const HIDDEN: &str = "SELECT count(*) FROM events WHERE event_type = 'prompt_posted' \
    AND payload #>> '{prompt_posted,purpose,kind}' = 'title'";

#[tokio::test]
async fn a_model_finds_a_title_in_a_turn_that_nobody_sees() {
    let peer = Peer::start().await;
    let deployment = Deployment::with_peer(&peer).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let id = client.session("lab/teller").await;
    let answer = client.say(json!({"session_id": id, "content": "what shall I drink, after all this time?"})).await;
    eventually("the title is found", async || (session(&client, id).await["title"] == SAYS).then_some(())).await;
    // It is billed, and shown nowhere.
    let about = session(&client, id).await;
    assert_eq!((&about["message_count"], &about["tokens_output"]), (&json!(2), &json!(4)));
    assert_eq!(client.thread(id, true).await.len(), 2);
    assert_eq!(client.thread(id, false).await.len(), 2);
    eventually("both are counted", async || {
        let (_, overview) = client.call(Method::GET, "/stats/overview", None).await;
        (overview["data"]["requests"] == 2).then_some(())
    })
    .await;
    let hidden = deployment.text("SELECT answer_id::text FROM ops.answers ORDER BY answer_id DESC LIMIT 1").await;
    let hidden = if hidden == answer["id"].as_str().unwrap() {
        deployment.text("SELECT answer_id::text FROM ops.answers ORDER BY answer_id LIMIT 1").await
    } else {
        hidden
    };
    assert_eq!(client.call(Method::GET, &format!("/messages/{hidden}"), None).await.0, 404);
    let actor = "SELECT metadata->>'actor' FROM events WHERE event_type = 'session_renamed'";
    assert_eq!(deployment.text(actor).await, "system");
    // The conversation goes on from its own answer, and is named once.
    let next = client.say(json!({"session_id": id, "content": "why?"})).await;
    let prompt = client.message(next["parent_id"].as_str().unwrap()).await;
    assert_eq!(prompt["parent_id"], answer["id"]);
    assert_eq!((deployment.count(HIDDEN).await, deployment.count(FOLLOW_UPS).await), (1, 0));
}

#[tokio::test]
async fn no_title_is_found_where_nobody_wants_one() {
    let peer = Peer::start().await;
    let deployment = Deployment::with_peer(&peer).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    // The demo can't, a person has named it, or wants none.
    let demo = client.session("demo-n40-i10").await;
    client.say(json!({"session_id": demo, "content": "hello"})).await;
    let named = client.session("lab/teller").await;
    assert_eq!(put(&client, &format!("/sessions/{named}"), json!({"title": "Mine"})).await.0, 200);
    client.say(json!({"session_id": named, "content": "hello"})).await;
    assert_eq!(put(&client, "/users/me/settings", json!({"auto_title": false})).await.0, 200);
    let unwanted = client.session("lab/teller").await;
    client.say(json!({"session_id": unwanted, "content": "hello"})).await;
    eventually("nothing is left to follow", async || (deployment.count(FOLLOW_UPS).await == 0).then_some(())).await;
    assert_eq!(deployment.count(HIDDEN).await, 0);
    assert_eq!(session(&client, named).await["title"], "Mine");
    assert_eq!(session(&client, unwanted).await["title"], "hello");
}

#[tokio::test]
async fn settings_of_a_model_complete_what_a_request_leaves_open() {
    let peer = Peer::start().await;
    let deployment = Deployment::with_peer(&peer).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let path = "/models/teller/config";
    let (_, empty) = client.call(Method::GET, path, None).await;
    assert_eq!((&empty["data"]["temperature"], &empty["data"]["fallback_model_ids"]), (&Value::Null, &json!([])));
    let config = json!({"temperature": 0.5, "max_tokens": 99, "system_prompt": "Speak softly.",
        "fallback_model_ids": ["lab/scribe", "openai/gpt-4o"]});
    let (status, kept) = put(&client, path, config).await;
    assert_eq!((status, &kept["data"]["max_tokens"]), (200, &json!(99)), "{kept}");
    for wrong in [
        json!({"temperature": 2.1}),
        json!({"temperature": -0.1}),
        json!({"top_p": 1.5}),
        json!({"max_tokens": 0}),
        json!({"max_tokens": 1_000_000}),
        json!({"fallback_model_ids": ["nobody"]}),
        json!({"fallback_model_ids": ["lab/teller"]}),
        json!({"system_prompt": "x".repeat(33 * 1024)}),
        json!({"mood": "good"}),
    ] {
        let (status, answer) = put(&client, path, wrong.clone()).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("VALIDATION_FAILED")), "{wrong}");
    }
    assert_eq!(put(&client, "/models/nobody/config", json!({})).await.0, 404);
    let id = client.session("lab/teller").await;
    client.say(json!({"session_id": id, "content": "one", "params": {"temperature": 1.5}})).await;
    let asked = peer.asked().into_iter().find(|body| body.to_string().contains("\"one\"")).unwrap();
    assert_eq!((&asked["temperature"], &asked["messages"][0]["content"]), (&json!(1.5), &json!("Speak softly.")));
    assert!(asked.to_string().contains("99"), "{asked}");
    // Only those that the person could use are kept to turn to.
    let fallbacks = "SELECT payload #>> '{answer_requested,fallbacks}' FROM events \
        WHERE event_type = 'answer_requested' ORDER BY position LIMIT 1";
    let fallbacks: Value = serde_json::from_str(&deployment.text(fallbacks).await).unwrap();
    assert_eq!((fallbacks.as_array().unwrap().len(), &fallbacks[0]["name"]), (1, &json!("scribe")));
    // The session's word comes first; null takes a setting back; nobody else has them.
    assert_eq!(put(&client, &format!("/sessions/{id}"), json!({"system_prompt": "Shout."})).await.0, 200);
    client.say(json!({"session_id": id, "content": "two"})).await;
    let asked = peer.asked().into_iter().find(|body| body.to_string().contains("\"two\"")).unwrap();
    assert_eq!((&asked["temperature"], &asked["messages"][0]["content"]), (&json!(0.5), &json!("Shout.")));
    let (_, kept) = put(&client, path, json!({"temperature": null})).await;
    assert_eq!((&kept["data"]["temperature"], &kept["data"]["max_tokens"]), (&Value::Null, &json!(99)));
    let stranger = Client::register(&all.url()).await;
    assert_eq!(stranger.call(Method::GET, path, None).await.1["data"]["max_tokens"], Value::Null);
}

#[tokio::test]
async fn people_have_settings_and_a_model_of_their_own() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let path = "/users/me/settings";
    let (_, first) = client.call(Method::GET, path, None).await;
    assert_eq!((&first["data"]["theme"], &first["data"]["auto_title"]), (&json!("system"), &json!(true)));
    let body =
        json!({"theme": "dark", "language": "zh-CN", "default_model_id": "demo-n40-i10", "sidebar": {"open": true}});
    let (status, kept) = put(&client, path, body).await;
    assert_eq!((status, &kept["data"]["custom"]), (200, &json!({"sidebar": {"open": true}})), "{kept}");
    assert_eq!(kept["data"]["default_model_id"], "demo/demo-n40-i10");
    for wrong in [
        json!({"theme": "pink"}),
        json!({"language": "not a language"}),
        json!({"auto_title": "yes"}),
        json!({"default_model_id": "nobody"}),
        json!({"custom": []}),
        json!({"big": "x".repeat(8 * 1024)}),
    ] {
        let (status, answer) = put(&client, path, wrong.clone()).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("VALIDATION_FAILED")), "{wrong}");
    }
    // Of two values for one setting nobody knows which is meant.
    for (twice, field) in [
        (r#"{"theme":"dark","theme":"light"}"#, "theme"),
        (r#"{"custom":{"a":1,"a":2}}"#, "custom.a"),
        (r#"{"mine":1,"mine":1}"#, "mine"),
    ] {
        let request = client.request(Method::PUT, path).header("content-type", "application/json").body(twice);
        let (status, answer) = polyphony_tests::read(request.send().await.unwrap()).await;
        assert_eq!(status, 400, "{answer}");
        let fields = answer["error"]["details"]["fields"].as_object().unwrap();
        assert!(fields.keys().any(|name| name.ends_with(field) || field.ends_with(name.as_str())), "{answer}");
    }
    let (_, me) = client.call(Method::GET, "/users/me", None).await;
    assert_eq!(me["data"]["settings"], kept["data"]);
    assert_eq!(deployment.count("SELECT count(*) FROM events WHERE payload::text LIKE '%zh-CN%'").await, 0);
    // A turn takes its model from the request, else the session, else the person's default.
    let (_, opened) = client.call(Method::POST, "/sessions", Some(json!({}))).await;
    let id: Uuid = opened["data"]["id"].as_str().unwrap().parse().unwrap();
    let say = async |extra: Value| {
        let mut body = json!({"session_id": id, "content": "hello"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        client.say(body).await["model"].clone()
    };
    assert_eq!(say(json!({})).await, "demo-n40-i10");
    let (status, switched) = put(&client, &format!("/sessions/{id}"), json!({"model_id": "demo"})).await;
    assert_eq!((status, &switched["data"]["model"]), (200, &json!("demo/demo")));
    assert_eq!(say(json!({})).await, "demo");
    assert_eq!(say(json!({"model_id": "demo-n40-i10"})).await, "demo-n40-i10");
    assert_eq!(put(&client, &format!("/sessions/{id}"), json!({"model_id": "nobody"})).await.0, 400);
}

#[tokio::test]
async fn sessions_are_put_away_and_taken_out_again() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let id = client.session("demo").await;
    let listed = async |archived: bool| {
        let (_, list) = client.call(Method::GET, &format!("/sessions?archived={archived}"), None).await;
        list["meta"]["total"].as_u64().unwrap()
    };
    for (verb, is_archived) in [("archive", true), ("archive", true), ("unarchive", false), ("unarchive", false)] {
        let (status, answer) = client.call(Method::POST, &format!("/sessions/{id}/{verb}"), None).await;
        assert_eq!((status.as_u16(), answer["data"]["archived_at"].is_null()), (200, !is_archived));
        assert_eq!((listed(true).await, listed(false).await), (u64::from(is_archived), u64::from(!is_archived)));
    }
    let stranger = Client::register(&all.url()).await;
    assert_eq!(stranger.call(Method::POST, &format!("/sessions/{id}/archive"), None).await.0, 404);
}
