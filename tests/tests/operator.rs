//! The operator's commands on a living deployment: rebuild, verify, replay, audit, doctor.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::process::{Command, Output};

use polyphony_testkit::binary;
use polyphony_tests::{Client, Deployment, eventually};
use reqwest::Method;
use serde_json::Value;

fn verifier(args: &[&str]) -> Output {
    Command::new(binary("polyphony-audit-verify")).args(args).output().unwrap()
}

#[tokio::test]
async fn the_log_is_replayed_verified_and_proven_with_a_public_key_alone() {
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    let session = client.session("demo-n40-i10").await;
    let mut stream = client.ask(session, "What is tea?").await;
    stream.to_end().await;
    let answer = stream.message_id();
    let life = deployment.run(&["replay", "--session", &session.to_string()]).await;
    assert!(life.contains("content=\"What is tea?\""), "{life}");
    let json = deployment.run(&["replay", "--session", &session.to_string(), "--json"]).await;
    let events: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let turn = ["session_opened", "prompt_posted", "answer_requested", "attempt_started", "answer_completed"];
    // A title may follow.
    assert!(kinds.starts_with(&turn), "{kinds:?}");
    assert!(life.lines().zip(&kinds).all(|(line, kind)| line.contains(kind)), "{life}");
    let at = events[1]["position"].to_string();
    let part = deployment.run(&["replay", "--session", &session.to_string(), "--at", &at]).await;
    assert_eq!(part.lines().count(), 2);

    let verdict = deployment.run(&["rebuild", "--all", "--verify"]).await;
    assert_eq!(verdict.matches(" equal ").count(), 3, "{verdict}");
    // Under live reads and writes.
    let (rebuilt, session) = tokio::join!(deployment.run(&["rebuild", "--all"]), client.session("demo-n40-i10"));
    assert_eq!(rebuilt.lines().count(), 3, "{rebuilt}");
    assert_eq!(client.call(Method::GET, &format!("/sessions/{session}"), None).await.0, 200);
    assert_eq!(deployment.run(&["rebuild", "--all", "--verify"]).await.matches(" equal ").count(), 3);

    let keys = deployment.run(&["audit", "keys"]).await;
    let key = keys.split_whitespace().next().unwrap();
    let folder = std::env::temp_dir().join(format!("polyphony-audit-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&folder).unwrap();
    let file = |name: &str| folder.join(name).display().to_string();
    let proof = eventually("the answer is in the chain", async || {
        let output = deployment.try_run(&["audit", "prove", &answer]);
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    })
    .await;
    std::fs::write(file("proof.json"), &proof).unwrap();
    let checked = verifier(&["proof", &file("proof.json"), key]);
    let words = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success() && words.starts_with("OK: answer_completed "), "{words}");
    std::fs::write(file("forged.json"), proof.replace("stop", "halt")).unwrap();
    assert_eq!(verifier(&["proof", &file("forged.json"), key]).status.code(), Some(1));
    let kept = deployment.run(&["audit", "checkpoint"]).await;
    std::fs::write(file("checkpoint.json"), kept).unwrap();
    deployment.run(&["audit", "export", &file("export.jsonl")]).await;
    let checked = verifier(&["export", &file("export.jsonl"), key]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    assert!(deployment.run(&["audit", "verify", &file("export.jsonl")]).await.starts_with("OK: "));
    let since = file("checkpoint.json");
    assert!(deployment.run(&["audit", "verify", "--since", &since]).await.starts_with("OK: "));

    // Somebody changes the log.
    let mut connection = deployment.database.pool.acquire().await.unwrap();
    let position: i64 = sqlx::query_scalar("SELECT position FROM events WHERE event_type = 'answer_completed'")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    for sql in [
        "SET session_replication_role = replica",
        "UPDATE events SET payload = (payload::text || ' ')::json WHERE event_type = 'answer_completed'",
        "SET session_replication_role = DEFAULT",
    ] {
        sqlx::query(sql).execute(&mut *connection).await.unwrap();
    }
    let output = deployment.try_run(&["audit", "verify"]);
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(words.contains(&format!("the event at position {position} ")) && words.contains("was changed"), "{words}");
    // A row of a view is changed, too.
    sqlx::query("UPDATE read.sessions SET archived = NOT archived").execute(&mut *connection).await.unwrap();
    let output = deployment.try_run(&["rebuild", "session_list_v1", "--verify"]);
    let words = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(words.contains("DIFFERENT") && words.contains(&format!("session_list_v1: {session}")), "{words}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn the_doctor_says_what_is_wrong() {
    let deployment = Deployment::new(&[]).await;
    let mut all = deployment.start("all").await;
    let client = Client::register(&all.url()).await;
    client.session("demo-n40-i10").await;
    let doctor = || -> Vec<Value> {
        let output = deployment.try_run(&["doctor", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let state = |name: &str| doctor().iter().find(|check| check["name"] == name).unwrap()["state"].clone();
    eventually("all is well", async || {
        let checks = doctor();
        // The test server is quick instead of durable, and says so.
        let ill: Vec<&Value> =
            checks.iter().filter(|check| check["state"] != "ok" && check["name"] != "durability").collect();
        (checks.len() >= 18 && ill.is_empty()).then_some(())
    })
    .await;
    assert_eq!(state("durability"), "warn");
    all.sigterm();
    assert_eq!(all.exit_code().await, Some(0));
    // A view that stays behind, a key of a lost version, a session that nobody erases.
    for sql in [
        "UPDATE read.checkpoints SET xid = '0', position = 0 WHERE name = 'session_list_v1'",
        "UPDATE ops.data_keys SET kek_version = 7 WHERE root_id = (SELECT root_id FROM ops.data_keys LIMIT 1)",
        "INSERT INTO ops.deleted_sessions VALUES (gen_random_uuid(), gen_random_uuid(), now() - interval '40 days')",
    ] {
        sqlx::query(sql).execute(&deployment.database.pool).await.unwrap();
    }
    assert_eq!((state("key ring"), state("erasures")), ("bad".into(), "bad".into()));
    deployment.nats.kill9();
    let output = deployment.try_run(&["doctor"]);
    let words = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(words.lines().any(|line| line.starts_with("nats ") && line.contains(" BAD ")), "{words}");
}

#[tokio::test]
async fn nothing_starts_on_a_database_that_may_lose_what_it_has_committed() {
    let deployment = Deployment::new(&[("POLYPHONY_SAFETY__ALLOW_VOLATILE", "false")]).await;
    let output = deployment.try_run(&["relay"]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(words.contains("fsync") && words.contains("full_page_writes"), "{words}");
}
