//! Erasing: what is deleted goes from every view, can be taken back for a while, and is then found nowhere.

use std::{collections::HashMap, fs, path::Path};

use polyphony_testkit::{Private, Role, migrate, private_clickhouse, private_nats, private_postgres, run};
use polyphony_tests::{Client, Deployment, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

const PASSWORD: &str = "correct horse battery";

#[tokio::test]
async fn a_deleted_session_is_gone_can_be_restored_and_is_erased_in_the_end() {
    let deployment = Deployment::new(&[("POLYPHONY_RELAY__UNDO_SECONDS", "3600")]).await;
    let (mut all, api) = tokio::join!(deployment.start("all"), deployment.start("api"));
    let client = Client::register(&all.url()).await;
    let elsewhere = client.at(&api.url());
    let session = client.session("demo-n40-i10").await;
    let mut stream = client.ask(session, "a secret of mine").await;
    stream.to_end().await;
    let message = stream.message_id();
    let paths = [
        format!("/sessions/{session}"),
        format!("/sessions/{session}/history"),
        format!("/sessions/{session}?at={}", i64::MAX),
        format!("/messages/session/{session}"),
        format!("/messages/session/{session}?at={}", i64::MAX),
        format!("/messages/{message}"),
        format!("/messages/{message}?at={}", i64::MAX),
    ];
    let statuses = async |client: &Client| {
        let mut statuses = vec![];
        for path in &paths {
            statuses.push(client.call(Method::GET, path, None).await.0.as_u16());
        }
        statuses
    };
    assert_eq!(statuses(&client).await, [200; 7]);
    let total = async |client: &Client| client.call(Method::GET, "/sessions", None).await.1["meta"]["total"].clone();
    let path = format!("/sessions/{session}");
    assert_eq!(client.call(Method::DELETE, &path, None).await.0, 204);
    // On every node, at once.
    for client in [&client, &elsewhere] {
        assert_eq!((statuses(client).await, total(client).await), (vec![404; 7], json!(0)));
        assert_eq!(client.call(Method::DELETE, &path, None).await.0, 404);
        assert_eq!(client.call(Method::PUT, &path, Some(json!({"title": "x"}))).await.0, 404);
        let body = json!({"session_id": session, "content": "hello?"});
        assert_eq!(client.call(Method::POST, "/chat/completions/sync", Some(body)).await.0, 404);
    }
    let stranger = Client::register(&all.url()).await;
    assert_eq!(stranger.call(Method::POST, &format!("{path}/restore"), None).await.0, 404);
    let (status, restored) = elsewhere.call(Method::POST, &format!("{path}/restore"), None).await;
    assert_eq!((status.as_u16(), &restored["data"]["deleted_at"]), (200, &Value::Null), "{restored}");
    assert_eq!((statuses(&client).await, total(&client).await), (vec![200; 7], json!(1)));
    assert_eq!(client.call(Method::POST, &format!("{path}/restore"), None).await.0, 200);
    // Deleted again, and its time is over.
    assert_eq!(client.call(Method::DELETE, &path, None).await.0, 204);
    all.sigterm();
    assert_eq!(all.exit_code().await, Some(0));
    sqlx::query("UPDATE ops.deleted_sessions SET deleted_at = now() - interval '2 hours'")
        .execute(&deployment.database.pool)
        .await
        .unwrap();
    let _all = deployment.start("all").await;
    eventually("its rows are gone", async || {
        let rows = "SELECT (SELECT count(*) FROM read.sessions) + (SELECT count(*) FROM read.messages) \
             + (SELECT count(*) FROM ops.deleted_sessions)";
        (deployment.count(rows).await == 0).then_some(())
    })
    .await;
    assert_eq!(elsewhere.call(Method::POST, &format!("{path}/restore"), None).await.0, 404);
    assert_eq!(statuses(&elsewhere).await, [404; 7]);
    let keys = "SELECT count(*) FROM ops.data_keys WHERE wrapped IS NULL AND destroyed_at IS NOT NULL";
    assert_eq!(deployment.count(keys).await, 1);
    let life = deployment.run(&["replay", "--session", &session.to_string(), "--json"]).await;
    assert!(life.contains("[erased]") && life.contains("session_erased") && !life.contains("secret of mine"), "{life}");
    // What is live is what the log makes, also of an erased session.
    let verdict = deployment.run(&["rebuild", "--all", "--verify"]).await;
    assert_eq!(verdict.matches(" equal ").count(), 3, "{verdict}");
    assert!(deployment.run(&["audit", "verify"]).await.starts_with("OK: "));
}

#[tokio::test]
async fn an_erased_account_is_signed_out_everywhere_and_its_address_is_free() {
    let models = [("POLYPHONY_PROVIDERS__DEMO__MODELS", "demo-n20000-i10")];
    let deployment = Deployment::new(&models).await;
    let (all, api) = tokio::join!(deployment.start("all"), deployment.start("api"));
    let client = Client::anonymous(&all.url());
    let email = format!("{}@example.org", Uuid::now_v7());
    let register = json!({"email": email, "password": PASSWORD});
    let sign_up = async || client.call(Method::POST, "/auth/register", Some(register.clone())).await;
    let (status, answer) = sign_up().await;
    assert_eq!(status, 201, "{answer}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let client = client.with_token(&text(&answer["data"]["access_token"]));
    let elsewhere = client.at(&api.url());
    let (_, token) = client.call(Method::POST, "/users/me/tokens", Some(json!({"name": "ci"}))).await;
    let script = client.with_token(&text(&token["data"]["token"]));
    // An answer is in the making.
    let session = client.session("demo-n20000-i10").await;
    let long = client.session("demo-n20000-i10").await;
    let mut stream = client.ask(long, "for ever").await;
    stream.until_pieces(3).await;
    let erase = async |client: &Client, password: &str| {
        client.call(Method::DELETE, "/users/me", Some(json!({ "password": password }))).await.0.as_u16()
    };
    assert_eq!(erase(&client, "wrong horse battery").await, 401);
    assert_eq!(client.call(Method::GET, "/users/me", None).await.0, 200);
    assert_eq!(erase(&client, PASSWORD).await, 204);
    assert_eq!(client.call(Method::GET, "/users/me", None).await.0, 401);
    assert_eq!(script.call(Method::GET, "/users/me", None).await.0, 401);
    eventually("the other node refuses, too", async || {
        let refused = elsewhere.call(Method::GET, &format!("/sessions/{session}"), None).await.0 == 401;
        refused.then_some(())
    })
    .await;
    let refresh = json!({"refresh_token": text(&answer["data"]["refresh_token"])});
    assert_eq!(client.call(Method::POST, "/auth/refresh", Some(refresh)).await.0, 401);
    let login = client.call(Method::POST, "/auth/login", Some(register.clone())).await;
    assert_eq!((login.0.as_u16(), &login.1["error"]["code"]), (401, &json!("INVALID_CREDENTIALS")));
    // Nothing of it is left but the log, which nobody can read.
    let account = text(&answer["data"]["user"]["id"]);
    let owned = "SELECT table_schema || '.' || table_name, column_name FROM information_schema.columns \
         WHERE table_schema IN ('ops', 'read') AND column_name IN ('owner_id', 'account_id', 'scope')";
    let owned: Vec<(String, String)> = sqlx::query_as(owned).fetch_all(&deployment.database.pool).await.unwrap();
    assert!(owned.len() > 8);
    for (table, column) in owned {
        let kept = ["ops.data_keys", "ops.devices", "ops.answers"].contains(&table.as_str());
        let rows = format!("SELECT count(*) FROM {table} WHERE {column} = '{account}'");
        eventually(&table, async || (deployment.count(&rows).await == 0 || kept).then_some(())).await;
    }
    assert_eq!(deployment.count("SELECT count(*) FROM ops.data_keys WHERE wrapped IS NOT NULL").await, 0);
    assert_eq!(deployment.count("SELECT count(*) FROM ops.devices WHERE ended_at IS NULL").await, 0);
    let ends = "SELECT count(*) FROM events WHERE event_type IN ('answer_completed', 'answer_stopped')";
    assert_eq!(deployment.count(ends).await, 0);
    // The address is free: somebody else, with nothing of the old account.
    let (status, again) = sign_up().await;
    assert_eq!(status, 201, "{again}");
    assert_ne!(again["data"]["user"]["id"], answer["data"]["user"]["id"]);
    let verdict = deployment.run(&["rebuild", "--all", "--verify"]).await;
    assert_eq!(verdict.matches(" equal ").count(), 3, "{verdict}");
    assert!(deployment.run(&["audit", "verify"]).await.starts_with("OK: "));
}

/// Files under a folder that hold some bytes.
fn files_with(folder: &Path, canary: &[u8], found: &mut Vec<String>) {
    // What goes away while it is looked for is gone.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            files_with(&path, canary, found);
        } else if fs::read(&path).is_ok_and(|bytes| bytes.windows(canary.len()).any(|window| window == canary)) {
            found.push(path.display().to_string());
        }
    }
}

/// The data of a private server lies beside its log.
fn data(server: &Private) -> std::path::PathBuf {
    server.log().with_extension("")
}

#[tokio::test]
async fn what_was_erased_is_found_in_no_file_of_the_deployment() {
    let (postgres, nats, clickhouse) = tokio::join!(private_postgres(), private_nats(), private_clickhouse());
    migrate(postgres.url()).await;
    let envs = HashMap::from([
        ("DATABASE_URL", postgres.url().to_owned()),
        ("NATS_URL", nats.url().to_owned()),
        ("CLICKHOUSE_URL", clickhouse.url().to_owned()),
        ("POLYPHONY_LIMITS__RELAXED", "true".to_owned()),
        ("POLYPHONY_LOG__FILTER", "debug".to_owned()),
    ]);
    let roles = ["api", "worker", "relay", "projector"];
    let roles = futures::future::join_all(roles.map(|role| {
        let envs = envs.clone();
        async move { Role::start(&[role], envs).await }
    }))
    .await;
    let canary = format!("canary{}", Uuid::now_v7().simple());
    let anonymous = Client::anonymous(&roles[0].url());
    let email = format!("{canary}@example.org");
    let body = json!({"email": email, "password": PASSWORD, "nickname": canary});
    let (status, answer) = anonymous.call(Method::POST, "/auth/register", Some(body)).await;
    assert_eq!(status, 201, "{answer}");
    let client = anonymous.with_token(answer["data"]["access_token"].as_str().unwrap());
    let body = json!({"title": canary, "system_prompt": canary, "model_id": "demo/demo"});
    let request = client.request(Method::POST, "/sessions").header("idempotency-key", "k").json(&body);
    let (status, session) = polyphony_tests::read(request.send().await.unwrap()).await;
    assert_eq!(status, 201, "{session}");
    let session: Uuid = session["data"]["id"].as_str().unwrap().parse().unwrap();
    let metadata = json!({"metadata": {"note": canary}});
    assert_eq!(client.call(Method::PUT, &format!("/sessions/{session}"), Some(metadata)).await.0, 200);
    let (status, token) = client.call(Method::POST, "/users/me/tokens", Some(json!({"name": canary}))).await;
    assert_eq!(status, 201, "{token}");
    let key = json!({"provider": "openai", "api_key": format!("sk-{canary}"), "name": canary});
    let (status, key) = client.call(Method::POST, "/keys", Some(key)).await;
    assert_eq!(status, 201, "{key}");
    // The demo quotes the prompt: the answer holds it, too.
    let mut stream = client.ask(session, &canary).await;
    stream.to_end().await;
    let message = client.message(&stream.message_id()).await;
    assert!(message["content"].as_str().unwrap().contains(&canary), "{message}");
    let feedback = Some(json!({"rating": 1, "comment": canary}));
    let path = format!("/messages/{}/feedback", stream.message_id());
    let (status, feedback) = client.call(Method::POST, &path, feedback).await;
    assert!(status.is_success(), "{feedback}");
    let pool = sqlx::PgPool::connect(postgres.url()).await.unwrap();
    let count = async |sql: &str| sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap();
    eventually("the views have it", async || {
        (count("SELECT count(*) FROM read.messages WHERE data::text LIKE '%canary%'").await == 2).then_some(())
    })
    .await;
    sqlx::query("CHECKPOINT").execute(&pool).await.unwrap();
    let search = || {
        let mut found = vec![];
        for server in [&postgres, &nats, &clickhouse] {
            files_with(&data(server), canary.as_bytes(), &mut found);
        }
        found
    };
    // The search finds what is there: the views hold plain text.
    let before = search();
    assert!(before.iter().any(|file| file.contains("/base/")), "{before:?}");
    let erase = client.call(Method::DELETE, "/users/me", Some(json!({ "password": PASSWORD }))).await;
    assert_eq!(erase.0, 204, "{}", erase.1);
    eventually("the views have forgotten it", async || {
        let rows = "SELECT (SELECT count(*) FROM read.sessions) + (SELECT count(*) FROM read.messages)";
        (count(rows).await == 0).then_some(())
    })
    .await;
    let scrubbed = run(&["scrub"], envs.clone());
    assert!(scrubbed.status.success(), "{}", String::from_utf8_lossy(&scrubbed.stderr));
    // The write-ahead log keeps pages of the views until its segments are used again: see ADR 33.
    let after: Vec<String> = search().into_iter().filter(|file| !file.contains("/pg_wal/")).collect();
    assert!(after.is_empty(), "{after:?}");
    for role in &roles {
        assert!(!role.log().contains(&canary), "the log of {}", role.url());
    }
    for server in [&postgres, &nats, &clickhouse] {
        assert!(!String::from_utf8_lossy(&fs::read(server.log()).unwrap()).contains(&canary));
    }
    // And the chain holds.
    let verified = run(&["audit", "verify"], envs);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}
