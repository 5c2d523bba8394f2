//! Signing in and out, and everything that callers get wrong.

use polyphony_tests::{Client, Deployment, eventually, read};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

async fn events(deployment: &Deployment) -> i64 {
    deployment.count("SELECT count(*) FROM events").await
}

#[tokio::test]
async fn tokens_rotate_and_a_reused_one_ends_the_family() {
    let deployment = Deployment::new(&[]).await;
    let (all, other) = tokio::join!(deployment.start("all"), deployment.start("api"));
    let client = Client::register(&all.url()).await;
    let refresh = async |token: &str| {
        let anonymous = Client::anonymous(&all.url());
        anonymous.call(Method::POST, "/auth/refresh", Some(json!({ "refresh_token": token }))).await
    };
    let (status, first) = refresh(&client.refresh).await;
    assert_eq!(status, 200, "{first}");
    let (status, reused) = refresh(&client.refresh).await;
    assert_eq!((status.as_u16(), &reused["error"]["code"]), (401, &json!("TOKEN_REUSED")));
    // The family is over: the newest refresh token, and the access token on every node.
    assert_eq!(refresh(first["data"]["refresh_token"].as_str().unwrap()).await.0, 401);
    let elsewhere = client.at(&other.url());
    eventually("the access token is void elsewhere", async || {
        (elsewhere.call(Method::GET, "/users/me", None).await.0 == 401).then_some(())
    })
    .await;
    assert_eq!(client.call(Method::GET, "/users/me", None).await.0, 401);

    // Logout ends a device; a personal access token goes on until it is revoked.
    let client = Client::register(&all.url()).await;
    let (status, issued) = client.call(Method::POST, "/users/me/tokens", Some(json!({"name": "ci"}))).await;
    assert_eq!(status, 201, "{issued}");
    let script = client.with_token(issued["data"]["token"].as_str().unwrap());
    assert_eq!(client.call(Method::POST, "/auth/logout", None).await.0, 204);
    assert_eq!(client.call(Method::GET, "/users/me", None).await.0, 401);
    let (status, listed) = script.call(Method::GET, "/users/me/tokens", None).await;
    assert_eq!((status.as_u16(), &listed["data"][0]["name"]), (200, &json!("ci")));
    assert!(listed["data"][0].get("token").is_none());
    let path = format!("/users/me/tokens/{}", issued["data"]["id"].as_str().unwrap());
    assert_eq!(script.call(Method::DELETE, &path, None).await.0, 204);
    assert_eq!(script.call(Method::GET, "/users/me", None).await.0, 401);
}

#[tokio::test]
async fn wrong_credentials_all_look_the_same() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let (_, me) = client.call(Method::GET, "/users/me", None).await;
    let email = me["data"]["email"].as_str().unwrap();
    let anonymous = Client::anonymous(&all.url());
    let login = async |email: &str, password: &str| {
        anonymous.call(Method::POST, "/auth/login", Some(json!({"email": email, "password": password}))).await
    };
    assert_eq!(login(&email.to_uppercase(), "correct horse battery").await.0, 200);
    let (wrong, unknown) =
        (login(email, "wrong horse battery").await, login("no@example.org", "correct horse battery").await);
    assert_eq!((wrong.0.as_u16(), &wrong.1["error"]["code"]), (401, &json!("INVALID_CREDENTIALS")));
    assert_eq!(wrong, unknown);
    let again = json!({"email": email.to_uppercase(), "password": "another password"});
    let (status, taken) = anonymous.call(Method::POST, "/auth/register", Some(again)).await;
    assert_eq!((status.as_u16(), &taken["error"]["code"]), (409, &json!("EMAIL_TAKEN")));
}

#[tokio::test]
async fn bad_input_is_refused_with_its_code_and_nothing_is_appended() {
    let deployment = Deployment::new(&[("POLYPHONY_HTTP__BODY_LIMIT_BYTES", "2097152")]).await;
    let all = deployment.start("all").await;
    let (client, stranger) = (Client::register(&all.url()).await, Client::register(&all.url()).await);
    let foreign = stranger.session("demo").await;
    let own = client.session("demo").await;
    let before = events(&deployment).await;
    let unknown = Uuid::now_v7();
    let posts = [
        "/sessions",
        "/keys",
        "/chat/completions",
        "/chat/completions/sync",
        "/chat/stop",
        "/users/me/tokens",
        "/auth/register",
        "/auth/login",
        "/auth/refresh",
    ];
    for path in posts {
        for (body, status, code) in [
            ("{", 400, "VALIDATION_FAILED"),
            ("[]", 400, "VALIDATION_FAILED"),
            ("", 400, "VALIDATION_FAILED"),
            (r#"{"nonsense": 1}"#, 400, "VALIDATION_FAILED"),
            (r#"{"title":"a\u0000","email":"a\u0000","session_id":"x"}"#, 400, "VALIDATION_FAILED"),
        ] {
            let request = client.request(Method::POST, path).header("content-type", "application/json").body(body);
            let (got, answer) = read(request.send().await.unwrap()).await;
            assert_eq!((got.as_u16(), &answer["error"]["code"]), (status, &json!(code)), "{path} {body}");
        }
        let request = client.request(Method::POST, path).header("content-type", "text/plain").body("{}");
        let (got, answer) = read(request.send().await.unwrap()).await;
        assert_eq!((got.as_u16(), &answer["error"]["code"]), (415, &json!("UNSUPPORTED_MEDIA_TYPE")), "{path}");
        let request = client.request(Method::POST, path).header("content-type", "application/json");
        if let Ok(response) = request.body(vec![b' '; 10 << 20]).send().await {
            assert_eq!(response.status(), 413, "{path}");
        }
        assert_eq!(client.call(Method::PATCH, path, None).await.0, 405, "{path}");
    }
    let cases: Vec<(Method, String, Option<Value>, u16, &str)> = vec![
        (Method::GET, "/nowhere".into(), None, 404, "NOT_FOUND"),
        (Method::GET, format!("/sessions/{foreign}"), None, 404, "NOT_FOUND"),
        (Method::GET, format!("/sessions/{unknown}"), None, 404, "NOT_FOUND"),
        (Method::GET, "/sessions/xyz".into(), None, 404, "NOT_FOUND"),
        (Method::PUT, format!("/sessions/{foreign}"), Some(json!({"title": "mine"})), 404, "NOT_FOUND"),
        (Method::PUT, format!("/sessions/{own}"), Some(json!({"title": "x".repeat(201)})), 400, "VALIDATION_FAILED"),
        (Method::GET, "/sessions?limit=101".into(), None, 400, "VALIDATION_FAILED"),
        (Method::GET, "/sessions?page=0".into(), None, 400, "VALIDATION_FAILED"),
        (Method::GET, "/sessions?sort=%27;--".into(), None, 400, "VALIDATION_FAILED"),
        (Method::GET, format!("/messages/session/{foreign}"), None, 404, "NOT_FOUND"),
        (Method::GET, format!("/messages/{unknown}"), None, 404, "NOT_FOUND"),
        (Method::GET, format!("/chat/streams/{unknown}"), None, 404, "NOT_FOUND"),
        (Method::GET, "/models/none".into(), None, 404, "NOT_FOUND"),
        (Method::GET, "/stats/overview?period=1y".into(), None, 400, "VALIDATION_FAILED"),
        (Method::DELETE, format!("/keys/{unknown}"), None, 404, "NOT_FOUND"),
        (Method::DELETE, format!("/users/me/tokens/{unknown}"), None, 404, "NOT_FOUND"),
        (Method::POST, "/sessions".into(), Some(json!({"model_id": "none"})), 400, "VALIDATION_FAILED"),
        (
            Method::POST,
            "/chat/completions".into(),
            Some(json!({"session_id": foreign, "content": "x"})),
            404,
            "NOT_FOUND",
        ),
        (
            Method::POST,
            "/chat/completions".into(),
            Some(json!({"session_id": own, "content": ""})),
            400,
            "VALIDATION_FAILED",
        ),
        (
            Method::POST,
            "/chat/completions".into(),
            Some(json!({"session_id": own, "content": "x".repeat(262_145)})),
            413,
            "PAYLOAD_TOO_LARGE",
        ),
        (
            Method::POST,
            "/chat/completions".into(),
            Some(json!({"session_id": own, "content": "x", "parent_id": unknown})),
            404,
            "NOT_FOUND",
        ),
        (
            Method::POST,
            "/chat/completions".into(),
            Some(json!({"session_id": own, "content": "x", "params": {"temperature": 3}})),
            400,
            "VALIDATION_FAILED",
        ),
        (
            Method::POST,
            "/chat/completions/sync".into(),
            Some(json!({"session_id": own, "content": "x", "model_id": "openai/gpt-5-mini"})),
            422,
            "NO_API_KEY",
        ),
        (Method::POST, "/chat/stop".into(), Some(json!({"session_id": foreign})), 404, "NOT_FOUND"),
        (Method::POST, "/chat/stop".into(), Some(json!({"message_id": unknown})), 404, "NOT_FOUND"),
        (Method::POST, "/chat/stop".into(), Some(json!({})), 400, "VALIDATION_FAILED"),
        (Method::POST, "/keys".into(), Some(json!({"provider": "none", "api_key": "sk-1"})), 400, "VALIDATION_FAILED"),
        (
            Method::POST,
            "/keys".into(),
            Some(json!({"provider": "openai", "api_key": "sk-1", "base_url": "http://169.254.169.254/"})),
            422,
            "EGRESS_BLOCKED",
        ),
    ];
    for (method, path, body, status, code) in cases {
        let (got, answer) = client.call(method, &path, body).await;
        assert_eq!(
            (got.as_u16(), &answer["error"]["code"], &answer["success"]),
            (status, &json!(code), &json!(false)),
            "{path} {answer}"
        );
    }
    let routes =
        ["/sessions", "/keys", "/models", "/users/me", "/users/me/tokens", "/stats/overview", "/models/providers"];
    for token in ["", "x", "eyJhbGciOiJub25lIn0.e30.", "pat_x", "'; DROP TABLE events; --"] {
        let forged = client.with_token(token);
        for path in routes {
            let (got, answer) = forged.call(Method::GET, path, None).await;
            assert_eq!((got.as_u16(), &answer["error"]["code"]), (401, &json!("UNAUTHORIZED")), "{path} {token}");
        }
    }
    assert_eq!(events(&deployment).await, before);
}

#[tokio::test]
async fn a_key_is_sealed_and_never_shown_again() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let secret = "sk-CANARY-0123456789abcdef";
    let body = json!({"provider": "openai", "api_key": secret, "name": "work"});
    let (status, added) = client.call(Method::POST, "/keys", Some(body)).await;
    assert_eq!((status.as_u16(), &added["data"]["key_hint"]), (201, &json!("…cdef")));
    let (_, models) = client.call(Method::GET, "/models?provider=openai", None).await;
    assert!(models["data"].as_array().unwrap().iter().all(|model| model["has_key"] == true));
    let (_, keys) = client.call(Method::GET, "/keys", None).await;
    let dump = deployment.text("SELECT string_agg(events::text, '') FROM events").await
        + &deployment.text("SELECT string_agg(api_keys::text, '') FROM ops.api_keys").await
        + &keys.to_string()
        + &all.log();
    assert!(!dump.contains("CANARY") && !dump.contains("correct horse"));
    let path = format!("/keys/{}", added["data"]["id"].as_str().unwrap());
    assert_eq!(client.call(Method::DELETE, &path, None).await.0, 204);
    assert_eq!(deployment.count("SELECT count(*) FROM ops.api_keys").await, 0);
}
