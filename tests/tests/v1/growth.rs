//! What a call costs doesn't grow with the session that it belongs to: it brings its conversation with it.

use polyphony_tests::{Client, Deployment, eventually, read, seed};
use reqwest::Method;
use serde_json::json;

use super::person;

/// Rows of the log that were read so far. Processes say so at the latest when they end.
async fn rows_read(deployment: &Deployment) -> i64 {
    let connected =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'polyphony'";
    eventually("all have left", async || (deployment.count(connected).await == 0).then_some(())).await;
    deployment
        .count(
            "SELECT coalesce(sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)), 0)::bigint \
             FROM pg_stat_user_tables WHERE relname LIKE 'events%'",
        )
        .await
}

/// Calls once, with processes that know nothing yet; how many rows of the log were read.
async fn call(deployment: &Deployment, token: &Client) -> i64 {
    let before = rows_read(deployment).await;
    let (mut api, mut worker) = tokio::join!(deployment.start("api"), deployment.start("worker"));
    let body = json!({"model": "demo/demo", "messages": [{"role": "user", "content": "How long is this day?"}]});
    let request = token.at(&api.url()).request(Method::POST, "/v1/chat/completions").json(&body);
    let (status, answer) = read(request.send().await.unwrap()).await;
    assert_eq!(status, 200, "{answer}");
    // It sees what it brought, and nothing of the day.
    assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().contains("I see 0 earlier message(s)"));
    for role in [&mut api, &mut worker] {
        role.sigterm();
        role.exit_code().await;
    }
    rows_read(deployment).await - before
}

#[tokio::test]
async fn a_call_reads_as_much_on_a_day_of_two_thousand_turns_as_on_one_of_ten() {
    let deployment = Deployment::new(&[]).await;
    let (mut tokens, mut read) = (vec![], vec![]);
    {
        let api = deployment.start("api").await;
        for _ in 0..2 {
            tokens.push(person(&api.url()).await.1);
        }
    }
    for (token, turns) in tokens.iter().zip([10, 2_000]) {
        // The first call opens the day.
        call(&deployment, token).await;
        // The test itself must not read the log, which would count too.
        let newest = "SELECT session_id::text FROM ops.answers ORDER BY answer_id DESC LIMIT 1";
        let session = deployment.text(newest).await.parse().unwrap();
        seed(&deployment, session, turns).await;
    }
    sqlx::query("ANALYZE events").execute(&deployment.database.pool).await.unwrap();
    for token in &tokens {
        read.push(call(&deployment, token).await);
    }
    let [short, long] = read[..] else { panic!("two days") };
    println!("rows of the log read by one call: {short} after 10 turns, {long} after 2,000");
    assert!(short > 0 && long <= short, "{short} {long}");
}
