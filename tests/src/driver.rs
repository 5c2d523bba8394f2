//! Clients that behave as good clients do under faults: they send again under the same key, take a broken stream up
//! again where it ended, on another node if need be, and write everything down.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt;
use polyphony_testkit::emulator::Marker;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Client,
    history::{Ask, History, Outcome},
};

/// The longest silence on a stream; heartbeats come more often.
const SILENCE: Duration = Duration::from_secs(20);
/// How long a person waits for an answer unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// The pause before something is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// A person with several nodes to choose from.
#[derive(Clone)]
pub struct Person {
    client: Client,
    nodes: Arc<Vec<String>>,
    node: Arc<AtomicUsize>,
    /// The eight digits in all of this person's markers.
    pub name: String,
    count: Arc<AtomicU32>,
    history: History,
    /// How long one ask may take in all before the person gives up.
    pub patience: Duration,
    /// How often a prompt is sent at most.
    pub tries: u32,
}

fn http() -> &'static reqwest::Client {
    static HTTP: OnceLock<reqwest::Client> = OnceLock::new();
    HTTP.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(2));
        // Each node may die between two requests, so no connection is kept for the next one.
        builder.read_timeout(SILENCE).pool_max_idle_per_host(0).build().unwrap()
    })
}

impl Person {
    /// Registers somebody at the first node.
    pub async fn register(nodes: &[String], history: &History) -> Self {
        let client = Client::register(&nodes[0]).await;
        // A title would be another call of the provider, and another prompt with the marker.
        let (status, answer) = client.call(Method::PUT, "/users/me/settings", Some(json!({"auto_title": false}))).await;
        assert_eq!(status, 200, "{answer}");
        let name = Uuid::now_v7().simple().to_string()[24..].to_owned();
        Self {
            client,
            nodes: Arc::new(nodes.to_vec()),
            node: Arc::default(),
            name,
            count: Arc::default(),
            history: history.clone(),
            patience: PATIENCE,
            tries: u32::MAX,
        }
    }

    /// The plain client, at the node of the moment.
    pub fn client(&self) -> Client {
        self.client.at(self.base())
    }

    /// The node of the moment.
    pub fn base(&self) -> &str {
        &self.nodes[self.node.load(Ordering::Relaxed) % self.nodes.len()]
    }

    /// The same person elsewhere.
    #[must_use]
    pub fn with_nodes(&self, nodes: &[String]) -> Self {
        Self { nodes: Arc::new(nodes.to_vec()), node: Arc::default(), ..self.clone() }
    }

    /// Goes to the next node.
    pub fn move_on(&self) {
        self.node.fetch_add(1, Ordering::Relaxed);
    }

    /// Opens a session, however long it takes.
    pub async fn session(&self, model: &str) -> Uuid {
        let deadline = Instant::now() + self.patience;
        let key = Uuid::now_v7().to_string();
        loop {
            let request = self.request(Method::POST, "/sessions").header("idempotency-key", &key);
            if let Ok(response) = request.json(&json!({ "model_id": model })).send().await
                && response.status() == 201
                && let Ok(answer) = response.json::<Value>().await
            {
                return answer["data"]["id"].as_str().unwrap().parse().unwrap();
            }
            assert!(Instant::now() < deadline, "no session could be opened");
            self.move_on();
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        http().request(method, format!("{}/api/v1{path}", self.base())).bearer_auth(&self.client.token)
    }

    /// A new marker.
    pub fn marker(&self) -> Marker {
        Marker::new(&self.name, self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// Begins to ask; nothing has been sent.
    pub fn asking(&self, session: Uuid, model: &str) -> Asking<'_> {
        let ask = Ask {
            marker: self.marker().text,
            key: Uuid::now_v7().to_string(),
            model: model.to_owned(),
            began: self.history.elapsed(),
            ..Ask::default()
        };
        Asking { person: self, session, ask, since: Instant::now(), stream: None, buffer: Vec::new() }
    }

    /// Asks, follows the answer to its end, and writes it down.
    pub async fn ask(&self, session: Uuid, model: &str) -> Ask {
        let mut asking = self.asking(session, model);
        asking.to_end().await;
        asking.finish()
    }
}

type Bytes = futures::stream::BoxStream<'static, Option<Vec<u8>>>;

/// One ask on its way.
pub struct Asking<'a> {
    person: &'a Person,
    session: Uuid,
    /// What is known of it.
    pub ask: Ask,
    since: Instant,
    stream: Option<Bytes>,
    buffer: Vec<u8>,
}

impl Asking<'_> {
    /// Sends the prompt until somebody has taken or refused it.
    async fn send(&mut self) {
        let content = format!("{}: count, please", self.ask.marker);
        let body = json!({"session_id": self.session, "content": content, "model_id": self.ask.model});
        while self.since.elapsed() < self.person.patience && self.ask.tries < self.person.tries {
            self.ask.tries += 1;
            let request = self.person.request(Method::POST, "/chat/completions");
            match request.header("idempotency-key", &self.ask.key).json(&body).send().await {
                Ok(response) if response.status() == 200 => {
                    self.ask.statuses.push(200);
                    return self.open(response);
                }
                Ok(response) => {
                    let status = response.status().as_u16();
                    self.ask.statuses.push(status);
                    if (status == 503 || status == 429) && !response.headers().contains_key("retry-after") {
                        self.ask.faults.push(format!("{status} without Retry-After"));
                    }
                    if status < 500 && status != 429 {
                        self.ask.outcome = Outcome::Refused(status);
                        return;
                    }
                    if status != 503 && status != 429 {
                        self.ask.faults.push(format!("answered {status}"));
                    }
                }
                Err(_) => self.ask.statuses.push(0),
            }
            self.person.move_on();
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes the stream up again after the last event.
    async fn resume(&mut self) {
        let Outcome::Taken(answer) = self.ask.outcome.clone() else { return self.send().await };
        self.ask.resumes += 1;
        self.person.move_on();
        let mut request = self.person.request(Method::GET, &format!("/chat/streams/{answer}"));
        if let Some(last) = &self.ask.last_id {
            request = request.header("last-event-id", last);
        }
        match request.send().await {
            Ok(response) if response.status() == 200 => self.open(response),
            Ok(response) => {
                let status = response.status().as_u16();
                if status != 503 {
                    self.ask.faults.push(format!("the stream of a taken answer is answered {status}"));
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }

    fn open(&mut self, response: Response) {
        self.buffer.clear();
        self.stream = Some(response.bytes_stream().map(|bytes| bytes.ok().map(|bytes| bytes.to_vec())).boxed());
    }

    /// Reads on until the end, or as long as `wanted` says that more is wanted.
    pub async fn read_while(&mut self, mut wanted: impl FnMut(&Ask) -> bool) {
        while wanted(&self.ask) && self.ask.end.is_none() && !matches!(self.ask.outcome, Outcome::Refused(_)) {
            if self.since.elapsed() > self.person.patience {
                self.ask.faults.push("no end in time".to_owned());
                self.ask.left = true;
                return;
            }
            if self.ask.outcome == Outcome::Unknown && self.ask.tries >= self.person.tries {
                self.ask.left = true;
                return;
            }
            let Some(stream) = &mut self.stream else {
                if self.ask.tries == 0 {
                    self.send().await
                } else {
                    self.resume().await
                }
                continue;
            };
            match stream.next().await {
                Some(Some(bytes)) => {
                    self.ask.bytes.extend_from_slice(&bytes);
                    self.buffer.extend_from_slice(&bytes);
                    self.frames();
                }
                Some(None) | None => self.stream = None,
            }
        }
    }

    /// Reads until `count` pieces or more of text have come.
    pub async fn until_text(&mut self, bytes: usize) {
        self.read_while(|ask| ask.text.len() < bytes).await;
    }

    /// Reads to the end.
    pub async fn to_end(&mut self) {
        self.read_while(|_| true).await;
    }

    /// Cuts the connection, as a lost network does. Reading goes on elsewhere.
    pub fn cut(&mut self) {
        self.stream = None;
    }

    /// Writes it down.
    pub fn finish(mut self) -> Ask {
        self.ask.left |= self.ask.end.is_none();
        if self.ask.end.is_some() {
            self.ask.total = Some(self.since.elapsed());
        }
        self.person.history.keep(self.ask.clone());
        self.ask
    }

    fn frames(&mut self) {
        while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let Ok(block) = String::from_utf8(block) else {
                self.ask.faults.push("a frame is not UTF-8".to_owned());
                continue;
            };
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            if let Some(event) = field("event") {
                match serde_json::from_str(field("data").unwrap_or_default()) {
                    Ok(data) => self.event(event, field("id"), data),
                    Err(_) => self.ask.faults.push(format!("a frame can't be read: {block}")),
                }
            }
        }
    }

    fn event(&mut self, event: &str, id: Option<&str>, data: Value) {
        let position = |id: &str| {
            let (attempt, n) = id.split_once('.')?;
            Some((attempt.parse::<u32>().ok()?, n.parse::<u32>().ok()?))
        };
        let before = self.ask.last_id.as_deref().and_then(position);
        let now = id.and_then(position);
        match event {
            "typing" => {
                if let Some(answer) = data["message_id"].as_str() {
                    match &self.ask.outcome {
                        Outcome::Taken(known) if known != answer => {
                            self.ask.faults.push(format!("a second answer {answer} for the same key"));
                        }
                        _ => self.ask.outcome = Outcome::Taken(answer.to_owned()),
                    }
                }
                // The beginning of the stream, also when it begins once more.
                if id.is_some() {
                    self.ask.text.clear();
                }
            }
            "restart" => {
                self.ask.restarts += 1;
                self.ask.text.clear();
            }
            "stream" | "done" | "error" | "reasoning" => {
                match (before, now) {
                    (Some((attempt, n)), Some((newer, next))) if attempt == newer && next == n + 1 => {}
                    (_, None) => self.ask.faults.push(format!("{event} without an id")),
                    (before, now) => self.ask.faults.push(format!("{event} {now:?} after {before:?}")),
                }
                if event == "stream" {
                    self.ask.text.push_str(data["content"].as_str().unwrap_or_default());
                    let first = self.since.elapsed();
                    self.ask.first.get_or_insert(first);
                } else if event != "reasoning" {
                    self.ask.ends += 1;
                    self.ask.end = Some((event.to_owned(), data));
                }
            }
            _ => {}
        }
        if let Some(id) = id {
            self.ask.last_id = Some(id.to_owned());
        }
    }
}
