//! A client of the HTTP interface that keeps what it sees.

use std::time::Duration;

use futures::StreamExt;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

/// A person who is signed in at one node.
#[derive(Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
    /// The access token.
    pub token: String,
    /// The refresh token.
    pub refresh: String,
}

/// One server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// Its type.
    pub event: String,
    /// Its data.
    pub data: Value,
}

impl Client {
    /// A client of the node at `base`, not signed in.
    pub fn anonymous(base: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        Self { base: base.to_owned(), http, token: String::new(), refresh: String::new() }
    }

    /// A new person.
    pub async fn register(base: &str) -> Self {
        let mut client = Self::anonymous(base);
        let email = format!("{}@example.org", Uuid::now_v7());
        let body = json!({"email": email, "password": "correct horse battery"});
        let (status, answer) = client.call(Method::POST, "/auth/register", Some(body)).await;
        assert_eq!(status, 201, "{answer}");
        client.token = answer["data"]["access_token"].as_str().unwrap().to_owned();
        client.refresh = answer["data"]["refresh_token"].as_str().unwrap().to_owned();
        client
    }

    /// Somebody who presents this token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// The same person at another node.
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    /// A request to be sent.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let path = if ["/api", "/readyz", "/v1"].iter().any(|prefix| path.starts_with(prefix)) {
            path.to_owned()
        } else {
            format!("/api/v1{path}")
        };
        let request = self.http.request(method, format!("{}{path}", self.base));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    /// Calls and reads the JSON answer (null for an empty one).
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = self.request(method, path);
        let request = if let Some(body) = body { request.json(&body) } else { request };
        read(request.send().await.unwrap()).await
    }

    /// Opens a session with a model.
    pub async fn session(&self, model: &str) -> Uuid {
        let (status, answer) = self.call(Method::POST, "/sessions", Some(json!({ "model_id": model }))).await;
        assert_eq!(status, 201, "{answer}");
        answer["data"]["id"].as_str().unwrap().parse().unwrap()
    }

    /// Asks, and streams the answer.
    pub async fn ask(&self, session: Uuid, content: &str) -> Stream {
        let body = json!({"session_id": session, "content": content});
        let response = self.request(Method::POST, "/chat/completions").json(&body).send().await.unwrap();
        Stream::new(response)
    }

    /// Posts something that is answered with a stream.
    pub async fn stream(&self, path: &str, body: Value) -> Stream {
        let request = self.request(Method::POST, path).header("accept", "text/event-stream");
        Stream::new(request.json(&body).send().await.unwrap())
    }

    /// Asks, and waits for the whole answer.
    pub async fn say(&self, body: Value) -> Value {
        let (status, answer) = self.call(Method::POST, "/chat/completions/sync", Some(body)).await;
        assert_eq!(status, 200, "{answer}");
        answer["data"].clone()
    }

    /// The ids of a session's messages: the active branch, or the whole tree.
    pub async fn thread(&self, session: Uuid, tree: bool) -> Vec<String> {
        let (status, answer) =
            self.call(Method::GET, &format!("/messages/session/{session}?limit=100&tree={tree}"), None).await;
        assert_eq!(status, 200, "{answer}");
        answer["data"].as_array().unwrap().iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Streams an answer, after a position or from the beginning.
    pub async fn attach(&self, message: &str, after: Option<&str>) -> Stream {
        let request = self.request(Method::GET, &format!("/chat/streams/{message}"));
        let request = if let Some(after) = after { request.header("last-event-id", after) } else { request };
        Stream::new(request.send().await.unwrap())
    }

    /// Reads a message.
    pub async fn message(&self, id: &str) -> Value {
        let (status, answer) = self.call(Method::GET, &format!("/messages/{id}"), None).await;
        assert_eq!(status, 200, "{answer}");
        answer["data"].clone()
    }
}

/// Reads a JSON answer.
pub async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = response.bytes().await.unwrap();
    (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
}

/// A stream of server-sent events, and everything that came through it.
pub struct Stream {
    bytes: futures::stream::BoxStream<'static, Vec<u8>>,
    buffer: Vec<u8>,
    /// What has come.
    pub seen: Vec<Event>,
}

impl Stream {
    /// The stream of a response.
    pub fn new(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        // A connection that breaks is the end of the bytes: tests kill servers.
        let bytes = response.bytes_stream().take_while(|bytes| std::future::ready(bytes.is_ok()));
        Self { bytes: bytes.map(|bytes| bytes.unwrap().to_vec()).boxed(), buffer: vec![], seen: vec![] }
    }

    /// The next event; none at the end.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let block = String::from_utf8(block).unwrap();
                let field = |name: &str| {
                    let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                    line.unwrap_or_default().to_owned()
                };
                if field("event").is_empty() {
                    continue;
                }
                let data = serde_json::from_str(&field("data")).unwrap();
                let event = Event { id: field("id"), event: field("event"), data };
                self.seen.push(event.clone());
                return Some(event);
            }
            self.buffer.extend(self.bytes.next().await?);
        }
    }

    /// Reads on until `count` pieces of text have come in all.
    pub async fn until_pieces(&mut self, count: usize) {
        while self.pieces().len() < count {
            assert!(self.next().await.is_some(), "the stream ended early: {:?}", self.seen.last());
        }
    }

    /// Reads to the end.
    pub async fn to_end(&mut self) -> &Event {
        while self.next().await.is_some() {}
        self.seen.last().unwrap()
    }

    /// The pieces of text after the last restart.
    pub fn pieces(&self) -> Vec<&Event> {
        let begin = self.seen.iter().rposition(|event| event.event == "restart").map_or(0, |index| index + 1);
        self.seen[begin..].iter().filter(|event| event.event == "stream").collect()
    }

    /// The text after the last restart.
    pub fn text(&self) -> String {
        self.pieces().iter().map(|event| event.data["content"].as_str().unwrap()).collect()
    }

    /// The answers that it carries, in the order in which they began.
    pub fn lanes(&self) -> Vec<String> {
        let typing = self.seen.iter().filter(|event| event.event == "typing");
        typing.map(|event| event.data["message_id"].as_str().unwrap().to_owned()).collect()
    }

    /// What one of several answers has shown.
    pub fn lane(&self, message: &str) -> Vec<&Event> {
        self.seen.iter().filter(|event| event.data["message_id"] == message).collect()
    }

    /// The text of one of several answers after its last restart.
    pub fn lane_text(&self, message: &str) -> String {
        let lane = self.lane(message);
        let begin = lane.iter().rposition(|event| event.event == "restart").map_or(0, |index| index + 1);
        let pieces = lane[begin..].iter().filter(|event| event.event == "stream");
        pieces.map(|event| event.data["content"].as_str().unwrap()).collect()
    }

    /// Reads on until an answer has shown this many pieces.
    pub async fn until_lane(&mut self, message: &str, pieces: usize) {
        while self.lane(message).iter().filter(|event| event.event == "stream").count() < pieces {
            assert!(self.next().await.is_some(), "the stream ended early: {:?}", self.seen.last());
        }
    }

    /// The id of the answer, which the first event names.
    pub fn message_id(&self) -> String {
        self.seen[0].data["message_id"].as_str().unwrap().to_owned()
    }

    /// How many events end the stream.
    pub fn ends(&self) -> usize {
        self.seen.iter().filter(|event| ["done", "error"].contains(&event.event.as_str())).count()
    }
}
