//! PyPI's llmock: it breaks streams in each provider's own way, and grades its client.

use std::time::Instant;

use polyphony_domain::content::{Message, Part, Role, ToolResult};
use serde_json::{Value, json};

use super::*;

async fn peer() -> Peer {
    Peer::start(|emulators, folder, port| emulators.llmock(folder, port).map(Some)).await.unwrap()
}

fn sides(peer: &Peer) -> Vec<(Arc<dyn Adapter>, Options)> {
    vec![
        (openai(&peer.url("/v1")), options("gpt-4o")),
        (openai(&peer.url("/v1")), options("gpt-5")),
        (anthropic(&peer.url("/anthropic")), options("claude-sonnet-4-5")),
        (gemini(&peer.url("/gemini")), options("gemini-2.5-flash")),
        (compatible("mistral", &peer.url("/mistral/v1")), options("mistral-large-latest")),
        (compatible("groq", &peer.url("/groq/openai/v1")), options("llama-3.3-70b-versatile")),
        (compatible("xai", &peer.url("/xai/v1")), options("grok-4")),
    ]
}

async fn queue(peer: &Peer, behaviours: Value) {
    let body = json!({ "behaviors": behaviours }).to_string();
    let sent =
        client().post(peer.url("/_llmock/scenario")).header("content-type", "application/json").body(body).send();
    let answer = sent.await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

async fn verdict(peer: &Peer) -> Value {
    let answer = client().get(peer.url("/_llmock/verdict")).send().await.unwrap();
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

#[tokio::test]
async fn llmock_has_no_complaint_about_us() {
    let peer = peer().await;
    for (n, (adapter, options)) in sides(&peer).into_iter().enumerate() {
        let faults = [
            json!([{"type": "fail", "status": 429, "retry_after": 1, "times": 1}]),
            json!([{"type": "fail", "status": 503, "times": 2}]),
            json!([{"type": "stream_fault", "kind": "truncate", "after_chunks": 2}]),
            json!([{"type": "stream_fault", "kind": "disconnect", "after_chunks": 2}]),
            json!([{"type": "stream_fault", "kind": "malformed", "after_chunks": 2}]),
        ];
        for (m, fault) in faults.into_iter().enumerate() {
            queue(&peer, fault.clone()).await;
            let prompt = format!("Tell me about the number {n} and about {m}.");
            let began = Instant::now();
            let answer = ask_patiently(&*adapter, &asked(&prompt), &options).await;
            let answer = answer.unwrap_or_else(|error| panic!("{} {fault}: {error:?}", options.model));
            assert!(!answer.text.is_empty() && answer.finish == "stop", "{}: {answer:?}", options.model);
            // Mistral's answers carry their usage unasked; its emulator waits to be asked.
            let counted = answer.usage.is_some_and(|usage| usage.input > 0 && usage.output > 0);
            assert!(counted || adapter.provider() == "mistral", "{}", options.model);
            assert!(m > 0 || began.elapsed() >= Duration::from_secs(1), "the wait is heeded");
        }
        for (status, expected) in
            [(401, ErrorKind::InvalidKey), (400, ErrorKind::BadRequest), (404, ErrorKind::ModelUnavailable)]
        {
            queue(&peer, json!([{"type": "fail", "status": status}])).await;
            let prompt = format!("Fail for {n} with {status}.");
            let refused = kind(ask_patiently(&*adapter, &asked(&prompt), &options).await);
            assert_eq!(refused, expected, "{}", options.model);
        }
    }
    let verdict = verdict(&peer).await;
    let text = verdict.to_string();
    assert!(verdict["findings"].as_array().is_none_or(Vec::is_empty), "{text}");
    for complaint in ["retry_after_ignored", "retried_non_retryable", "retry_storm", "truncated_stream_accepted"] {
        assert!(!text.contains(complaint), "{text}");
    }
}

#[tokio::test]
async fn a_round_of_tools_goes_through_llmock_in_every_dialect() {
    let peer = peer().await;
    for (adapter, plain) in sides(&peer) {
        let options = Options { tools: vec![weather()], ..plain };
        let mut conversation = asked("What's the weather in Paris?");
        let called = ask(&*adapter, &conversation, &options)
            .await
            .unwrap_or_else(|error| panic!("{}: {error:?}", options.model));
        let call = called.call();
        assert_eq!((call.name.as_str(), called.finish.as_str()), ("get_weather", "tool_calls"), "{}", options.model);
        assert!(!call.call_id.is_empty(), "{}", options.model);
        let result = ToolResult {
            call_id: call.call_id.clone(),
            name: call.name.clone(),
            content: "21 °C".into(),
            is_error: false,
        };
        let results = Message { parts: vec![Part::ToolResult(result)], ..Message::text(Role::User, "") };
        conversation.messages.extend([called.message(&*adapter), results]);
        let answer = ask(&*adapter, &conversation, &options)
            .await
            .unwrap_or_else(|error| panic!("{}: {error:?}", options.model));
        assert!(!answer.text.is_empty() && answer.finish == "stop", "{}: {answer:?}", options.model);
    }
}

#[tokio::test]
async fn llmocks_overflows_and_limits_are_understood() {
    let peer = peer().await;
    for (adapter, options) in sides(&peer) {
        let message = "This model's maximum context length was exceeded.";
        queue(&peer, json!([{"type": "fail", "status": 400, "code": "context_length_exceeded", "message": message}]))
            .await;
        let overflow = ask(&*adapter, &asked("Too long for you."), &options).await;
        assert_eq!(overflow.map_err(|error| error.kind).err(), Some(ErrorKind::ContextTooLong), "{}", options.model);
    }
    let quota = json!({"rpm": 50, "tpm": 100_000}).to_string();
    let set = client().post(peer.url("/_llmock/limits")).header("content-type", "application/json").body(quota).send();
    if set.await.unwrap().status().is_success() {
        for (adapter, options) in sides(&peer) {
            let answer = ask(&*adapter, &asked("Count my limits."), &options).await.unwrap();
            assert!(answer.limits || adapter.provider() == "gemini", "{}", options.model);
        }
    }
}
