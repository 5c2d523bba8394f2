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

#[tokio::test]
async fn an_outage_that_is_longer_than_any_patience_costs_an_attempt_and_no_answer() {
    // Whoever has finished an answer tries nine times to store it, all within the outage.
    let settings = [("POLYPHONY_DURATIONS", "worker.store_pause=100"), ("POLYPHONY_WORKER__LEASE_SECONDS", "6")];
    let mut cluster = Cluster::with_own_postgres(&settings, "plain-n300-i50").await;
    let [api, _, _, worker] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let (history, sampler, nodes) = (History::default(), Sampler::start(cluster.pool()), [cluster.url(api)]);
    let person = Person::register(&nodes, &history).await;
    let (ended, running) = (person.session("emu/plain-n40-i10").await, person.session("emu/plain-n300-i50").await);
    let mut asks = [person.asking(ended, "emu/plain-n40-i10"), person.asking(running, "emu/plain-n300-i50")];
    for asking in &mut asks {
        asking.until_text(100).await;
    }
    cluster.postgres().kill9();
    // Past the end of the first, the tries to store it, and both leases.
    cluster.role(worker).wait_for_log("an attempt could not go on").await;
    cluster.role(worker).wait_for_log("the attempt was taken over").await;
    cluster.postgres().start();
    for asking in &mut asks {
        asking.to_end().await;
    }
    for ask in asks.map(|asking| asking.finish()) {
        assert_eq!((ask.end.as_ref().unwrap().0.as_str(), ask.restarts), ("done", 1), "{:?}", ask.faults);
        assert_eq!(cluster.emulator.calls_for(&ask.marker).len(), 2);
    }
    audit(&mut cluster, &history, sampler).await.expect_green();
}
