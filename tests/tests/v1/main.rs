//! The interface for SDKs: the official ones work as they are, and what they ask is kept like any other turn.
#![expect(clippy::unwrap_used, reason = "a test")]

mod broken;
mod growth;
mod open_webui;
mod schema;
mod sdks;
mod thoughts;
mod turns;

use polyphony_tests::Client;
use reqwest::Method;
use serde_json::json;

/// A person with a personal access token.
async fn person(url: &str) -> (Client, Client) {
    let person = Client::register(url).await;
    let (status, answer) = person.call(Method::POST, "/users/me/tokens", Some(json!({"name": "sdk"}))).await;
    assert_eq!(status, 201, "{answer}");
    let token = person.with_token(answer["data"]["token"].as_str().unwrap());
    (person, token)
}
