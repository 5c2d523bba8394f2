//! Device sessions: refresh tokens that work once, access tokens that stop at once, everywhere.

use std::time::{Duration, Instant};

use polyphony_testkit::private_nats;
use reqwest::Method;
use serde_json::json;

use crate::{
    node::{Deployment, eventually},
    person::{PASSWORD, Person, read},
};

#[tokio::test]
async fn a_used_refresh_token_ends_its_family_and_no_other() {
    let deployment = Deployment::new().await;
    let node = deployment.node().await;
    let person = Person::register(&node.url).await;
    let other_device = person.login(&person.email, PASSWORD).await;
    let first = person.exchange(&person.refresh).await;
    assert_eq!(first.status, 200, "{}", first.body);
    assert_ne!(first.text("refresh_token"), person.refresh);
    assert!(person.with_token(first.text("access_token")).is_signed_in().await);
    assert_eq!(person.exchange(&person.refresh).await.refusal(), (401, "TOKEN_REUSED"));
    // The successor, its access token and the older one are void; so is trying again.
    assert_eq!(person.exchange(&first.text("refresh_token")).await.status, 401);
    assert!(!person.with_token(first.text("access_token")).is_signed_in().await);
    assert!(!person.is_signed_in().await);
    assert_eq!(person.exchange(&person.refresh).await.refusal(), (401, "TOKEN_REUSED"));
    assert_eq!(deployment.events_of("device_signed_out").await, 1);
    // The other device goes on.
    assert!(person.with_token(other_device.text("access_token")).is_signed_in().await);
    assert_eq!(person.exchange(&other_device.text("refresh_token")).await.status, 200);
    for nonsense in ["", "x", "rt_unknown", &"x".repeat(100_000), first.text("access_token").as_str()] {
        assert_eq!(person.exchange(nonsense).await.refusal(), (401, "UNAUTHORIZED"));
    }
}

#[tokio::test]
async fn of_a_refresh_token_presented_twice_at_once_at_most_one_lives() {
    let deployment = Deployment::new().await;
    let node = deployment.node().await;
    for _ in 0..5 {
        let person = Person::register(&node.url).await;
        let (one, other) = tokio::join!(person.exchange(&person.refresh), person.exchange(&person.refresh));
        let mut statuses = [one.status.as_u16(), other.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401], "{} {}", one.body, other.body);
        let winner = if one.status == 200 { one } else { other };
        // Which of the two was the thief nobody knows: the family is over.
        assert_eq!(person.exchange(&winner.text("refresh_token")).await.status, 401);
        assert!(!person.with_token(winner.text("access_token")).is_signed_in().await);
    }
}

#[tokio::test]
async fn signing_out_stops_the_access_token_within_a_second_even_where_no_message_arrives() {
    let deployment = Deployment::new().await;
    // The second node hears nothing of the first one's messages.
    let lonely = private_nats().await;
    let (node, deaf) = tokio::join!(deployment.node(), deployment.node_with(lonely.url(), |_| {}));
    let person = Person::register(&node.url).await;
    let elsewhere = person.at(&deaf.url);
    assert!(elsewhere.is_signed_in().await);
    let second = person.login(&person.email, PASSWORD).await;
    assert_eq!(read(person.request(Method::POST, "/auth/logout")).await.status, 204);
    let begun = Instant::now();
    assert!(!person.is_signed_in().await, "at once on the node that was asked");
    eventually("the token is void elsewhere", async || (!elsewhere.is_signed_in().await).then_some(())).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(person.exchange(&person.refresh).await.status, 401);
    // A node that starts now knows it from its first request on.
    let fresh = deployment.node().await;
    assert!(!person.at(&fresh.url).is_signed_in().await);

    // Only that device was signed out; `all` signs out the rest.
    let second = person.with_token(second.text("access_token"));
    let third = person.with_token(person.login(&person.email, PASSWORD).await.text("access_token"));
    assert!(second.is_signed_in().await);
    assert_eq!(second.post("/auth/logout", json!({"all": true})).await.status, 204);
    assert!(!second.is_signed_in().await && !third.is_signed_in().await);
}

#[tokio::test]
async fn a_browser_keeps_its_refresh_token_where_scripts_and_other_sites_cannot_reach_it() {
    let deployment = Deployment::new().await;
    let node = deployment.node().await;
    let person = Person::register(&node.url).await;
    let body = json!({"email": person.email, "password": PASSWORD, "device_name": "Firefox"});
    let signed_in = person.post("/auth/login?cookie=true", body).await;
    assert!(signed_in.data().get("refresh_token").is_none());
    let cookies = signed_in.cookies();
    assert_eq!(cookies.len(), 2);
    for cookie in &cookies {
        assert!(cookie.starts_with("__Host-polyphony-"), "{cookie}");
        assert!(cookie.contains("; Path=/; ") && cookie.ends_with("; HttpOnly; Secure; SameSite=Strict"), "{cookie}");
    }
    let pair = cookies[0].split(';').next().unwrap().to_owned();
    let refresh = |site: &'static str| {
        let request = Person::stranger(&node.url).request(Method::POST, "/auth/refresh?cookie=true");
        request.header("cookie", &pair).header("sec-fetch-site", site)
    };
    assert_eq!(read(refresh("cross-site")).await.refusal(), (403, "FORBIDDEN"));
    let renewed = read(refresh("same-origin")).await;
    assert_eq!(renewed.status, 200, "{}", renewed.body);
    assert!(renewed.data().get("refresh_token").is_none() && renewed.cookies().len() == 1);
    let reused = read(refresh("same-origin")).await;
    assert_eq!(reused.refusal(), (401, "TOKEN_REUSED"));
    assert!(reused.cookies()[0].contains("Max-Age=0"), "a dead cookie is taken back");
    let none = read(Person::stranger(&node.url).request(Method::POST, "/auth/refresh?cookie=true")).await;
    assert_eq!(none.refusal(), (400, "VALIDATION_FAILED"));

    // Logging out takes the cookie back.
    let again = person.post("/auth/login?cookie=true", json!({"email": person.email, "password": PASSWORD})).await;
    let cookie = again.cookies()[0].split(';').next().unwrap().to_owned();
    let person = person.with_token(again.text("access_token"));
    let out = read(person.request(Method::POST, "/auth/logout").header("cookie", cookie)).await;
    assert_eq!(out.status, 204);
    assert!(out.cookies()[0].starts_with("__Host-polyphony-refresh=; ") && out.cookies()[0].contains("Max-Age=0"));
}
