//! Somebody who calls the interface.

use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

pub const PASSWORD: &str = "correct horse battery";

/// A caller with or without a token.
#[derive(Clone)]
pub struct Person {
    base: String,
    http: reqwest::Client,
    pub email: String,
    pub token: Option<String>,
    pub refresh: String,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn data(&self) -> &Value {
        &self.body["data"]
    }

    pub fn text(&self, field: &str) -> String {
        self.data()[field].as_str().unwrap_or_else(|| panic!("no {field} in {}", self.body)).to_owned()
    }

    /// Status and code of a refusal.
    pub fn refusal(&self) -> (u16, &str) {
        assert!(self.body["success"] == false && self.body["error"]["message"].is_string(), "{}", self.body);
        assert!(self.body["error"]["details"].is_object(), "{}", self.body);
        (self.status.as_u16(), self.body["error"]["code"].as_str().unwrap())
    }

    /// The field that was refused.
    pub fn field(&self) -> String {
        self.body["error"]["details"]["fields"].as_object().unwrap().keys().next().unwrap().clone()
    }

    /// The cookies that were set, each with its attributes.
    pub fn cookies(&self) -> Vec<String> {
        self.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap().to_owned()).collect()
    }
}

impl Person {
    pub fn stranger(base: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { base: base.to_owned(), http, email: String::new(), token: None, refresh: String::new() }
    }

    pub async fn register(base: &str) -> Self {
        let mut person = Self::stranger(base);
        person.email = format!("{}@example.org", uuid::Uuid::now_v7());
        let answer = person.post("/auth/register", json!({"email": person.email, "password": PASSWORD})).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        person.token = Some(answer.text("access_token"));
        person.refresh = answer.text("refresh_token");
        person
    }

    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// A request about to be sent.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let path = if path.starts_with("/api") { path.to_owned() } else { format!("/api/v1{path}") };
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        read(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        read(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        read(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        read(self.request(Method::DELETE, path)).await
    }

    pub async fn login(&self, email: &str, password: &str) -> Answer {
        self.post("/auth/login", json!({"email": email, "password": password})).await
    }

    /// Exchanges a refresh token.
    pub async fn exchange(&self, token: &str) -> Answer {
        Self::stranger(&self.base).post("/auth/refresh", json!({ "refresh_token": token })).await
    }

    /// Whether the token is accepted.
    pub async fn is_signed_in(&self) -> bool {
        match self.get("/users/me").await.status.as_u16() {
            200 => true,
            401 => false,
            other => panic!("/users/me answered {other}"),
        }
    }
}

/// Sends a request and reads the answer.
pub async fn read(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.unwrap();
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    Answer { status, headers, body }
}
