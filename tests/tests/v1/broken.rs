//! A worker dies in the middle of an answer: another one makes it anew, but these clients can't forget what they were
//! shown. Their stream ends with an error, never as if it were complete; the answer itself is kept whole.

use futures::StreamExt;
use polyphony_tests::{Client, Deployment, eventually};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::person;

/// A stream, read until some text has come.
struct Half {
    response: futures::stream::BoxStream<'static, Vec<u8>>,
    seen: String,
}

impl Half {
    async fn of(token: &Client, path: &str, body: &Value) -> Self {
        let response: Response = token.request(Method::POST, path).json(body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        // A connection that breaks is the end of the bytes.
        let bytes = response.bytes_stream().take_while(|bytes| std::future::ready(bytes.is_ok()));
        let mut half = Self { response: bytes.map(|bytes| bytes.unwrap().to_vec()).boxed(), seen: String::new() };
        while !half.seen.contains("w21 ") {
            assert!(half.more().await, "{}", half.seen);
        }
        half
    }

    async fn more(&mut self) -> bool {
        let Some(bytes) = self.response.next().await else { return false };
        self.seen.push_str(&String::from_utf8_lossy(&bytes));
        true
    }

    async fn rest(mut self) -> String {
        while self.more().await {}
        self.seen
    }
}

#[tokio::test]
async fn a_stream_whose_worker_dies_ends_with_an_error_and_never_cleanly() {
    let quick = [
        ("POLYPHONY_PROVIDERS__DEMO__MODELS", "demo-n800-i10"),
        ("POLYPHONY_WORKER__LEASE_SECONDS", "3"),
        ("POLYPHONY_WORKER__HEARTBEAT_SECONDS", "1"),
        ("POLYPHONY_WORKER__ACK_WAIT_SECONDS", "4"),
    ];
    let deployment = Deployment::new(&quick).await;
    let (api, mut worker) = tokio::join!(deployment.start("api"), deployment.start("worker"));
    let (_, token) = person(&api.url()).await;
    let message = json!([{"role": "user", "content": "hi"}]);
    let body = json!({"model": "demo-n800-i10", "messages": message, "max_tokens": 2000, "stream": true});
    let input = json!({"model": "demo-n800-i10", "input": "hi", "stream": true});
    let (chat, messages, responses) = tokio::join!(
        Half::of(&token, "/v1/chat/completions", &body),
        Half::of(&token, "/v1/messages", &body),
        Half::of(&token, "/v1/responses", &input),
    );
    worker.kill9();
    let _other = deployment.start("worker").await;
    let (chat, messages, responses) = tokio::join!(chat.rest(), messages.rest(), responses.rest());
    let last = |text: &str| -> Value {
        serde_json::from_str(text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap()).unwrap()
    };
    assert_eq!(last(&chat)["error"]["type"], "server_error", "{chat}");
    assert_eq!((&last(&messages)["type"], &last(&messages)["error"]["type"]), (&json!("error"), &json!("api_error")));
    assert_eq!(last(&responses)["type"], "error", "{responses}");
    for (text, end) in [(&chat, "[DONE]"), (&messages, "message_stop"), (&responses, "response.completed")] {
        assert!(!text.contains(end), "{text}");
    }
    // What was made anew is whole.
    let whole = "SELECT count(*) FROM events WHERE event_type = 'answer_completed' \
                 AND (payload #>> '{answer_completed,record,attempt}')::int > 1";
    eventually("the answers are complete", async || (deployment.count(whole).await == 3).then_some(())).await;
}
