//! Conversations that outgrow their model: planned, summarised, accounted for, never refused.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, response::IntoResponse, routing::post};
use polyphony_tests::{Client, Deployment, MUSES, Peer, eventually, read, seed};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

const SUMMARIES: &str = "SELECT count(*) FROM events WHERE event_type = 'prompt_posted' \
    AND payload->'prompt_posted'->'purpose'->>'kind' = 'summary'";

async fn say(client: &Client, session: Uuid, content: &str) -> Value {
    let body = json!({"session_id": session, "content": content});
    let (status, answer) = client.call(Method::POST, "/chat/completions/sync", Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    answer["data"].clone()
}

async fn receipt(client: &Client, message: &Value) -> Value {
    let path = format!("/messages/{}/context", message["id"].as_str().unwrap());
    let (status, answer) = client.call(Method::GET, &path, None).await;
    assert_eq!(status, 200, "{answer}");
    answer["data"].clone()
}

async fn context(client: &Client, session: Uuid) -> Value {
    let (status, answer) = client.call(Method::GET, &format!("/chat/context/{session}"), None).await;
    assert_eq!(status, 200, "{answer}");
    answer["data"].clone()
}

fn parts(receipt: &Value, kind: &str) -> usize {
    receipt["parts"].as_array().unwrap().iter().filter(|part| part["kind"] == kind).count()
}

#[tokio::test]
async fn a_conversation_that_outgrows_its_window_is_summarised_and_goes_on() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo/demo").await;
    let first = say(&client, session, "Geheimnis: the word is marzipan.").await;
    let receipt_of_first = receipt(&client, &first).await;
    assert_eq!(receipt_of_first["request_hash"].as_str().unwrap().len(), 64);
    assert_eq!((parts(&receipt_of_first, "message"), &receipt_of_first["window"]), (1, &json!(32_768)));
    assert!(!receipt_of_first.to_string().contains("marzipan"));
    let long = "word ".repeat(6_000);
    let mut last = Value::Null;
    for _ in 0..5 {
        last = say(&client, session, &long).await;
        assert_eq!(last["status"], "complete");
    }
    let tight = receipt(&client, &last).await;
    assert!(tight["used"].as_u64().unwrap() <= tight["budget"].as_u64().unwrap(), "{tight}");
    let lacking = tight["dropped"].as_array().map_or(0, Vec::len) + tight["summarized"].as_array().map_or(0, Vec::len);
    assert!(lacking > 0, "{tight}");
    // What had no room was summarised meanwhile, once, and the next turn has the summary.
    eventually("a summary is made", async || {
        let running = deployment.count("SELECT count(*) FROM ops.runs").await;
        (deployment.count(SUMMARIES).await > 0 && running == 0).then_some(())
    })
    .await;
    let summarised = receipt(&client, &say(&client, session, "And now?").await).await;
    assert_eq!(parts(&summarised, "summary"), 1, "{summarised}");
    assert_eq!(summarised["summarized"][0]["why"], "window");
    // The messages themselves are all still there, and hidden turns are no part of the conversation.
    let (_, thread) = client.call(Method::GET, &format!("/messages/session/{session}?limit=100"), None).await;
    let shown: Vec<&Value> = thread["data"].as_array().unwrap().iter().collect();
    assert!(shown.iter().any(|message| message["content"].as_str().unwrap().contains("marzipan")));
    let next = context(&client, session).await;
    assert!(next["summarized"].as_u64().unwrap() > 0 && next["percent"].as_f64().unwrap() <= 100.0, "{next}");
}

#[tokio::test]
async fn a_summary_is_made_on_request_and_can_be_taken_back() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo/demo").await;
    let path = format!("/chat/context/{session}/compact");
    let (status, empty) = client.call(Method::POST, &path, None).await;
    assert_eq!((status.as_u16(), &empty["error"]["code"]), (409, &json!("CONFLICT")));
    for n in 0..3 {
        say(&client, session, &format!("Tell me about tea number {n}, please, and at length.")).await;
    }
    assert_eq!(context(&client, session).await["summarized"], 0);
    let (status, posted) = client.call(Method::POST, &path, None).await;
    assert_eq!(status, 202, "{posted}");
    let summary = posted["data"]["message_id"].as_str().unwrap();
    // It streams and is accounted for like any answer.
    let mut stream = client.attach(summary, None).await;
    assert_eq!(stream.to_end().await.event, "done");
    let shown = receipt(&client, &json!({ "id": summary })).await;
    assert_eq!(parts(&shown, "message"), 4, "{shown}");
    let with = context(&client, session).await;
    assert_eq!((&with["summarized"], &with["changes"]["summarized"][0]["summary"]), (&json!(4), &json!(summary)));
    assert_eq!(with["changes"]["summarized"][0]["why"], "by_request");
    let next = receipt(&client, &say(&client, session, "Go on.").await).await;
    assert_eq!((parts(&next, "summary"), parts(&next, "message")), (1, 3), "{next}");
    // A second turn replies to the answer, not to the summary.
    let (status, taken) = client.call(Method::DELETE, &path, None).await;
    assert_eq!((status.as_u16(), &taken["data"]["dismissed"]), (200, &json!([summary])));
    let without = context(&client, session).await;
    assert_eq!(without["summarized"], 0);
    assert_eq!(deployment.count("SELECT count(*) FROM events WHERE event_type = 'summary_dismissed'").await, 1);
    // Nobody else can look, summarise or take back.
    let stranger = Client::register(&all.url()).await;
    let receipt_path = format!("/messages/{summary}/context");
    for (method, path) in [
        (Method::POST, path.as_str()),
        (Method::DELETE, path.as_str()),
        (Method::GET, path.trim_end_matches("/compact")),
        (Method::GET, receipt_path.as_str()),
    ] {
        let (status, refused) = stranger.call(method, path, None).await;
        assert_eq!((status.as_u16(), &refused["error"]["code"]), (404, &json!("NOT_FOUND")), "{path}");
    }
    let body = json!({"last_message_id": Uuid::now_v7()});
    let (status, refused) = client.call(Method::POST, &path, Some(body)).await;
    assert_eq!((status.as_u16(), &refused["error"]["code"]), (400, &json!("VALIDATION_FAILED")));
}

#[tokio::test]
async fn switching_the_model_says_beforehand_what_it_will_do() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo/demo").await;
    say(&client, session, "你好").await;
    let body = json!({"session_id": session, "model_id": "demo-n40-i10"});
    let (status, forecast) = client.call(Method::POST, "/chat/switch-model?dry_run=true", Some(body.clone())).await;
    assert_eq!(status, 200, "{forecast}");
    let forecast = &forecast["data"];
    assert_eq!(
        (&forecast["will_compact"], &forecast["will_drop"], &forecast["dry_run"]),
        (&json!(false), &json!(false), &json!(true))
    );
    assert_eq!((&forecast["previous_model"], &forecast["model"]), (&json!("demo/demo"), &json!("demo/demo-n40-i10")));
    assert!(forecast["tokens_after"].as_u64().unwrap() > 0);
    let switches = "SELECT count(*) FROM events WHERE event_type = 'model_switched'";
    assert_eq!(deployment.count(switches).await, 0);
    let (status, done) = client.call(Method::POST, "/chat/switch-model", Some(body)).await;
    assert_eq!((status.as_u16(), &done["data"]["tokens_after"]), (200, &forecast["tokens_after"]));
    assert_eq!(deployment.count(switches).await, 1);
    assert_eq!(say(&client, session, "again").await["model"], "demo-n40-i10");
    let stranger = Client::register(&all.url()).await;
    for (who, body, expected) in [
        (&stranger, json!({"session_id": session, "model_id": "demo"}), (404, "NOT_FOUND")),
        (&client, json!({"session_id": session, "model_id": "nobody/nothing"}), (400, "VALIDATION_FAILED")),
        (&client, json!({"session_id": "x", "model_id": "demo"}), (400, "VALIDATION_FAILED")),
        (&client, json!({"session_id": session}), (400, "VALIDATION_FAILED")),
    ] {
        let (status, refused) = who.call(Method::POST, "/chat/switch-model", Some(body)).await;
        assert_eq!((status.as_u16(), &refused["error"]["code"]), (expected.0, &json!(expected.1)), "{refused}");
    }
}

/// A provider whose window is much smaller than anybody has told us.
async fn small_window(State(refused): State<Arc<AtomicUsize>>, body: Bytes) -> impl IntoResponse {
    if body.len() > 6_000 {
        refused.fetch_add(1, Ordering::Relaxed);
        let error = json!({"error": {"message": "This model's maximum context length is 1500 tokens.", "type": "invalid_request_error", "code": "context_length_exceeded"}});
        return (StatusCode::BAD_REQUEST, [("content-type", "application/json")], error.to_string());
    }
    let chunk = |delta: Value, finish: Value| {
        format!(
            "data: {}\n\n",
            json!({"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        )
    };
    let text = chunk(json!({"role": "assistant", "content": "Understood."}), Value::Null)
        + &chunk(json!({}), json!("stop"))
        + "data: [DONE]\n\n";
    (StatusCode::OK, [("content-type", "text/event-stream")], text)
}

#[tokio::test]
async fn a_window_that_the_provider_refuses_never_reaches_the_person() {
    let refused = Arc::new(AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = Router::new().route("/v1/chat/completions", post(small_window)).with_state(refused.clone());
    tokio::spawn(async move { axum::serve(listener, peer).await.unwrap() });
    let deployment = Deployment::new(&[
        ("POLYPHONY_PROVIDERS__SMALL__KIND", "compatible"),
        ("POLYPHONY_PROVIDERS__SMALL__BASE_URL", &format!("http://{address}/v1")),
        ("POLYPHONY_PROVIDERS__SMALL__MODELS", "tiny"),
        ("POLYPHONY_PROVIDERS__SMALL__API_KEY", "none"),
        ("POLYPHONY_EGRESS__ALLOW", &address.to_string()),
    ])
    .await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("small/tiny").await;
    for _ in 0..8 {
        let answer = say(&client, session, &"a question about tea ".repeat(90)).await;
        assert_eq!((&answer["status"], &answer["content"]), (&json!("complete"), &json!("Understood.")));
    }
    assert!(refused.load(Ordering::Relaxed) > 0);
    // What can't be made shorter is refused with its own code, and the session goes on.
    let body = json!({"session_id": session, "content": "tea ".repeat(40_000)});
    let (status, answer) = client.call(Method::POST, "/chat/completions/sync", Some(body)).await;
    assert_eq!((status.as_u16(), &answer["error"]["code"]), (422, &json!("CONTEXT_TOO_LONG")));
    assert_eq!(say(&client, session, "Still there?").await["status"], "complete");
}

#[tokio::test]
async fn hostile_texts_harm_nobody() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    for text in [" ".repeat(250_000) + "a", "a".repeat(250_000), "\n".repeat(250_000) + "b"] {
        let session = client.session("demo/demo").await;
        let body = json!({"session_id": session, "content": text});
        let (status, answer) = client.call(Method::POST, "/chat/completions/sync", Some(body)).await;
        // It fits, or it is too long: nothing else.
        assert!(status == 200 || answer["error"]["code"] == "CONTEXT_TOO_LONG", "{status} {}", answer["error"]);
        let (status, _) = client.call(Method::GET, &format!("/chat/context/{session}"), None).await;
        assert!(status == 200 || status == 422, "{status}");
        let other = client.session("demo-n40-i10").await;
        assert_eq!(say(&client, other, "Are you there?").await["status"], "complete");
    }
}

#[tokio::test]
async fn the_receipt_says_whose_thoughts_and_pictures_a_model_was_not_shown() {
    let peer = Peer::start().await;
    let mut settings = peer.settings();
    settings.push(("POLYPHONY_PROVIDERS__LAB__VISION".to_owned(), "muser".to_owned()));
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let deployment = Deployment::new(&settings).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let (_, token) = client.call(Method::POST, "/users/me/tokens", Some(json!({"name": "sdk"}))).await;
    let script = client.with_token(token["data"]["token"].as_str().unwrap());
    let session = client.session("lab/muser").await;
    let look = async |model: &str| {
        let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}});
        let content = json!([{"type": "text", "text": "What is this?"}, picture]);
        let body = json!({"model": model, "messages": [{"role": "user", "content": content}]});
        let request = script.request(Method::POST, "/v1/chat/completions").json(&body);
        read(request.header("x-session-id", session.to_string()).send().await.unwrap()).await
    };
    // The declaration says which of the models see.
    let (status, refused) = look("lab/teller").await;
    assert_eq!((status.as_u16(), &refused["error"]["param"]), (400, &json!("attachments")), "{refused}");
    assert_eq!(look("lab/muser").await.0, 200);
    say(&client, session, "And now?").await;
    for (model, why) in [
        ("lab/teller", "reasoning: the provider doesn't take it back"),
        ("sage/claude-sonnet-4-5", "reasoning: another provider's"),
    ] {
        let body = json!({"session_id": session, "content": "Why?", "model_id": model});
        let answer = client.say(body).await;
        let receipt = receipt(&client, &answer).await;
        let line = |what: &str| {
            let lines = receipt["converted"].as_array().unwrap().iter().filter(|line| line["what"] == what);
            lines.cloned().collect::<Vec<_>>()
        };
        // Of both answers, in one line.
        let thoughts = line("reasoning").into_iter().find(|line| line["why"] == why);
        let thoughts = thoughts.unwrap_or_else(|| panic!("{receipt}"));
        assert_eq!(thoughts["count"], 2, "{receipt}");
        assert!(thoughts["message_id"].is_string() && thoughts["last_message_id"].is_string(), "{receipt}");
        let asked = peer.asked().pop().unwrap().to_string();
        assert!(!asked.contains(MUSES), "{asked}");
        let blind = model == "lab/teller";
        assert_eq!((line("image").len(), asked.contains("A picture was left out here")), (blind.into(), blind));
    }
}

/// Times would be those of whatever else runs on the machine. So the counting of hostile texts is made to last for ever,
/// and whoever stood behind it would never be answered.
#[tokio::test]
async fn nobody_waits_for_the_counting_of_hostile_texts() {
    let deployment = Deployment::new(&[]).await;
    let endless = "context.count.patient=sleep:86400000";
    let all = deployment.start_with("all", "POLYPHONY_FAILPOINTS", endless).await;
    let hostile = Client::register(&all.url()).await;
    let texts = [" ".repeat(250_000) + "a", "a".repeat(250_000), "\n".repeat(250_000) + "b"];
    let asked = texts.map(|text| {
        let hostile = hostile.clone();
        async move {
            let session = hostile.session("demo-n40-i10").await;
            hostile.ask(session, &text).await
        }
    });
    // Their streams stay open: somebody waits for these answers.
    let streams = futures::future::join_all(asked).await;
    let begun = "SELECT count(*) FROM events WHERE event_type = 'attempt_started'";
    eventually("all of them are being worked on", async || (deployment.count(begun).await == 3).then_some(())).await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo-n40-i10").await;
    // A word, and an essay that is counted aside too.
    for text in ["Are you there?".to_owned(), "tea and 茶 ".repeat(4_000)] {
        for _ in 0..3 {
            assert_eq!(say(&client, session, &text).await["status"], "complete");
        }
        let (status, _) = client.call(Method::GET, &format!("/chat/context/{session}"), None).await;
        assert_eq!(status, 200);
    }
    // One is still being counted; who stood behind it has been given an estimate.
    assert!(deployment.count("SELECT count(*) FROM ops.runs").await > 0);
    drop(streams);
}

#[tokio::test]
async fn a_turn_writes_as_much_in_a_session_of_two_thousand_messages_as_in_one_of_ten() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let (short, long) = (client.session("demo/demo").await, client.session("demo/demo").await);
    seed(&deployment, short, 5).await;
    seed(&deployment, long, 1_000).await;
    let mut written = vec![];
    for session in [short, long] {
        let answer = say(&client, session, "How long have we talked?").await;
        let receipt = receipt(&client, &answer).await;
        let user = client.message(answer["id"].as_str().unwrap()).await["parent_id"].as_str().unwrap().to_owned();
        let events = format!("SELECT count(*) FROM events WHERE aggregate_id = '{user}'");
        let bytes = format!("SELECT sum(length(payload::text)) FROM events WHERE aggregate_id = '{user}'");
        written.push((deployment.count(&events).await, deployment.count(&bytes).await, receipt));
    }
    let [(events, _, _), (events_long, bytes_long, receipt)] = &written[..] else { panic!("two were written") };
    assert_eq!(events, events_long);
    assert!(*bytes_long < 48 * 1024, "{bytes_long}");
    // Two thousand messages are in it, as a range where they are old.
    let count =
        |list: &Value| list.as_array().into_iter().flatten().filter_map(|part| part["count"].as_u64()).sum::<u64>();
    assert_eq!(count(&receipt["parts"]) + count(&receipt["dropped"]), 2_001, "{receipt}");
    let next = context(&client, long).await;
    assert!(next["dropped"].as_u64().unwrap() + next["summarized"].as_u64().unwrap() > 0, "{next}");
}
