//! What happened in a session, and views as they were.

use serde_json::json;
use uuid::Uuid;

use crate::{node::Deployment, person::Person};

#[tokio::test]
async fn the_history_says_what_happened_when_and_by_whom() {
    let deployment = Deployment::new().await;
    let node = deployment.node().await;
    let (person, stranger) = tokio::join!(Person::register(&node.url), Person::register(&node.url));
    let opened = person.post("/sessions", json!({"title": "Plans"})).await;
    let path = format!("/sessions/{}", opened.text("id"));
    let mut seen = vec![person.get(&path).await.body];
    for round in 0..5 {
        person.put(&path, json!({ "title": format!("Plans {round}") })).await;
        seen.push(person.get(&path).await.body);
    }
    let history = person.get(&format!("{path}/history")).await;
    let events = history.data().as_array().unwrap().clone();
    assert_eq!(events.len(), 6, "{}", history.body);
    assert_eq!(history.body["meta"], json!({"limit": 50, "next_before": null}));
    for (index, event) in events.iter().enumerate() {
        let kind = if index == 0 { "session_opened" } else { "session_renamed" };
        assert_eq!(
            (&event["type"], &event["actor"], &event["aggregate"]),
            (&json!(kind), &json!("user"), &json!("session"))
        );
        assert_eq!((&event["ip"], &event["version"]), (&json!("127.0.0.1"), &json!("1")));
        assert_eq!(event["aggregate_id"], opened.data()["id"]);
        // The view at each event is the view that was read after it.
        for at in [event["position"].to_string(), event["at"].as_str().unwrap().to_owned()] {
            assert_eq!(person.get(&format!("{path}?at={at}")).await.body, seen[index], "{at}");
        }
    }
    assert_eq!(events[5]["data"], json!({"title": "Plans 4"}));
    // In pages, from the newest.
    let page = person.get(&format!("{path}/history?limit=4")).await;
    assert_eq!((page.data(), &page.body["meta"]["next_before"]), (&json!(events[2..]), &events[2]["event_id"]));
    let before = events[2]["event_id"].as_str().unwrap();
    let page = person.get(&format!("{path}/history?limit=4&before={before}")).await;
    assert_eq!((page.data(), &page.body["meta"]["next_before"]), (&json!(events[..2]), &json!(null)));
    let page = person.get(&format!("{path}/history?at={}", events[1]["position"])).await;
    assert_eq!(page.data(), &json!(events[..2]));
    for (wrong, refusal) in [
        (format!("{path}/history?before={}", Uuid::now_v7()), (404, "NOT_FOUND")),
        (format!("{path}/history?at=yesterday"), (400, "VALIDATION_FAILED")),
        (format!("{path}?at=yesterday"), (400, "VALIDATION_FAILED")),
        (format!("{path}?at=0"), (404, "NOT_FOUND")),
        (format!("/sessions/{}/history", Uuid::now_v7()), (404, "NOT_FOUND")),
    ] {
        assert_eq!(person.get(&wrong).await.refusal(), refusal, "{wrong}");
    }
    for path in [format!("{path}/history"), format!("{path}?at={}", events[1]["position"])] {
        assert_eq!(stranger.get(&path).await.refusal(), (404, "NOT_FOUND"), "{path}");
    }
}

#[tokio::test]
async fn the_trail_is_ones_own_and_can_be_searched() {
    let deployment = Deployment::new().await;
    let node = deployment.node().await;
    let (person, stranger) = tokio::join!(Person::register(&node.url), Person::register(&node.url));
    assert_eq!(person.login(&person.email, crate::person::PASSWORD).await.status, 200);
    let session = person.post("/sessions", json!({"title": "Plans"})).await.text("id");
    let token = person.post("/users/me/tokens", json!({"name": "ci"})).await.text("id");
    assert_eq!(person.delete(&format!("/users/me/tokens/{token}")).await.status, 204);
    assert_eq!(person.delete(&format!("/sessions/{session}")).await.status, 204);
    let kinds = async |query: &str| -> Vec<String> {
        let answer = person.get(&format!("/audit{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.data().as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    };
    let all = kinds("").await;
    assert_eq!(
        all,
        [
            "session_deleted",
            "access_token_revoked",
            "access_token_issued",
            "session_opened",
            "device_signed_in",
            "device_signed_in",
            "account_registered",
        ]
    );
    assert_eq!(kinds("?action=login").await, ["device_signed_in"; 2]);
    assert_eq!(kinds("?action=token_update,session_delete").await.len(), 3);
    assert_eq!(kinds(&format!("?aggregate_id={session}")).await, ["session_deleted", "session_opened"]);
    // In pages, and each of its events only once.
    let mut paged = vec![];
    let mut before = String::new();
    loop {
        let page = person.get(&format!("/audit?limit=2{before}")).await;
        paged.extend(page.data().as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()));
        let Some(next) = page.body["meta"]["next_before"].as_str() else { break };
        before = format!("&before={next}");
    }
    assert_eq!(paged, all);
    let first = person.get("/audit?limit=1").await.data()[0].clone();
    assert_eq!((&first["actor"], &first["ip"]), (&json!("user"), &json!("127.0.0.1")));
    let foreign = format!("/audit?before={}", first["event_id"].as_str().unwrap());
    assert_eq!(stranger.get(&foreign).await.refusal(), (404, "NOT_FOUND"));
    assert_eq!(stranger.get("/audit").await.data().as_array().unwrap().len(), 2);
    assert_eq!(person.get("/audit?action=,").await.refusal(), (400, "VALIDATION_FAILED"));
}
