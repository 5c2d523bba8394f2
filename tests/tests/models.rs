//! Models and the keys to them: through the interface, and through the operator's commands.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use polyphony_tests::{Client, Deployment, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const ANSWER: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"}}]}\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":10}}\n\ndata: [DONE]\n\n";

/// A host that takes the keys in the list, and is out of order for the key `sick`.
async fn host() -> (String, Arc<Mutex<Vec<&'static str>>>) {
    let good = Arc::new(Mutex::new(vec!["good", "operators"]));
    let taken = good.clone();
    let judge = move |headers: &HeaderMap| {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match bearer.trim_start_matches("Bearer ") {
            "sick" => Some(StatusCode::BAD_GATEWAY),
            key if taken.lock().unwrap().contains(&key) => None,
            _ => Some(StatusCode::UNAUTHORIZED),
        }
    };
    let listing = judge.clone();
    let models = get(move |headers: HeaderMap| {
        let refused = listing(&headers);
        let models = json!({"data": [{"id": "gpt-4o-mini"}, {"id": "gpt-9"}]});
        std::future::ready(refused.map_or_else(|| axum::Json(models).into_response(), IntoResponse::into_response))
    });
    let chat = post(move |headers: HeaderMap, _: Body| {
        let answer = || ([(header::CONTENT_TYPE, "text/event-stream")], ANSWER).into_response();
        std::future::ready(judge(&headers).map_or_else(answer, IntoResponse::into_response))
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = Router::new().route("/v1/models", models).route("/v1/chat/completions", chat);
    tokio::spawn(axum::serve(listener, router).into_future());
    (address, good)
}

async fn deployment(address: &str, operators: bool) -> Deployment {
    let url = format!("http://{address}/v1");
    let mut settings = vec![
        ("POLYPHONY_PROVIDERS__OPENAI__BASE_URL", url.as_str()),
        ("POLYPHONY_EGRESS__ALLOW", address),
        ("POLYPHONY_LOG__FILTER", "error"),
    ];
    if operators {
        settings.push(("POLYPHONY_PROVIDERS__OPENAI__API_KEY", "operators"));
    }
    Deployment::new(&settings).await
}

fn names(answer: &Value) -> Vec<&str> {
    answer["data"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_key_is_tried_rotated_and_accounted_for() {
    let (address, good) = host().await;
    let deployment = deployment(&address, false).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let stranger = Client::register(&all.url()).await;
    let (status, added) =
        client.call(Method::POST, "/keys", Some(json!({"provider": "openai", "api_key": "bad", "name": "work"}))).await;
    assert_eq!(status, 201, "{added}");
    let path = format!("/keys/{}", added["data"]["id"].as_str().unwrap());
    let (validate, usage) = (format!("{path}/validate"), format!("{path}/usage"));
    let (_, key) = client.call(Method::POST, &validate, None).await;
    assert_eq!((&key["data"]["is_valid"], key["data"]["last_validated"].is_null()), (&json!(false), false), "{key}");
    let (_, usable) = client.call(Method::GET, "/models?provider=openai&has_key=true", None).await;
    assert_eq!(names(&usable), [""; 0]);

    let change = |body| client.call(Method::PUT, &path, Some(body));
    let (status, key) = change(json!({"api_key": "good", "name": "home", "priority": 3})).await;
    assert_eq!(status, 200, "{key}");
    let told = |field: &str| key["data"][field].clone();
    assert_eq!(
        (told("version"), told("is_valid"), told("name"), told("priority")),
        (json!(2), json!(true), json!("home"), json!(3))
    );
    let (_, key) = client.call(Method::POST, &validate, None).await;
    assert_eq!(key["data"]["is_valid"], true);
    // A title would be another request.
    let (status, _) = client.call(Method::PUT, "/users/me/settings", Some(json!({"auto_title": false}))).await;
    assert_eq!(status, 200);
    let session = client.session("openai/gpt-4o-mini").await;
    let mut stream = client.ask(session, "hi").await;
    assert_eq!(stream.to_end().await.event, "done");
    let counted = eventually("the request is counted", async || {
        let (_, answer) = client.call(Method::GET, &usage, None).await;
        (answer["data"]["requests"] == 1).then(|| answer["data"].clone())
    })
    .await;
    assert_eq!((&counted["tokens_input"], &counted["cost_usd"]), (&json!(1_000), &json!("0.000156")));
    assert_eq!((&counted["errors"], &counted["quota_alert"]), (&json!(0), &json!("ok")));
    assert!(counted["last_used_at"].is_string());

    // The key is revoked at the provider while it's in use; then the provider takes it again.
    good.lock().unwrap().clear();
    let mut stream = client.ask(session, "hi").await;
    assert_eq!(stream.to_end().await.data["code"], "INVALID_API_KEY");
    let (_, refused) = client.call(Method::GET, "/keys", None).await;
    assert_eq!(refused["data"][0]["is_valid"], false);
    good.lock().unwrap().push("good");
    let (_, key) = client.call(Method::POST, &validate, None).await;
    assert_eq!(key["data"]["is_valid"], true);
    let events = "SELECT string_agg(event_type, ' ' ORDER BY sequence) FROM events WHERE aggregate_type = 'api_key'";
    assert_eq!(
        deployment.text(events).await,
        "api_key_added api_key_refused api_key_rotated api_key_renamed api_key_prioritised api_key_refused api_key_accepted"
    );

    // A provider that is out of order says nothing about a key.
    change(json!({"api_key": "sick"})).await;
    let (status, failed) = client.call(Method::POST, &validate, None).await;
    assert_eq!((status.as_u16(), &failed["error"]["code"]), (502, &json!("PROVIDER_ERROR")));
    assert_eq!(client.call(Method::GET, "/keys", None).await.1["data"][0]["is_valid"], true);
    for (body, field) in [
        (json!({"api_key": ""}), "api_key"),
        (json!({"name": ""}), "name"),
        // A key is never sent to another host than it was given for.
        (json!({"base_url": "https://example.org/v1"}), "api_key"),
        (json!({"provider": "groq"}), "provider"),
        (json!({"priority": "high"}), "priority"),
    ] {
        let (status, refused) = change(body.clone()).await;
        assert_eq!((status.as_u16(), refused["error"]["details"]["fields"][field].is_string()), (400, true), "{body}");
    }
    for (method, path) in [(Method::PUT, &path), (Method::POST, &validate), (Method::GET, &usage)] {
        let body = (method == Method::PUT).then(|| json!({"priority": 1}));
        let (status, foreign) = stranger.call(method, path, body).await;
        assert_eq!((status.as_u16(), &foreign["error"]["code"]), (404, &json!("NOT_FOUND")));
    }
}

#[tokio::test]
async fn a_model_says_what_it_can_and_refuses_the_rest() {
    let (address, _) = host().await;
    let deployment = deployment(&address, true).await;
    let api = deployment.start("api").await;
    let client = Client::register(&api.url()).await;
    let (_, old) = client.call(Method::GET, "/models/gpt-5-mini", None).await;
    assert_eq!((&old["data"]["input_price"], &old["data"]["retires_on"]), (&json!("0.00025"), &json!("2026-12-11")));
    let (_, model) = client.call(Method::GET, "/models/openai%2Fgpt-6.1-sol", None).await;
    let model = &model["data"];
    assert_eq!((&model["input_price"], &model["output_price"]), (&json!("0.002"), &json!("0.01")));
    assert_eq!(model["prices"]["cached_input"], "0.1");
    assert_eq!(model["prices"]["cache_write"], "2.5");
    assert_eq!(model["prices"]["tiers"][0]["above_input_tokens"], 272_000);
    assert_eq!((&model["is_active"], &model["has_key"]), (&json!(true), &json!(true)));
    let (_, seeing) = client.call(Method::GET, "/models?provider=groq&capability=vision,tools", None).await;
    assert_eq!(names(&seeing), ["qwen/qwen3.8-27b"]);
    let (_, locked) = client.call(Method::GET, "/models?provider=groq&has_key=false", None).await;
    assert_eq!(names(&locked).len(), 3);
    let (status, unknown) = client.call(Method::GET, "/models?capability=flying", None).await;
    assert_eq!((status.as_u16(), unknown["error"]["details"]["fields"]["capability"].is_string()), (400, true));

    let session = client.session("openai/gpt-4.1").await;
    let before = deployment.count("SELECT count(*) FROM events").await;
    for (params, fields) in [
        (json!({"temperature": 2.5}), vec!["params.temperature"]),
        (json!({"top_p": -1, "max_tokens": 32_769}), vec!["params.max_tokens", "params.top_p"]),
        (json!({"max_tokens": 0}), vec!["params.max_tokens"]),
        (json!({"reasoning_effort": "high"}), vec!["params.reasoning_effort"]),
        (json!({"reasoning_effort": "enormous"}), vec!["params.reasoning_effort", "params.reasoning_effort"]),
        (json!({"presence_penalty": 3}), vec!["params.presence_penalty"]),
    ] {
        let body = json!({"session_id": session, "content": "hi", "params": params});
        let (status, refused) = client.call(Method::POST, "/chat/completions/sync", Some(body)).await;
        assert_eq!((status.as_u16(), &refused["error"]["code"]), (400, &json!("VALIDATION_FAILED")), "{params}");
        for field in fields {
            assert!(refused["error"]["details"]["fields"][field].is_string(), "{params}: {refused}");
        }
    }
    assert_eq!(deployment.count("SELECT count(*) FROM events").await, before);
}

// The commands are waited for with the thread: the host needs another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_sees_models_prices_and_what_providers_offer() {
    let (address, good) = host().await;
    let deployment = deployment(&address, true).await;
    let list = deployment.run(&["models", "list", "--provider", "openai"]).await;
    let mini = list.lines().find(|line| line.contains("openai/gpt-4o-mini")).unwrap();
    assert!(mini.contains("0.15") && mini.contains("0.075") && mini.contains("operator's key"), "{mini}");
    assert!(!list.contains("groq/"));
    let json = deployment.run(&["models", "list", "--json"]).await;
    let models: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(models.len() > 20 && models.iter().any(|model| model["usable"] == "own key"));
    let price = deployment
        .run(&["models", "price", "gpt-4o-mini", "--input", "1000", "--cached", "400", "--output", "100"])
        .await;
    assert!(price.contains("0.000180"), "{price}");
    let check = deployment.run(&["models", "check"]).await;
    assert!(check.lines().any(|line| line.contains("openai") && line.contains("ok")), "{check}");
    let found = deployment.run(&["models", "discover", "--provider", "openai"]).await;
    let state = |name: &str| found.lines().find(|line| line.split_whitespace().any(|word| word == name));
    assert!(state("gpt-9").unwrap().contains("not in the catalogue"));
    assert!(state("gpt-4.1").unwrap().contains("gone") && state("gpt-4o-mini").is_none());
    // What can't be done says why, and what to do.
    for (args, words) in [
        (&["models", "list", "--provider", "nobody"][..], "there are anthropic, deepseek"),
        (&["models", "discover", "--provider", "nobody"], "there is no provider nobody"),
        (&["models", "discover", "--provider", "groq"], "POLYPHONY_PROVIDERS__GROQ__API_KEY"),
        (&["models", "price", "nothing"], "`polyphony models list`"),
        (&["models", "price", "gpt-4o-mini", "--input", "1", "--cached", "2"], "parts of --input"),
    ] {
        let complaint = deployment.fails(args).await;
        assert!(complaint.contains(words), "{args:?}: {complaint}");
    }
    good.lock().unwrap().clear();
    let refused = deployment.fails(&["models", "check"]).await;
    assert!(refused.contains("1 of the providers"), "{refused}");
}

#[tokio::test]
async fn a_picture_goes_to_no_model_that_cannot_see_however_it_came() {
    let (address, _) = host().await;
    let deployment = deployment(&address, true).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let (_, token) = client.call(Method::POST, "/users/me/tokens", Some(json!({"name": "sdk"}))).await;
    let script = client.with_token(token["data"]["token"].as_str().unwrap());
    let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}});
    let look = |model: &str| {
        let content = json!([{"type": "text", "text": "What is this?"}, picture]);
        json!({"model": model, "messages": [{"role": "user", "content": content}]})
    };
    let session = client.session("openai/gpt-4o-mini").await;
    let post = async |model: &str| {
        let request = script.request(Method::POST, "/v1/chat/completions").json(&look(model));
        polyphony_tests::read(request.header("x-session-id", session.to_string()).send().await.unwrap()).await
    };
    assert_eq!(post("demo/demo").await.0, 400);
    let (status, answer) = post("openai/gpt-4o-mini").await;
    assert_eq!(status, 200, "{answer}");
    let thread = client.thread(session, false).await;
    let [prompt, first] = &thread[..] else { panic!("{thread:?}") };
    let (regenerate, edit) = (format!("/messages/{first}/regenerate"), format!("/messages/{prompt}"));
    let mut again = client.stream(&regenerate, json!({})).await;
    assert_eq!(again.to_end().await.event, "done");
    let sources = [first.clone(), again.message_id()];
    let synthesis = json!({"session_id": session, "message_ids": sources, "model_id": "demo"});
    let before = deployment.count("SELECT count(*) FROM events WHERE event_type = 'answer_requested'").await;
    for (method, path, body) in [
        (Method::POST, regenerate.as_str(), json!({"model_id": "demo"})),
        (Method::PUT, edit.as_str(), json!({"content": "And this?", "model_id": "demo"})),
        (Method::POST, "/chat/synthesize", synthesis),
    ] {
        let (status, refused) = client.call(method, path, Some(body)).await;
        let error = &refused["error"];
        assert_eq!((status.as_u16(), &error["code"]), (400, &json!("VALIDATION_FAILED")), "{path}: {refused}");
        assert!(error["details"]["fields"]["attachments"].is_string(), "{path}: {refused}");
    }
    // Files can't be named yet, wherever they could be.
    let file = json!(["019ab3c4-0000-7000-8000-000000000000"]);
    let both = json!(["demo", "openai/gpt-4o-mini"]);
    for (path, mut body) in [
        ("/chat/completions", json!({})),
        ("/chat/completions/sync", json!({})),
        ("/chat/compare", json!({"model_ids": both})),
        ("/chat/discuss", json!({"model_ids": both, "chair_model_id": "demo", "rounds": 1})),
    ] {
        body["session_id"] = json!(session);
        body["content"] = json!("hi");
        body["attachments"] = file.clone();
        let (status, refused) = client.call(Method::POST, path, Some(body)).await;
        assert_eq!((status.as_u16(), &refused["error"]["code"]), (400, &json!("VALIDATION_FAILED")), "{path}");
        assert!(refused["error"]["details"]["fields"]["attachments"].is_string(), "{path}: {refused}");
    }
    let after = deployment.count("SELECT count(*) FROM events WHERE event_type = 'answer_requested'").await;
    assert_eq!(after, before);
}
