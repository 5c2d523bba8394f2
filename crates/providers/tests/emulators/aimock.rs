//! npm's aimock, strict: a request that it doesn't know, or that breaks its provider's rules, is refused.

use std::path::Path;

use polyphony_domain::content::{Message, Part, Role, ToolResult};

use super::*;

async fn peer() -> Peer {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulators/fixtures.json");
    Peer::start(move |emulators, folder, port| emulators.aimock(&fixtures, folder, port).map(Some)).await.unwrap()
}

fn sides(peer: &Peer) -> [(Arc<dyn Adapter>, Options); 4] {
    [
        (openai(&peer.url("/v1")), options("gpt-4o")),
        (openai(&peer.url("/v1")), options("gpt-5")),
        (anthropic(&peer.url("")), options("claude-sonnet-4-5")),
        (gemini(&peer.url("")), options("gemini-2.5-pro")),
    ]
}

#[tokio::test]
async fn aimocks_answers_arrive_whole_in_every_dialect() {
    let peer = peer().await;
    for (adapter, options) in sides(&peer) {
        let answer =
            ask(&*adapter, &asked("你好"), &options).await.unwrap_or_else(|error| panic!("{}: {error}", options.model));
        assert_eq!(answer.text, "你好，世界！👩‍👩‍👧‍👦 𠮷野家，café。", "{}", options.model);
        assert_eq!(answer.finish, "stop", "{}", options.model);
        // It doesn't let a model reason that can't.
        assert_eq!(answer.reasoning.is_empty(), options.model == "gpt-4o", "{}", options.model);
    }
}

#[tokio::test]
async fn a_round_of_tools_goes_through_aimock_in_every_dialect() {
    let peer = peer().await;
    for (adapter, plain) in sides(&peer) {
        let options = Options { tools: vec![weather()], ..plain };
        let mut conversation = asked("How is the weather?");
        let called =
            ask(&*adapter, &conversation, &options).await.unwrap_or_else(|error| panic!("{}: {error}", options.model));
        let call = called.call();
        assert_eq!((call.name.as_str(), called.finish.as_str()), ("get_weather", "tool_calls"), "{}", options.model);
        let arguments: serde_json::Value = serde_json::from_str(call.arguments.as_str()).unwrap();
        assert_eq!(arguments["city"], "東京");
        let result = ToolResult {
            call_id: call.call_id.clone(),
            name: call.name.clone(),
            content: "21 °C".into(),
            is_error: false,
        };
        let results = Message { parts: vec![Part::ToolResult(result)], ..Message::text(Role::User, "") };
        conversation.messages.extend([called.message(&*adapter), results]);
        let answer =
            ask(&*adapter, &conversation, &options).await.unwrap_or_else(|error| panic!("{}: {error}", options.model));
        assert_eq!((answer.text.as_str(), answer.finish.as_str()), ("It is warm.", "stop"), "{}", options.model);
    }
}

#[tokio::test]
async fn cuts_and_refusals_of_aimock_have_their_kind() {
    let peer = peer().await;
    for (adapter, options) in sides(&peer) {
        let cut = kind(ask(&*adapter, &asked("cut it"), &options).await);
        assert_eq!(cut, ErrorKind::Interrupted, "{}", options.model);
        let busy = kind(ask(&*adapter, &asked("be busy"), &options).await);
        assert_eq!(busy, ErrorKind::RateLimited, "{}", options.model);
    }
}
