//! A call is a turn like any other, and what is wrong leaves nothing.

use polyphony_tests::{Client, Deployment, Peer, eventually, read};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::person;

const EVENTS: &str = "SELECT count(*) FROM events WHERE event_type IN ('prompt_posted', 'session_opened')";

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
    let input = json!({"model": "demo/demo", "input": "hi"});
    let with = |body: &Value, field: &str, value: &Value| {
        let mut body = body.clone();
        body[field] = value.clone();
        body.to_string()
    };
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
        // What would change the answer is refused where it can't be done.
        ("/chat/completions", None, with(&hi, "logprobs", &json!(true)), 400, "validation_failed"),
        ("/chat/completions", None, with(&hi, "functions", &json!([{"name": "f"}])), 400, "validation_failed"),
        ("/chat/completions", None, with(&hi, "audio", &json!({"voice": "x"})), 400, "validation_failed"),
        ("/chat/completions", None, with(&hi, "web_search_options", &json!({})), 400, "validation_failed"),
        ("/responses", None, with(&input, "background", &json!(true)), 400, "validation_failed"),
        ("/responses", None, with(&input, "conversation", &json!("conv_1")), 400, "validation_failed"),
        ("/responses", None, with(&input, "tools", &json!([{"type": "web_search"}])), 400, "validation_failed"),
    ] {
        let request = token.request(Method::POST, &format!("/v1{path}")).header("content-type", "application/json");
        let request = if let Some(id) = session { request.header("x-session-id", id) } else { request };
        let (got, answer) = read(request.body(body.clone()).send().await.unwrap()).await;
        assert_eq!((got.as_u16(), answer["error"]["code"].as_str()), (status, Some(code)), "{path} {body}: {answer}");
        assert!(answer["error"]["message"].is_string() && answer.get("success").is_none(), "{answer}");
    }
    let search = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let searching = json!({"model": "demo/demo", "max_tokens": 1, "messages": message, "tools": search});
    for (body, status, kind) in [
        (hi, 400, "invalid_request_error"),
        (json!({"model": "x", "max_tokens": 1, "messages": message}), 404, "not_found_error"),
        (searching, 400, "invalid_request_error"),
    ] {
        let response = token.request(Method::POST, "/v1/messages").json(&body).send().await.unwrap();
        let id = response.headers()["request-id"].to_str().unwrap().to_owned();
        let (got, answer) = read(response).await;
        assert_eq!((got.as_u16(), &answer["error"]["type"]), (status, &json!(kind)), "{answer}");
        assert_eq!((answer["type"].as_str(), answer["request_id"].as_str()), (Some("error"), Some(id.as_str())));
    }
    assert_eq!(deployment.count(EVENTS).await, before);
}

#[tokio::test]
async fn a_call_that_comes_while_its_session_or_what_it_follows_is_deleted_is_refused() {
    let deployment = Deployment::new(&[]).await;
    for deletes_session in [true, false] {
        // The second command on a session is the deletion: it dawdles before it is there for others to see.
        let slow = "store.before_commit.session=sleep:2000@2*1";
        let all = deployment.start_with("all", "POLYPHONY_FAILPOINTS", slow).await;
        let (person, token) = person(&all.url()).await;
        let session = person.session("demo/demo").await;
        let hi = json!([{"role": "user", "content": "hi"}]);
        let call = |path: &str, body: Value| {
            let request = token.request(Method::POST, path).header("x-session-id", session.to_string()).json(&body);
            async move { read(request.send().await.unwrap()).await }
        };
        let (status, first) = call("/v1/responses", json!({"model": "demo/demo", "input": "hi"})).await;
        assert_eq!(status, 200, "{first}");
        let first = first["id"].as_str().unwrap();
        let answer = first.strip_prefix("resp_").unwrap();
        eventually("the turn is listed", async || {
            person.thread(session, true).await.iter().any(|id| id.replace('-', "") == answer).then_some(())
        })
        .await;
        let path =
            if deletes_session { format!("/sessions/{session}") } else { format!("/messages/{}", dashed(answer)) };
        let deleting = {
            let person = person.clone();
            tokio::spawn(async move { person.call(Method::DELETE, &path, None).await.0 })
        };
        eventually("the deletion is under way", async || {
            deployment.holds_door(session, "ExclusiveLock").await.then_some(())
        })
        .await;
        let before = deployment.count("SELECT count(*) FROM events").await;
        let next = json!({"model": "demo/demo", "input": "go on", "previous_response_id": first});
        let ((a, chat), (b, response), (c, message)) = tokio::join!(
            call("/v1/chat/completions", json!({"model": "demo/demo", "messages": hi})),
            call("/v1/responses", next),
            call("/v1/messages", json!({"model": "demo/demo", "messages": hi, "max_tokens": 1000})),
        );
        assert_eq!(deleting.await.unwrap(), 204);
        assert_eq!([a, b, c], [StatusCode::CONFLICT; 3], "{chat} {response} {message}");
        assert_eq!((&chat["error"]["code"], &response["error"]["code"]), (&json!("conflict"), &json!("conflict")));
        assert_eq!(message["type"], "error");
        // The deletion, and nothing else.
        assert_eq!(deployment.count("SELECT count(*) FROM events").await, before + 1);
    }
}

/// An id as the rest of the interface writes it.
fn dashed(id: &str) -> String {
    id.parse::<uuid::Uuid>().unwrap().to_string()
}

#[tokio::test]
async fn a_key_finds_the_same_answer_on_every_path_and_a_failure_under_it_is_not_tried_again() {
    let peer = Peer::start().await;
    let deployment = Deployment::with_peer(&peer).await;
    let all = deployment.start("all").await;
    let (person, token) = person(&all.url()).await;
    let session = person.session("demo/demo").await;
    let message = json!([{"role": "user", "content": "hi"}]);
    let post = |path: &str, key: &str, body: &Value| {
        let request = token.request(Method::POST, path).header("idempotency-key", key);
        request.header("x-session-id", session.to_string()).json(body)
    };
    for (path, body) in [
        ("/v1/chat/completions", json!({"model": "demo/demo", "messages": message})),
        ("/v1/messages", json!({"model": "demo/demo", "messages": message, "max_tokens": 1000})),
        ("/v1/responses", json!({"model": "demo/demo", "input": "hi"})),
    ] {
        // Two at once, and one later: one answer.
        let send = || async { read(post(path, path, &body).send().await.unwrap()).await };
        let ((one, first), (other, second)) = tokio::join!(send(), send());
        assert_eq!((one.as_u16(), other.as_u16()), (200, 200), "{first} {second}");
        assert!(first["id"].is_string(), "{first}");
        assert_eq!((&first["id"], &first["id"]), (&second["id"], &send().await.1["id"]));
        // As a stream it is another request.
        let mut streamed = body.clone();
        streamed["stream"] = true.into();
        assert_eq!(post(path, path, &streamed).send().await.unwrap().status(), 409);
        let text = post(path, &format!("{path} streamed"), &streamed).send().await.unwrap().text().await.unwrap();
        let again = post(path, &format!("{path} streamed"), &streamed).send().await.unwrap().text().await.unwrap();
        let ids = |text: &str| {
            text.split('"')
                .find(|word| word.len() > 32 && word.contains('_') || word.starts_with("chatcmpl-"))
                .map(str::to_owned)
        };
        assert!(ids(&text).is_some() && ids(&text) == ids(&again), "{text}");
    }
    assert_eq!(deployment.count("SELECT count(*) FROM events WHERE event_type = 'prompt_posted'").await, 6);
    // Without a key a failure may be tried again; under one the same failure would be found.
    let broken = json!({"model": "lab/broken", "messages": message});
    for key in ["one", "one", ""] {
        let request = token.request(Method::POST, "/v1/chat/completions").json(&broken);
        let request = if key.is_empty() { request } else { request.header("idempotency-key", key) };
        let response = request.send().await.unwrap();
        let advice = response.headers().get("x-should-retry").map(|advice| advice.to_str().unwrap().to_owned());
        assert_eq!(response.status(), 502);
        assert_eq!(advice.as_deref(), (!key.is_empty()).then_some("false"));
    }
    assert_eq!(peer.asked().len(), 2);
}
