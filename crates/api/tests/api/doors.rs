//! Registering and signing in: what is unique, what looks the same, and what is held up.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::{
    node::Deployment,
    person::{PASSWORD, Person, read},
};

#[tokio::test]
async fn an_address_is_registered_once_whatever_its_case() {
    let deployment = Deployment::new().await;
    let node = deployment.node_set(|config| config.admin.email = "Root@Example.org".into()).await;
    let stranger = Person::stranger(&node.url);
    let register = async |email: &str| {
        stranger.post("/auth/register", json!({"email": email, "password": PASSWORD, "nickname": "艾达"})).await
    };
    let ada = register("  Ada@Example.org ").await;
    assert_eq!(ada.status, 201, "{}", ada.body);
    assert_eq!((&ada.data()["token_type"], &ada.data()["expires_in"]), (&json!("Bearer"), &json!(900)));
    let user = &ada.data()["user"];
    assert_eq!((&user["email"], &user["nickname"]), (&json!("Ada@Example.org"), &json!("艾达")));
    assert_eq!((&user["role"], &user["status"]), (&json!("user"), &json!("active")));
    assert!(user["created_at"].is_string() && user["last_login_at"].is_string());
    assert_eq!(register("ada@example.ORG").await.refusal(), (409, "EMAIL_TAKEN"));
    assert_eq!(register("root@example.org").await.data()["user"]["role"], "admin");
    // Ten at once: one account, on whichever connection.
    let racing = futures::future::join_all((0..10).map(|_| register("race@example.org"))).await;
    assert_eq!(racing.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(racing.iter().filter(|answer| answer.status != 201).all(|answer| answer.refusal() == (409, "EMAIL_TAKEN")));
    assert_eq!(deployment.events_of("account_registered").await, 3);
    for (body, field) in [
        (json!({"email": "nonsense", "password": PASSWORD}), "email"),
        (json!({"email": "a@example.org", "password": "x".repeat(9)}), "password"),
        (json!({"email": "a@example.org", "password": "x".repeat(129)}), "password"),
        (json!({"email": "a@example.org", "password": PASSWORD, "nickname": "x".repeat(101)}), "nickname"),
        (json!({"email": "a@example.org", "password": PASSWORD, "role": "admin"}), "role"),
    ] {
        let answer = stranger.post("/auth/register", body.clone()).await;
        assert_eq!((answer.refusal(), answer.field().as_str()), ((400, "VALIDATION_FAILED"), field), "{body}");
        assert!(!answer.body.to_string().contains("xxxxx"), "the password isn't repeated");
    }
    // Nothing of a long password is cut off.
    let long = "界".repeat(128);
    let body = json!({"email": "long@example.org", "password": long});
    assert_eq!(stranger.post("/auth/register", body).await.status, 201);
    assert_eq!(stranger.login("long@example.org", &long).await.status, 200);
    assert_eq!(stranger.login("long@example.org", &"界".repeat(127)).await.status, 401);
    assert_eq!(stranger.login("long@example.org", &"界".repeat(129)).await.status, 401);
}

#[tokio::test]
async fn an_unknown_address_and_a_wrong_password_look_the_same() {
    let deployment = Deployment::new().await;
    let node = deployment.node_set(|config| config.limits.relaxed = true).await;
    let person = Person::register(&node.url).await;
    let (mut known, mut unknown) = (vec![], vec![]);
    for _ in 0..9 {
        for (email, times) in [(person.email.as_str(), &mut known), ("nobody@example.org", &mut unknown)] {
            let begun = Instant::now();
            let answer = person.login(email, "wrong horse battery").await;
            times.push(begun.elapsed());
            assert_eq!(answer.refusal(), (401, "INVALID_CREDENTIALS"));
            assert_eq!(answer.body["error"]["details"], json!({}));
            assert!(answer.cookies().is_empty());
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    };
    let ratio = median(known) / median(unknown);
    // One password check each; without one the answer would come ten times as fast.
    assert!((0.5..2.0).contains(&ratio), "{ratio}");
}

#[tokio::test]
async fn guessing_is_held_up_and_a_known_browser_is_not() {
    let deployment = Deployment::new().await;
    let node = deployment.node().await;
    let person = Person::register(&node.url).await;
    let signed_in = person.post("/auth/login?cookie=true", json!({"email": person.email, "password": PASSWORD})).await;
    let device = signed_in.cookies().into_iter().find(|cookie| cookie.contains("-device=")).unwrap();
    let device = device.split(';').next().unwrap().to_owned();
    let guess = async |email: &str, index: usize| {
        // Whatever a guesser says of where he comes from.
        let request = person.request(Method::POST, "/auth/login").header("x-forwarded-for", format!("192.0.2.{index}"));
        let request = request.header("forwarded", format!("for=198.51.100.{index}")).header("x-real-ip", "203.0.113.1");
        read(request.json(&json!({"email": email, "password": "wrong horse battery"}))).await
    };
    for email in [person.email.as_str(), "nobody@example.org"] {
        for index in 0..10 {
            let answer = guess(email, index).await;
            assert_eq!(answer.refusal(), (401, "INVALID_CREDENTIALS"), "{index}");
            assert!(answer.headers.contains_key("ratelimit") && answer.headers.contains_key("ratelimit-policy"));
        }
        let held = guess(email, 10).await;
        assert_eq!(held.refusal(), (429, "RATE_LIMITED"));
        let wait: u64 = held.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((20..=30).contains(&wait), "{wait}");
    }
    // The right password doesn't help whoever may be the guesser; the owner's own browser does.
    assert_eq!(person.login(&person.email, PASSWORD).await.refusal(), (429, "RATE_LIMITED"));
    let known = person.request(Method::POST, "/auth/login").header("cookie", &device);
    let known = read(known.json(&json!({"email": person.email, "password": PASSWORD}))).await;
    assert_eq!(known.status, 200, "{}", known.body);
    // Others are not held up by it, and nor is who is signed in.
    let other = Person::register(&node.url).await;
    assert_eq!(other.login(&other.email, PASSWORD).await.status, 200);
    assert!(person.is_signed_in().await);
}

#[tokio::test]
async fn a_flood_at_the_door_is_held_up_unless_limits_are_relaxed() {
    let deployment = Deployment::new().await;
    let (strict, relaxed) = tokio::join!(deployment.node(), deployment.node_set(|config| config.limits.relaxed = true));
    for (node, is_strict) in [(&strict, true), (&relaxed, false)] {
        let stranger = Person::stranger(&node.url);
        let mut refused = 0;
        for index in 0..150 {
            let answer = stranger.exchange(&format!("rt_{index}")).await;
            refused += u32::from(answer.refusal() == (429, "RATE_LIMITED"));
            assert_eq!(answer.headers.contains_key("ratelimit"), is_strict);
        }
        assert_eq!(refused > 0, is_strict);
    }
}
