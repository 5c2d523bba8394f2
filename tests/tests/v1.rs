//! The interface for SDKs: the official ones work as they are, and what they ask is kept like any other turn.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use polyphony_devstack::Sdks;
use polyphony_tests::{Client, Deployment, Peer, REDACTED, SIGNATURE, THOUGHT, eventually, read};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const EVENTS: &str = "SELECT count(*) FROM events WHERE event_type IN ('prompt_posted', 'session_opened')";

/// A person with a personal access token.
async fn person(url: &str) -> (Client, Client) {
    let person = Client::register(url).await;
    let (status, answer) = person.call(Method::POST, "/users/me/tokens", Some(json!({"name": "sdk"}))).await;
    assert_eq!(status, 201, "{answer}");
    let token = person.with_token(answer["data"]["token"].as_str().unwrap());
    (person, token)
}

/// Runs a script with the SDKs at hand; what it said, if it failed.
async fn run(script: &str, arguments: [String; 3]) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(script);
    let output = tokio::task::spawn_blocking(move || {
        Sdks::install().unwrap().script(&path).unwrap().args(arguments).output().unwrap()
    });
    let output = output.await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (!output.status.success()).then(|| format!("{script}: {said}"))
}

/// The model that signs its thoughts.
const THINKER: &str = "claude-sonnet-4-5";
/// The scripts of the official SDKs.
const SCRIPTS: [&str; 4] = ["openai_sdk.py", "anthropic_sdk.py", "openai_sdk.mjs", "anthropic_sdk.mjs"];

#[tokio::test]
async fn the_official_sdks_work_as_they_are() {
    let peer = Peer::start().await;
    let deployment = Deployment::with_peer(&peer).await;
    let all = deployment.start("all").await;
    let (person, token) = person(&all.url()).await;
    let session = person.session("demo/demo").await;
    let arguments = [all.url(), token.token, session.to_string()];
    let failed = futures::future::join_all(SCRIPTS.map(|script| run(script, arguments.clone()))).await;
    let failed: Vec<String> = failed.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    // Tools, pictures and instructions reached the provider as they were meant.
    let asked = peer.asked();
    assert!(asked.iter().any(|body| body["tools"][0]["function"]["name"] == "weather"));
    let pictures = asked.iter().filter(|body| body.to_string().contains("data:image/png;base64,iVBOR"));
    assert_eq!(pictures.count(), 6);
    let results = asked.iter().flat_map(|body| body["messages"].as_array().unwrap());
    assert!(results.filter(|message| message["role"] == "tool").all(|message| message["content"] == "rain"));
    // Each shy model was asked three times by one attempt, then once by that of the SDK's own retry.
    for sdk in ["openai of Python", "anthropic of Python", "openai of Node", "anthropic of Node"] {
        let asking = |body: &&Value| body["messages"][0]["content"] == format!("Are you there, {sdk}?");
        assert_eq!(asked.iter().filter(asking).count(), 4, "{sdk}");
    }
    // Thoughts go back to whom they belong, with the signature, and to nobody else.
    let holds = |body: &Value, what: &str| body["messages"].to_string().contains(what);
    let returned: Vec<&Value> = asked.iter().filter(|body| holds(body, SIGNATURE)).collect();
    assert_eq!(returned.len(), 4);
    for body in returned {
        assert_eq!((&body["model"], holds(body, THOUGHT), holds(body, REDACTED)), (&json!(THINKER), true, true));
        assert_eq!(body["thinking"]["type"], "enabled");
    }
    assert!(asked.iter().all(|body| body["model"] == THINKER || !holds(body, THOUGHT)));
    // Who hangs up leaves an answer that is made and kept.
    let kept = "SELECT count(*) FROM events WHERE event_type = 'answer_completed' \
                AND payload #>> '{answer_completed,record,model,name}' = 'demo-n300-i10'";
    eventually("what nobody waited for is complete", async || (deployment.count(kept).await == 8).then_some(())).await;
    assert_eq!(person.thread(session, true).await.len(), 16);
}

#[tokio::test]
async fn the_official_sdks_come_again_when_they_are_told_to() {
    let settings = [
        ("POLYPHONY_LIMITS__RELAXED", "false"),
        ("POLYPHONY_LIMITS__IN_FLIGHT", "1"),
        ("POLYPHONY_LIMITS__WAITING", "0"),
    ];
    let deployment = Deployment::new(&settings).await;
    let all = deployment.start("all").await;
    let url = all.url();
    let ((_, one), (_, other)) = tokio::join!(person(&url), person(&url));
    let arguments = |token: Client| [url.clone(), token.token, String::new()];
    let (python, node) = tokio::join!(run("busy_sdk.py", arguments(one)), run("busy_sdk.mjs", arguments(other)));
    assert_eq!((python, node), (None, None));
    // Two answers and two streams of each; what was refused left nothing.
    assert_eq!(deployment.count("SELECT count(*) FROM events WHERE event_type = 'prompt_posted'").await, 8);
}

#[tokio::test]
async fn a_call_is_a_turn_of_the_session_that_it_names_or_of_the_days_own() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let (person, token) = person(&all.url()).await;
    let session = person.session("demo/demo").await;
    let ask = |content: &str| json!({"model": "demo/demo", "messages": [{"role": "user", "content": content}]});
    let post = |body: Value| token.request(Method::POST, "/v1/chat/completions").json(&body);
    let named = post(ask("named")).header("x-session-id", session.to_string());
    let (status, answer) = read(named.send().await.unwrap()).await;
    assert_eq!(status, 200, "{answer}");
    let thread = eventually("the turn is listed", async || {
        let thread = person.thread(session, true).await;
        (thread.len() == 2).then_some(thread)
    })
    .await;
    let prompt = person.message(&thread[0]).await;
    assert_eq!(prompt["content"], "named");
    assert_eq!(person.message(&thread[1]).await["content"], answer["choices"][0]["message"]["content"]);
    // Calls that name no session share one, and don't wait for each other.
    let send = |content: &'static str| {
        let request = post(ask(content));
        async move { read(request.send().await.unwrap()).await.0 }
    };
    let (a, b, c) = tokio::join!(send("a"), send("b"), send("c"));
    assert_eq!([a, b, c], [StatusCode::OK; 3]);
    assert_eq!(deployment.count("SELECT count(*) FROM events WHERE event_type = 'session_opened'").await, 2);
    // The same request again is the same answer.
    let again = || post(ask("again")).header("idempotency-key", "once");
    let (_, first) = read(again().send().await.unwrap()).await;
    let (_, second) = read(again().send().await.unwrap()).await;
    assert_eq!((&first["id"], &first["choices"]), (&second["id"], &second["choices"]));
    let overview = eventually("all are counted", async || {
        let (_, answer) = person.call(Method::GET, "/stats/overview?period=7d", None).await;
        (answer["data"]["requests"] == 5).then(|| answer["data"].clone())
    })
    .await;
    assert_eq!(overview["errors"], 0);
}

#[tokio::test]
async fn what_is_wrong_is_refused_in_the_callers_words_and_leaves_nothing() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let (_, token) = person(&all.url()).await;
    let stranger = Client::register(&all.url()).await;
    let foreign = stranger.session("demo/demo").await;
    let before = deployment.count(EVENTS).await;
    let message = json!([{"role": "user", "content": "hi"}]);
    let hi = json!({"model": "demo/demo", "messages": message});
    let unknown = json!({"model": "x", "messages": message});
    let numbered = json!({"model": "demo/demo", "messages": 3});
    for (path, session, body, status, code) in [
        ("/chat/completions", None, unknown.to_string(), 404, "model_not_found"),
        ("/chat/completions", None, "{".to_owned(), 400, "validation_failed"),
        ("/chat/completions", None, numbered.to_string(), 400, "validation_failed"),
        ("/chat/completions", Some(foreign.to_string()), hi.to_string(), 404, "not_found"),
        ("/chat/completions", Some("x".to_owned()), hi.to_string(), 404, "not_found"),
        ("/responses", None, json!({"model": "demo/demo"}).to_string(), 400, "validation_failed"),
        ("/nowhere", None, hi.to_string(), 404, "not_found"),
    ] {
        let request = token.request(Method::POST, &format!("/v1{path}")).header("content-type", "application/json");
        let request = if let Some(id) = session { request.header("x-session-id", id) } else { request };
        let (got, answer) = read(request.body(body.clone()).send().await.unwrap()).await;
        assert_eq!((got.as_u16(), answer["error"]["code"].as_str()), (status, Some(code)), "{path} {body}: {answer}");
        assert!(answer["error"]["message"].is_string() && answer.get("success").is_none(), "{answer}");
    }
    for (body, status, kind) in [
        (hi, 400, "invalid_request_error"),
        (json!({"model": "x", "max_tokens": 1, "messages": message}), 404, "not_found_error"),
    ] {
        let response = token.request(Method::POST, "/v1/messages").json(&body).send().await.unwrap();
        let id = response.headers()["request-id"].to_str().unwrap().to_owned();
        let (got, answer) = read(response).await;
        assert_eq!((got.as_u16(), &answer["error"]["type"]), (status, &json!(kind)), "{answer}");
        assert_eq!((answer["type"].as_str(), answer["request_id"].as_str()), (Some("error"), Some(id.as_str())));
    }
    assert_eq!(deployment.count(EVENTS).await, before);
}
