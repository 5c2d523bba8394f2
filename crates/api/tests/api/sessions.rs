//! Sessions: opened once, read at once, nobody else's.

use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::{
    node::Deployment,
    person::{Person, read},
};

#[tokio::test]
async fn a_session_is_opened_once_however_often_it_is_asked_for() {
    let deployment = Deployment::new().await;
    let (node, other) = tokio::join!(deployment.node(), deployment.node());
    let person = Person::register(&node.url).await;
    let elsewhere = person.at(&other.url);
    let body = json!({"title": "Plans", "model_id": "demo/demo", "system_prompt": "Be brief.", "mcp_server_ids": []});
    let open = async |person: &Person, key: &str, body: &serde_json::Value| {
        read(person.request(Method::POST, "/sessions").header("idempotency-key", key).json(body)).await
    };
    let first = open(&person, "one", &body).await;
    assert_eq!(first.status, 201, "{}", first.body);
    assert_eq!(first.headers["location"].to_str().unwrap(), format!("/api/v1/sessions/{}", first.text("id")));
    let again = open(&elsewhere, "one", &body).await;
    assert_eq!(
        (again.status, &again.body, &again.headers["location"]),
        (first.status, &first.body, &first.headers["location"])
    );
    let different = open(&person, "one", &json!({"title": "Other plans"})).await;
    assert_eq!(different.refusal(), (409, "CONFLICT"));

    // Twenty at once, on two nodes: one session.
    let racing = (0..20).map(|index| {
        let person = if index % 2 == 0 { &person } else { &elsewhere };
        open(person, "race", &body)
    });
    let answers = futures::future::join_all(racing).await;
    assert!(answers.iter().all(|answer| answer.status == 201 && answer.body == answers[0].body));
    assert_eq!(deployment.events_of("session_opened").await, 2);

    // Somebody else's key of the same name is another key.
    let stranger = Person::register(&node.url).await;
    assert_ne!(open(&stranger, "one", &body).await.text("id"), first.text("id"));
    for key in ["", &"x".repeat(256)] {
        let answer = open(&person, key, &body).await;
        assert_eq!((answer.refusal(), answer.field().as_str()), ((400, "VALIDATION_FAILED"), "Idempotency-Key"));
    }
}

#[tokio::test]
async fn what_was_written_is_read_at_once_on_every_node() {
    let deployment = Deployment::new().await;
    let (node, other) = tokio::join!(deployment.node(), deployment.node());
    let person = Person::register(&node.url).await;
    let elsewhere = person.at(&other.url);
    for round in 0..10 {
        let title = format!("Round {round}");
        let opened = person.post("/sessions", json!({"title": title, "model_id": "demo"})).await;
        let path = format!("/sessions/{}", opened.text("id"));
        assert_eq!(elsewhere.get(&path).await.text("title"), title);
        let changed = elsewhere.put(&path, json!({"title": "新的标题", "metadata": {"round": round}})).await;
        assert_eq!((changed.status.as_u16(), changed.text("title")), (200, "新的标题".to_owned()), "{}", changed.body);
        let seen = person.get(&path).await;
        assert_eq!((seen.text("title").as_str(), &seen.data()["metadata"]["round"]), ("新的标题", &json!(round)));
        let list = elsewhere.get("/sessions?limit=1").await;
        assert_eq!(list.data()[0]["id"], opened.data()["id"]);
        assert_eq!(list.body["meta"], json!({"page": 1, "limit": 1, "total": round + 1}));
    }
    let second = person.get("/sessions?limit=4&page=3").await;
    assert_eq!((second.data().as_array().unwrap().len(), &second.body["meta"]["total"]), (2, &json!(10)));
    assert_eq!(person.get("/sessions?archived=true").await.body["meta"]["total"], 0);
}

#[tokio::test]
async fn limits_of_a_session_and_somebody_elses() {
    let deployment = Deployment::new().await;
    let node = deployment.node().await;
    let (person, stranger) = tokio::join!(Person::register(&node.url), Person::register(&node.url));
    let id = person.post("/sessions", json!({})).await.text("id");
    let path = format!("/sessions/{id}");
    for (body, field) in [
        (json!({"title": "x".repeat(201)}), "title"),
        (json!({"title": ""}), "title"),
        (json!({"title": 7}), "title"),
        (json!({"system_prompt": "x".repeat(32 * 1024 + 1)}), "system_prompt"),
        (json!({"metadata": {"x": "y".repeat(8 * 1024)}}), "metadata"),
        (json!({"metadata": []}), "metadata"),
        (json!({"model_id": "no such model"}), "model_id"),
        (json!({"owner_id": Uuid::now_v7()}), "owner_id"),
        (json!({"share_code": "x"}), "share_code"),
    ] {
        let answer = person.put(&path, body.clone()).await;
        assert_eq!((answer.refusal(), answer.field().as_str()), ((400, "VALIDATION_FAILED"), field), "{body}");
    }
    for (body, field) in [
        (json!({"model_id": "none"}), "model_id"),
        (json!({"model_id": "../../v1/files"}), "model_id"),
        (json!({"mcp_server_ids": [Uuid::now_v7()]}), "mcp_server_ids"),
        (json!({"title": "a\u{0}b"}), "body"),
    ] {
        let answer = person.post("/sessions", body.clone()).await;
        assert_eq!((answer.refusal(), answer.field().as_str()), ((400, "VALIDATION_FAILED"), field), "{body}");
    }
    let longest = "界".repeat(200);
    assert_eq!(person.put(&path, json!({ "title": longest })).await.text("title"), longest);
    let by_id = person.get("/models/demo").await.text("id");
    for reference in [by_id.as_str(), "demo", "demo/demo"] {
        assert_eq!(
            person.post("/sessions", json!({"model_id": reference})).await.text("model_id"),
            by_id,
            "{reference}"
        );
    }

    // Somebody else's session and no session are told apart by nothing.
    let before = deployment.events().await;
    let nobody = format!("/sessions/{}", Uuid::now_v7());
    for (foreign, none) in [
        (stranger.get(&path).await, stranger.get(&nobody).await),
        (stranger.put(&path, json!({"title": "mine"})).await, stranger.put(&nobody, json!({"title": "mine"})).await),
    ] {
        assert_eq!(foreign.refusal(), (404, "NOT_FOUND"));
        assert_eq!(foreign.body, none.body);
    }
    assert_eq!(deployment.events().await, before);
    assert_eq!(stranger.get("/sessions").await.body["meta"]["total"], 0);
}
