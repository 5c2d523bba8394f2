//! Postgres goes away, comes back and throws everybody out.

use polyphony_tests::{Cluster, Person, Sampler, audit::audit, eventually, history::History, load::Load};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn a_database_that_is_killed_under_load_costs_waiting_and_nothing_else() {
    let mut cluster = Cluster::with_own_postgres(&[], "").await;
    let [api, ..] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let nodes = [cluster.url(api)];
    let load = Load::start(&nodes, &history, 4, &["emu/plain-n40-i10", "emu/plain"]).await;
    load.more(&history, 4).await;
    // Sessions thrown out, three times over.
    for _ in 0..3 {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'polyphony'";
        assert!(cluster.count(sql).await > 0);
        load.more(&history, 2).await;
    }
    // An answer that is in the making when the database goes is finished when it comes back.
    let person = Person::register(&nodes, &history).await;
    let session = person.session("emu/plain-n80-i20").await;
    let mut asking = person.asking(session, "emu/plain-n80-i20");
    asking.until_text(100).await;
    cluster.postgres().kill9();
    // A node without its database says so, says when to come again, and isn't ready.
    let client = person.client();
    let body = json!({"session_id": session, "content": "x", "model_id": "emu/plain"});
    for (method, path, body) in [
        (Method::POST, "/chat/completions", Some(body)),
        (Method::GET, "/sessions", None),
        (Method::GET, "/readyz", None),
    ] {
        let request = client.request(method, path);
        let request = if let Some(body) = body { request.json(&body) } else { request };
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 503, "{path}");
        assert!(path == "/readyz" || response.headers().contains_key("retry-after"), "{path}");
    }
    asking.until_text(1_500).await;
    cluster.postgres().start();
    asking.to_end().await;
    let ask = asking.finish();
    assert_eq!(ask.end.as_ref().unwrap().0, "done", "{:?}", ask.faults);
    let ready = async || (client.request(Method::GET, "/readyz").send().await.unwrap().status() == 200).then_some(());
    eventually("the node is ready again", ready).await;
    load.more(&history, 4).await;
    load.finish().await;
    audit(&mut cluster, &history, sampler).await.expect_green();
}
