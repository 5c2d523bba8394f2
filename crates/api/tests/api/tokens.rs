//! Access tokens that were tampered with, and personal access tokens.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{Duration, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    node::{Deployment, eventually},
    person::{Person, read},
};

fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

/// The token with another header or other claims under its old signature.
fn tampered(token: &str, change: impl FnOnce(&mut Value, &mut Value)) -> String {
    let (mut header, mut claims) = (part(token, 0), part(token, 1));
    change(&mut header, &mut claims);
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", encode(header), encode(claims), token.split('.').nth(2).unwrap())
}

#[tokio::test]
async fn an_access_token_counts_as_issued_or_not_at_all() {
    let deployment = Deployment::new().await;
    let node = deployment.node().await;
    let person = Person::register(&node.url).await;
    let token = person.token.clone().unwrap();
    let (header, claims) = (part(&token, 0), part(&token, 1));
    assert!(header["alg"] == "HS256" && header["kid"].is_string());
    for claim in ["sub", "sid", "iat", "exp", "iss", "aud"] {
        assert!(!claims[claim].is_null(), "{claim}");
    }
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
    let stranger = Person::register(&node.url).await;
    let stranger_id = stranger.get("/users/me").await.text("id");
    let unsigned = token.rsplit_once('.').unwrap().0.to_owned() + ".";
    let mut forged = vec![
        unsigned,
        tampered(&token, |header, _| header["alg"] = json!("none")),
        tampered(&token, |header, _| header["alg"] = json!("RS256")),
        tampered(&token, |header, _| header["kid"] = json!("../../dev/null")),
        tampered(&token, |header, _| header["kid"] = json!("' OR 1=1 --")),
        tampered(&token, |header, _| header["jku"] = json!("http://127.0.0.1:9/keys")),
        tampered(&token, |_, claims| claims["sub"] = json!(stranger_id)),
        tampered(&token, |_, claims| claims["exp"] = json!("9999999999")),
        tampered(&token, |_, claims| drop(claims.as_object_mut().unwrap().remove("exp"))),
        tampered(&token, |_, claims| claims["aud"] = json!("another")),
        person.refresh.clone(),
        format!("{token}x"),
        token.replace('.', ".."),
    ];
    forged.push(token.split('.').rev().collect::<Vec<_>>().join("."));
    for token in forged {
        let answer = person.with_token(token.clone()).get("/users/me").await;
        assert_eq!(answer.status, 401, "{token}");
        assert_eq!(answer.refusal(), (401, "UNAUTHORIZED"), "{token}");
    }
    // The header takes the token; neither the address nor a cookie does.
    let nobody = Person::stranger(&node.url);
    let by_cookie = nobody.request(Method::GET, "/users/me").header("cookie", format!("access_token={token}"));
    assert_eq!(read(by_cookie).await.status, 401);
    assert_eq!(nobody.get(&format!("/users/me?token={token}")).await.status, 401);
    let twice = person.request(Method::GET, "/users/me").header("authorization", "Bearer x");
    assert_eq!(read(twice).await.refusal(), (401, "UNAUTHORIZED"), "two credentials are none");
}

#[tokio::test]
async fn an_expired_access_token_says_so() {
    let deployment = Deployment::new().await;
    let node = deployment.node_set(|config| config.auth.access_minutes = 0).await;
    let person = Person::register(&node.url).await;
    eventually("the token has expired", async || {
        let answer = person.get("/users/me").await;
        (answer.status == 401 && answer.refusal() == (401, "TOKEN_EXPIRED")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_personal_access_token_lives_until_it_is_deleted_or_expires() {
    let deployment = Deployment::new().await;
    let node = deployment.node().await;
    let (person, stranger) = tokio::join!(Person::register(&node.url), Person::register(&node.url));
    let issue = |body: Value| {
        read(person.request(Method::POST, "/users/me/tokens").header("idempotency-key", "ci").json(&body))
    };
    let issued = issue(json!({"name": "ci"})).await;
    assert_eq!(issued.status, 201, "{}", issued.body);
    let token = issued.text("token");
    assert!(token.starts_with("pat_") && token.len() >= 40, "at least 128 bits");
    assert_eq!(issued.headers["location"].to_str().unwrap(), format!("/api/v1/users/me/tokens/{}", issued.text("id")));
    // Shown once, except to the very same request, which may not have heard the first answer.
    assert_eq!(issue(json!({"name": "ci"})).await.body, issued.body);
    assert_eq!(issue(json!({"name": "other"})).await.refusal(), (409, "CONFLICT"));
    let script = person.with_token(token.clone());
    let listed = script.get("/users/me/tokens").await;
    assert_eq!(listed.data().as_array().unwrap().len(), 1);
    assert!(listed.data()[0]["name"] == "ci" && !listed.body.to_string().contains(&token));
    assert_eq!(script.get("/users/me").await.text("email"), person.email);
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM ops.access_tokens t WHERE t::text LIKE '%' || $1 || '%'")
            .bind(&token[4..])
            .fetch_one(&deployment.database.pool)
            .await
            .unwrap();
    assert_eq!(stored, 0);

    for (body, field) in [
        (json!({}), "name"),
        (json!({"name": ""}), "name"),
        (json!({"name": "x".repeat(101)}), "name"),
        (json!({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}), "expires_at"),
        (json!({"name": "x", "expires_at": "tomorrow"}), "expires_at"),
        (json!({"name": "x", "scopes": ["chat"]}), "scopes"),
        (json!({"name": "x", "user_id": Uuid::now_v7()}), "user_id"),
    ] {
        let answer = person.post("/users/me/tokens", body.clone()).await;
        assert_eq!((answer.refusal(), answer.field().as_str()), ((400, "VALIDATION_FAILED"), field), "{body}");
    }
    let soon = json!({"name": "short", "expires_at": Utc::now() + Duration::seconds(1)});
    let short = person.with_token(person.post("/users/me/tokens", soon).await.text("token"));
    eventually("the token has expired", async || (!short.is_signed_in().await).then_some(())).await;

    let path = format!("/users/me/tokens/{}", issued.text("id"));
    let (foreign, none) =
        (stranger.delete(&path).await, stranger.delete(&format!("/users/me/tokens/{}", Uuid::now_v7())).await);
    assert_eq!((foreign.refusal(), &foreign.body), ((404, "NOT_FOUND"), &none.body));
    assert!(script.is_signed_in().await);
    assert_eq!(script.delete(&path).await.status, 204);
    assert!(!script.is_signed_in().await, "at once");
}
