//! Keys, limits, failover: a worker on the real stack, against a provider that misbehaves as told.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod peer;
mod stack;

use std::time::{Duration, Instant};

use polyphony_domain::{
    content::{Conversation, Message, Part, Role},
    turn::{AnswerStatus, Params, Prompt},
};
use serde_json::json;

use crate::{
    peer::{Peer, Reply},
    stack::Stack,
};

async fn lab() -> (Peer, Peer, Stack) {
    let (lab, other) = tokio::join!(Peer::start(), Peer::start());
    let stack = Stack::new(&lab, &other, None).await;
    (lab, other, stack)
}

#[tokio::test]
async fn the_load_is_spread_over_equal_keys_and_better_ones_come_first() {
    let (lab, _other, stack) = lab().await;
    let person = stack.person().await;
    let first = stack.key(&person, "deepseek", "k1", 0).await;
    let second = stack.key(&person, "deepseek", "k2", 0).await;
    stack.key(&person, "deepseek", "spare", 1).await;
    let mut used = Vec::new();
    for _ in 0..4 {
        let answered = stack.ask(&person, "deepseek/one", &[]).await;
        assert_eq!((answered.text(), answered.answer.attempt), ("all is well", 1));
        used.push(answered.key().unwrap());
    }
    assert_eq!(used, [first, second, first, second]);
    assert_eq!(lab.keys(), ["k1", "k2", "k1", "k2"]);
}

#[tokio::test]
async fn a_limited_key_gives_way_to_another_and_rests() {
    let (lab, _other, stack) = lab().await;
    let person = stack.person().await;
    let first = stack.key(&person, "deepseek", "k1", 0).await;
    let second = stack.key(&person, "deepseek", "k2", 1).await;
    lab.will("k1", [Reply::limited(&[("retry-after", "3600")])]);
    let answered = stack.ask(&person, "deepseek/one", &[]).await;
    assert_eq!((answered.text(), answered.key(), answered.answer.attempt), ("all is well", Some(second), 2));
    assert_eq!(answered.restarts[0]["reason"], "provider_failed");
    assert_eq!(answered.failed[0]["error"]["code"], "RATE_LIMITED");
    assert_eq!(answered.failed[0]["record"]["key_id"], json!(first));
    // Nothing was taken on, so nothing is billed.
    assert_eq!(answered.failed[0]["record"]["usage"]["input"], 0);
    // It has learnt: the next call goes to the other key at once.
    let again = stack.ask(&person, "deepseek/one", &[]).await;
    assert_eq!((again.answer.attempt, again.key()), (1, Some(second)));
    assert_eq!(lab.keys(), ["k1", "k2", "k2"]);
    assert_eq!(stack.count("SELECT count(*) FROM ops.api_keys WHERE is_valid").await, 2);
    assert_eq!(stack.count("SELECT count(*) FROM ops.runs").await, 0);
}

#[tokio::test]
async fn a_short_wait_is_waited_for_and_a_long_one_is_said() {
    let (lab, _other, stack) = lab().await;
    let person = stack.person().await;
    stack.key(&person, "deepseek", "k1", 0).await;
    for headers in [&[("retry-after", "1")][..], &[("retry-after-ms", "900")], &[("x-ratelimit-reset-requests", "1s")]]
    {
        lab.will("k1", [Reply::Status(429, headers, "{}")]);
        let began = Instant::now();
        let answered = stack.ask(&person, "deepseek/one", &[]).await;
        assert_eq!((answered.text(), answered.answer.attempt), ("all is well", 1));
        assert!(headers[0].0.starts_with('x') || began.elapsed() >= Duration::from_millis(900), "{headers:?}");
        // Who watches is told.
        assert!(headers[0].0 != "retry-after" || answered.waits == ["rate_limited"], "{:?}", answered.waits);
    }
    let before = lab.keys().len();
    lab.will("k1", [Reply::limited(&[("retry-after", "600")])]);
    for calls in [1, 1] {
        let answered = stack.ask(&person, "deepseek/one", &[]).await;
        let error = answered.answer.error.clone().unwrap();
        assert_eq!((error.code.as_str(), error.retryable), ("RATE_LIMITED", true));
        assert!(error.message.contains("again in 10 minutes"), "{}", error.message);
        // The second time the provider isn't even asked.
        assert_eq!(lab.keys().len() - before, calls);
    }
}

#[tokio::test]
async fn a_fallback_answers_as_a_visible_attempt_at_its_own_price() {
    let (lab, other, stack) = lab().await;
    let person = stack.person().await;
    stack.key(&person, "deepseek", "k1", 0).await;
    stack.key(&person, "openai", "k2", 0).await;
    lab.always("k1", Reply::DOWN);
    let params = Params { max_tokens: Some(32_000), ..Params::default() };
    let fallbacks = ["deepseek/one", "openai/gpt-4o-mini"];
    let answered = stack.ask_with(&person, "deepseek/one", &fallbacks, params, "hello").await;
    let record = answered.answer.record.clone().unwrap();
    assert_eq!((answered.text(), record.attempt, answered.restarts.len()), ("all is well", 2, 1));
    assert_eq!((record.model.name.as_str(), answered.answer.model.name.as_str()), ("gpt-4o-mini", "gpt-4o-mini"));
    // 600 at $0.15, 400 cached at $0.075, 100 out at $0.60 a million.
    assert_eq!((record.cost.to_string().as_str(), record.price_version.as_str()), ("0.000180", "2026-11-24"));
    let restart = &answered.restarts[0];
    assert_eq!(
        (&restart["attempt"], &restart["model"], &restart["reason"]),
        (&json!(2), &json!("gpt-4o-mini"), &json!("failover"))
    );
    assert_eq!(answered.failed[0]["error"]["code"], "PROVIDER_ERROR");
    assert_eq!(answered.failed[0]["record"]["model"]["name"], "one");
    // Three tries with the first model; what it was asked for is brought into the fallback's range.
    assert_eq!((lab.keys().len(), other.keys().len()), (3, 1));
    assert_eq!(other.seen()[0].body["max_completion_tokens"], 16_384);
    assert_eq!(stack.count("SELECT count(*) FROM events WHERE event_type = 'attempt_started'").await, 2);
    assert_eq!(stack.count("SELECT count(*) FROM ops.runs").await, 0);
}

#[tokio::test]
async fn nothing_is_asked_again_once_text_was_shown() {
    let (lab, other, stack) = lab().await;
    let person = stack.person().await;
    stack.key(&person, "deepseek", "k1", 0).await;
    stack.key(&person, "deepseek", "k2", 1).await;
    lab.will("k1", [Reply::Broken("half an ans")]);
    let answered = stack.ask(&person, "deepseek/one", &["openai/one"]).await;
    assert_eq!((answered.answer.status, answered.text()), (AnswerStatus::Interrupted, "half an ans"));
    assert_eq!((answered.code(), answered.answer.attempt), ("PROVIDER_ERROR", 1));
    assert_eq!((lab.keys(), other.keys().len()), (vec!["k1".to_owned()], 0));
    // A thought is no text: it's forgotten with the attempt.
    lab.will("k2", [Reply::Text("whole")]);
    lab.will("k1", [Reply::BrokenThought("hm")]);
    let answered = stack.ask(&person, "deepseek/one", &[]).await;
    assert_eq!((answered.text(), answered.answer.attempt, answered.restarts.len()), ("whole", 2, 1));
    assert_eq!(answered.answer.record.unwrap().reasoning, None);
}

#[tokio::test]
async fn a_refused_key_is_marked_once_and_not_tried_again() {
    let (lab, _other, stack) = lab().await;
    let person = stack.person().await;
    stack.key(&person, "deepseek", "bad", 0).await;
    lab.always("bad", Reply::REFUSED);
    let first = stack.ask(&person, "deepseek/one", &[]).await;
    assert_eq!((first.answer.status, first.code()), (AnswerStatus::Failed, "INVALID_API_KEY"));
    let second = stack.ask(&person, "deepseek/one", &[]).await;
    assert_eq!(second.code(), "INVALID_API_KEY");
    assert_eq!(lab.keys(), ["bad"]);
    assert_eq!(stack.count("SELECT count(*) FROM events WHERE event_type = 'api_key_refused'").await, 1);
    assert_eq!(
        stack.count("SELECT count(*) FROM ops.api_keys WHERE NOT is_valid AND last_validated IS NOT NULL").await,
        1
    );
    // With another key beside it, the person doesn't even notice.
    let good = stack.key(&person, "deepseek", "good", 7).await;
    let third = stack.ask(&person, "deepseek/one", &[]).await;
    assert_eq!((third.text(), third.answer.attempt, third.key()), ("all is well", 1, Some(good)));
}

#[tokio::test]
async fn one_persons_trouble_opens_no_breaker_for_another() {
    let (lab, _other, stack) = lab().await;
    let (unlucky, lucky) = (stack.person().await, stack.person().await);
    stack.key(&unlucky, "deepseek", "k1", 0).await;
    stack.key(&lucky, "deepseek", "k2", 0).await;
    lab.always("k1", Reply::DOWN);
    for _ in 0..2 {
        assert_eq!(stack.ask(&unlucky, "deepseek/one", &[]).await.code(), "PROVIDER_ERROR");
    }
    let calls = lab.keys().len();
    let open = stack.ask(&unlucky, "deepseek/one", &["openai/one"]).await;
    // The provider is left alone for this person, who waits for nothing it could not give anyway.
    assert_eq!((open.code(), lab.keys().len() - calls), ("PROVIDER_ERROR", 0));
    assert!(open.answer.error.unwrap().message.contains("again in"));
    assert_eq!(stack.ask(&lucky, "deepseek/one", &[]).await.text(), "all is well");
}

#[tokio::test]
async fn the_operators_key_comes_last() {
    let (lab, other) = tokio::join!(Peer::start(), Peer::start());
    let stack = Stack::new(&lab, &other, Some("operators")).await;
    let person = stack.person().await;
    assert_eq!(stack.ask(&person, "deepseek/one", &[]).await.key(), None);
    let own = stack.key(&person, "deepseek", "own", 9).await;
    lab.will("own", [Reply::Text("mine"), Reply::Status(402, &[], r#"{"error":{"message":"Insufficient Balance"}}"#)]);
    assert_eq!(stack.ask(&person, "deepseek/one", &[]).await.key(), Some(own));
    let answered = stack.ask(&person, "deepseek/one", &[]).await;
    assert_eq!((answered.key(), answered.answer.attempt), (None, 2));
    assert_eq!(answered.failed[0]["error"]["code"], "QUOTA_EXCEEDED");
    assert_eq!(lab.keys(), ["operators", "own", "own", "operators"]);
}

#[tokio::test]
async fn what_cannot_be_made_to_fit_fails_plainly_or_goes_to_a_fallback() {
    let (lab, other, stack) = lab().await;
    let person = stack.person().await;
    stack.key(&person, "deepseek", "k1", 0).await;
    stack.key(&person, "openai", "k2", 0).await;
    let body = r#"{"error":{"code":"context_length_exceeded","message":"of 12 raw words"}}"#;
    lab.always("k1", Reply::Status(400, &[], body));
    let answered = stack.ask(&person, "deepseek/one", &[]).await;
    assert_eq!((answered.code(), answered.answer.attempt), ("CONTEXT_TOO_LONG", 1));
    assert!(!answered.answer.error.unwrap().message.contains("raw"));
    let answered = stack.ask(&person, "deepseek/one", &["openai/gpt-4o-mini"]).await;
    assert_eq!((answered.text(), answered.answer.attempt, other.keys().len()), ("all is well", 2, 1));
}

#[tokio::test]
async fn a_provider_that_refuses_its_own_signatures_is_asked_without_them() {
    let (_lab, other, stack) = lab().await;
    let person = stack.person().await;
    stack.key(&person, "openai", "another-organisations", 0).await;
    let thought =
        Part::Reasoning { text: "hm".into(), opaque: Some(r#"{"id":"rs_1","encrypted_content":"ENCRYPTED"}"#.into()) };
    let said = Message {
        parts: vec![thought, Part::text("Tea.")],
        provider: Some("openai".into()),
        ..Message::text(Role::Assistant, "")
    };
    let mut given = Conversation { system: None, messages: vec![Message::text(Role::User, "Tea or coffee?"), said] };
    let prompt = |given: &Conversation| {
        let given = serde_json::to_string(given).unwrap().into();
        Prompt { content: "Why?".into(), given: Some(given), ..Prompt::default() }
    };
    let refusal = r#"{"error":{"message":"The encrypted content gAAA could not be verified. Reason: Encrypted content organization_id did not match the target organization.","type":"invalid_request_error","code":"invalid_encrypted_content"}}"#;
    let answer = "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"It is warm.\"}\n\n\
        data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[]}}\n\n";
    let key = "another-organisations";
    other.will(key, [Reply::Status(400, &[], refusal), Reply::Raw("text/event-stream", answer.to_owned())]);
    let answered = stack.ask_about(&person, "openai/gpt-5.4", &[], Params::default(), prompt(&given)).await;
    assert_eq!((answered.text(), answered.answer.attempt, answered.restarts.len()), ("It is warm.", 1, 0));
    let seen: Vec<String> = other.seen().iter().map(|seen| seen.body.to_string()).collect();
    assert_eq!(seen.iter().map(|body| body.contains("ENCRYPTED")).collect::<Vec<_>>(), [true, false]);
    assert!(seen.iter().all(|body| body.contains("Tea.")));
    let receipt = answered.answer.record.unwrap().context.unwrap();
    assert!(receipt.converted.iter().any(|converted| converted.why.contains("its own signature")), "{receipt:?}");
    // Refused without any, it is an error like others.
    other.will(key, [Reply::Status(400, &[], refusal)]);
    let refused = stack.ask_about(&person, "openai/gpt-5.4", &[], Params::default(), prompt(&given)).await;
    assert_eq!((refused.code(), other.seen().len()), ("PROVIDER_ERROR", 3));
    // The next turn doesn't try what was refused; what this key's model has signed since goes back to it.
    let mut since = given.messages[1].clone();
    since.parts[0] =
        Part::Reasoning { text: "so".into(), opaque: Some(r#"{"id":"rs_2","encrypted_content":"ITS OWN"}"#.into()) };
    given.messages.extend([Message::text(Role::User, "And now?"), since]);
    other.will(key, [Reply::Raw("text/event-stream", answer.to_owned())]);
    let answered = stack.ask_about(&person, "openai/gpt-5.4", &[], Params::default(), prompt(&given)).await;
    assert_eq!((answered.text(), other.seen().len()), ("It is warm.", 4));
    let body = other.seen()[3].body.to_string();
    assert!(body.contains("ITS OWN") && !body.contains("ENCRYPTED"), "{body}");
    let receipt = answered.answer.record.unwrap().context.unwrap();
    assert!(receipt.converted.iter().any(|converted| converted.why.contains("its own signature")), "{receipt:?}");
    // Another model, or another's key, is asked with them.
    other.will(key, [Reply::Raw("text/event-stream", answer.to_owned())]);
    stack.ask_about(&person, "openai/gpt-5.5", &[], Params::default(), prompt(&given)).await;
    assert!(other.seen()[4].body.to_string().contains("ENCRYPTED"));
}

#[tokio::test]
async fn what_has_no_room_goes_to_the_larger_model_of_the_persons_choice() {
    let (lab, other, stack) = lab().await;
    let person = stack.person().await;
    stack.key(&person, "deepseek", "k1", 0).await;
    stack.key(&person, "openai", "k2", 0).await;
    // The first model's window has no room for the prompt alone, which nothing can be taken away from.
    let prompt = "tea and cake ".repeat(14_000);
    let alone = stack.ask_with(&person, "deepseek/one", &[], Params::default(), &prompt).await;
    assert_eq!((alone.code(), alone.answer.attempt), ("CONTEXT_TOO_LONG", 1));
    let fallbacks = ["openai/gpt-4.1"];
    let answered = stack.ask_with(&person, "deepseek/one", &fallbacks, Params::default(), &prompt).await;
    assert_eq!((answered.text(), answered.answer.attempt), ("all is well", 2));
    // Everybody sees why, and which model it is.
    let restart = &answered.restarts[0];
    assert_eq!((&restart["reason"], &restart["model"]), (&json!("failover"), &json!("gpt-4.1")));
    assert_eq!(answered.failed[0]["error"]["code"], "CONTEXT_TOO_LONG");
    assert_eq!(
        (&answered.failed[0]["record"]["cost"], answered.failed[0]["record"]["model"]["name"].as_str()),
        (&json!(0), Some("one"))
    );
    // The receipt and the price are the larger model's: 600 at $2, 400 cached at $0.50, 100 out at $8 a million.
    let record = answered.answer.record.clone().unwrap();
    let receipt = record.context.unwrap();
    assert_eq!((receipt.model.as_str(), receipt.window, receipt.lacks_room()), ("openai/gpt-4.1", 1_047_576, false));
    assert_eq!((record.model.name.as_str(), record.cost.to_string().as_str()), ("gpt-4.1", "0.002200"));
    // Nobody was bothered with what could not fit.
    assert_eq!((lab.keys().len(), other.keys()), (0, vec!["k2".to_owned()]));
}

#[tokio::test]
async fn whatever_a_provider_answers_the_worker_lives() {
    let (lab, _other, stack) = lab().await;
    let person = stack.person().await;
    stack.key(&person, "deepseek", "k1", 0).await;
    let anthropic = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n\
         event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n";
    for (kind, body) in [
        ("text/html", "<html><body>Welcome to the hotel's network</body></html>".to_owned()),
        ("text/event-stream", "data: {\"choices\":[{\"index\":0,\"del".to_owned()),
        ("application/json", "{\"choices\":[{\"message\":{\"content\":\"not a str".to_owned()),
        ("text/event-stream", format!("data: {}\n\n", "x".repeat(10 << 20))),
        ("text/event-stream", anthropic.to_owned()),
        ("text/event-stream", String::new()),
        ("application/octet-stream", "\0\u{1}\u{2}".repeat(1_000)),
    ] {
        lab.will("k1", std::iter::repeat_n(Reply::Raw(kind, body.clone()), 3));
        let answered = stack.ask(&person, "deepseek/one", &[]).await;
        let shown = body.chars().take(40).collect::<String>();
        assert_eq!((answered.answer.status, answered.code()), (AnswerStatus::Failed, "PROVIDER_ERROR"), "{shown}");
        assert!(!answered.answer.error.unwrap().message.contains("hotel"));
        // What is left of the script is not for the next one.
        while stack.ask(&person, "deepseek/one", &[]).await.text() != "all is well" {}
    }
}
