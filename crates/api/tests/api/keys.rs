//! Provider keys: where they may be sent, and how little of them is seen again.

use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::{
    node::Deployment,
    person::{Person, read},
};

#[tokio::test]
async fn a_key_goes_to_public_hosts_only() {
    let deployment = Deployment::new().await;
    let node = deployment.node_set(|config| config.egress.allow = "127.0.0.1:11434".into()).await;
    let person = Person::register(&node.url).await;
    let before = deployment.events().await;
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "0",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "198.18.0.1",
        "192.0.0.1",
        "localhost.",
        "a:b@api.openai.com",
        "api.openai.com:22",
        "api.openai.com:5432",
        "allowed#@127.0.0.1:8080\\@127.0.0.1",
    ] {
        for scheme in ["https", "http"] {
            let base_url = format!("{scheme}://{host}/v1");
            let body = json!({"provider": "openai", "api_key": "sk-0123456789abcdef0123", "base_url": base_url});
            let answer = person.post("/keys", body).await;
            assert!([(422, "EGRESS_BLOCKED"), (400, "VALIDATION_FAILED")].contains(&answer.refusal()), "{base_url}");
            assert!(host.starts_with("allowed") || answer.refusal().0 == 422, "{base_url}");
        }
    }
    let plain = json!({"provider": "openai", "api_key": "sk-1", "base_url": "http://api.example.com/"});
    assert_eq!(person.post("/keys", plain).await.refusal(), (422, "EGRESS_BLOCKED"));
    assert_eq!(deployment.events().await, before);
    let allowed = json!({"provider": "openai", "api_key": "sk-1", "base_url": "http://127.0.0.1:11434/v1"});
    assert_eq!(person.post("/keys", allowed).await.status, 201);
}

#[tokio::test]
async fn of_a_key_only_its_end_is_seen_again() {
    let deployment = Deployment::new().await;
    let node = deployment.node().await;
    let (person, stranger) = tokio::join!(Person::register(&node.url), Person::register(&node.url));
    let secret = "sk-CANARY-0123456789abcdef";
    let body = json!({"provider": "openai", "api_key": secret, "name": "work", "priority": 1});
    let add = || person.request(Method::POST, "/keys").header("idempotency-key", "k").json(&body);
    let (added, again) = (read(add()).await, read(add()).await);
    assert_eq!((added.status.as_u16(), added.text("key_hint").as_str()), (201, "…cdef"), "{}", added.body);
    assert_eq!((&added.body, &added.headers["location"]), (&again.body, &again.headers["location"]));
    let short = person.post("/keys", json!({"provider": "openai", "api_key": "sk-short"})).await;
    assert_eq!((short.text("key_hint").as_str(), short.text("name").as_str()), ("••••", "openai"));
    let keys = person.get("/keys").await;
    assert_eq!(keys.data().as_array().unwrap().len(), 2);
    assert!(!keys.body.to_string().contains("CANARY"));
    let models = person.get("/models?provider=openai").await;
    assert!(models.data().as_array().unwrap().iter().all(|model| model["has_key"] == true));
    assert!(!models.body.to_string().contains("base_url"));

    for (body, field) in [
        (json!({"provider": "none", "api_key": "sk-1"}), "provider"),
        (json!({"provider": "demo", "api_key": "sk-1"}), "provider"),
        (json!({"provider": "openai"}), "api_key"),
        (json!({"provider": "openai", "api_key": ""}), "api_key"),
        (json!({"provider": "openai", "api_key": "sk 1\r\nX: y"}), "api_key"),
        (json!({"provider": "openai", "api_key": "x".repeat(513)}), "api_key"),
        (json!({"provider": "openai", "mode": "client", "key_id": "x", "ciphertext": "x", "nonce": "x"}), "mode"),
        (json!({"provider": "openai", "mode": "nonsense", "api_key": "sk-1"}), "mode"),
        (json!({"provider": "openai", "api_key": "sk-1", "ciphertext": "x"}), "ciphertext"),
        (json!({"provider": "openai", "api_key": "sk-1", "is_valid": true}), "is_valid"),
        (json!({"provider": "openai", "api_key": "sk-1", "user_id": Uuid::now_v7()}), "user_id"),
        (json!({"provider": "openai", "api_key": "sk-1", "base_url": "nonsense"}), "base_url"),
    ] {
        let answer = person.post("/keys", body.clone()).await;
        assert_eq!((answer.refusal(), answer.field().as_str()), ((400, "VALIDATION_FAILED"), field), "{body}");
    }

    let path = format!("/keys/{}", added.text("id"));
    let (foreign, none) = (stranger.delete(&path).await, stranger.delete(&format!("/keys/{}", Uuid::now_v7())).await);
    assert_eq!((foreign.refusal(), &foreign.body), ((404, "NOT_FOUND"), &none.body));
    assert_eq!(stranger.get("/keys").await.data(), &json!([]));
    assert_eq!(person.delete(&path).await.status, 204);
    assert_eq!(person.delete(&path).await.refusal(), (404, "NOT_FOUND"));
    assert_eq!(person.get("/keys").await.data().as_array().unwrap().len(), 1);
}
