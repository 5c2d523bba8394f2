//! What is heard of an answer as a stream of server-sent events, in one SDK's words.

use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use serde_json::Value;

use super::{
    call::{Answering, Calling},
    error::Shape,
    listen::{Listening, Outcome, Told},
};
use crate::{
    error::Facts,
    stream::{HEARTBEAT, heartbeat, respond},
};

/// Finds an SDK's words.
pub trait Teller: Send + 'static {
    /// Whose words they are.
    const SHAPE: Shape;
    fn begin(&mut self, out: &mut String);
    /// Another model may answer than the one that was asked; nothing was shown yet.
    fn restart(&mut self) {}
    fn text(&mut self, piece: &str, out: &mut String);
    fn reasoning(&mut self, piece: &str, out: &mut String);
    fn end(&mut self, outcome: &Outcome, out: &mut String);
    fn failed(&mut self, facts: &Facts, out: &mut String);
}

/// An event that only has data.
pub fn data(out: &mut String, data: &Value) {
    out.push_str("data: ");
    out.push_str(&data.to_string());
    out.push_str("\n\n");
}

/// An event with the name that its data says.
pub fn named(out: &mut String, event: &Value) {
    out.push_str("event: ");
    out.push_str(event["type"].as_str().unwrap_or_default());
    out.push('\n');
    data(out, event);
}

const PING: Bytes = Bytes::from_static(b"event: ping\ndata: {\"type\": \"ping\"}\n\n");

struct Telling<T> {
    listening: Listening,
    teller: T,
    begun: bool,
    over: bool,
}

impl<T: Teller> Telling<T> {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let mut out = String::new();
        if !self.begun {
            self.begun = true;
            self.teller.begin(&mut out);
            return Some(out.into());
        }
        while out.is_empty() && !self.over {
            match self.listening.next().await {
                Told::Text(piece) => self.teller.text(&piece, &mut out),
                Told::Reasoning(piece) => self.teller.reasoning(&piece, &mut out),
                Told::Restart => self.teller.restart(),
                Told::End(outcome) => {
                    self.over = true;
                    self.teller.end(&outcome, &mut out);
                }
                Told::Failed(error) => {
                    self.over = true;
                    self.teller.failed(&error.facts(), &mut out);
                }
            }
        }
        Some(out.into())
    }
}

/// The stream of an answer.
pub fn stream<T: Teller>(calling: &Calling, answering: Answering, teller: T) -> Response {
    let state = &calling.state;
    let beat = if T::SHAPE == Shape::Anthropic { PING } else { HEARTBEAT };
    let telling = Telling { listening: Listening::new(state, answering), teller, begun: false, over: false };
    let beating = (telling, heartbeat(state));
    respond(stream::unfold(beating, move |(mut telling, mut heartbeat)| {
        let beat = beat.clone();
        async move {
            let bytes = tokio::select! {
                biased;
                bytes = telling.next() => bytes?,
                _ = heartbeat.tick() => beat,
            };
            Some((bytes, (telling, heartbeat)))
        }
    }))
}
