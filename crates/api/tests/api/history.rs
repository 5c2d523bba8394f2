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
