//! Projectors and relays die at every point or are away for long, transactions are late or parked (R-03, R-04, R-11,
//!

use polyphony_tests::{
    Cluster, Person, Sampler,
    audit::audit,
    eventually,
    history::History,
    load::{Load, crowd},
};

const ENDS_AT: [(&str, &str); 8] = [
    ("projector", "projector.before_rows=abort@3"),
    ("projector", "projector.before_commit=abort"),
    ("projector", "projector.before_commit=abort@4"),
    ("projector", "projector.before_rows=err@2*3;projector.before_commit=abort@9"),
    ("projector", "projector.clickhouse_before_insert=abort"),
    ("projector", "projector.clickhouse_after_insert=abort"),
    ("relay", "relay.before_publish=abort@2"),
    ("relay", "relay.after_publish=abort@2"),
];

#[tokio::test]
async fn projectors_and_relays_that_die_between_any_two_steps_leave_true_views_and_sums() {
    let mut cluster = Cluster::new(&[("POLYPHONY_PROJECTOR__BATCH", "5")], "").await;
    let [api, ..] = cluster.start_all(["api", "worker"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let load = Load::start(&[cluster.url(api)], &history, 3, &["emu/plain"]).await;
    // One dies at a time, and nobody is there beside it; the next one finds what it has left.
    for (kind, point) in ENDS_AT {
        let doomed = cluster.spawn(kind, &[("POLYPHONY_FAILPOINTS", point)]);
        assert_ne!(cluster.role(doomed).exit_code().await, Some(0), "{point}");
    }
    cluster.start_all(["projector", "relay"]).await;
    load.finish().await;
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn a_relay_that_is_away_for_longer_than_the_bus_remembers_publishes_again_and_nothing_counts_twice() {
    // Shorter than it takes to start another relay.
    let mut cluster = Cluster::new(&[("POLYPHONY_DURATIONS", "bus.duplicate_window=100")], "").await;
    let [api, ..] = cluster.start_all(["api", "worker", "projector"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let load = Load::start(&[cluster.url(api)], &history, 3, &["emu/plain"]).await;
    // Each has published its first batches and says so to nobody: the next one begins with them once more.
    for passing in [1, 2, 3, 1, 1] {
        let point = format!("relay.after_publish=abort@{passing}");
        let doomed = cluster.spawn("relay", &[("POLYPHONY_FAILPOINTS", point.as_str())]);
        assert_ne!(cluster.role(doomed).exit_code().await, Some(0), "{point}");
    }
    let relay = cluster.start("relay", &[]).await;
    load.more(&history, 3).await;
    // One stands still with the lead, and nobody takes it; then it goes on where it was.
    cluster.role(relay).freeze();
    load.more(&history, 9).await;
    cluster.role(relay).thaw();
    load.finish().await;
    let report = audit(&mut cluster, &history, sampler).await;
    let (stored, logged) = (cluster.stored("EVENTS").await, cluster.count("SELECT count(*) FROM events").await);
    assert!(stored > u64::try_from(logged).unwrap(), "the bus knew every double: {stored} of {logged} events");
    report.expect_green();
}

#[tokio::test]
async fn a_commit_that_is_late_is_waited_for_and_not_passed_over() {
    let mut cluster = Cluster::new(&[], "").await;
    let [api, ..] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let late = cluster.start("api", &[("POLYPHONY_FAILPOINTS", "store.before_commit.turn=sleep:300")]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    // Those whose commits are late have the lower positions all the time.
    let (late, quick) = ([cluster.url(late)], [cluster.url(api)]);
    let late = crowd(&late, &history, 4, 3, "emu/plain-n5-i0");
    let quick = crowd(&quick, &history, 4, 6, "emu/plain-n5-i0");
    tokio::join!(late, quick);
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn a_parked_transaction_holds_the_views_back_and_nothing_else() {
    let mut cluster = Cluster::new(&[], "").await;
    let [api, ..] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let person = Person::register(&[cluster.url(api)], &history).await;
    let mut parked = cluster.pool().begin().await.unwrap();
    sqlx::query("SELECT pg_current_xact_id()").execute(&mut *parked).await.unwrap();
    let session = person.session("emu/plain").await;
    let ask = person.ask(session, "emu/plain").await;
    // The answer is made and streamed, and its owner reads it, although no view can have it yet.
    assert_eq!(ask.end.as_ref().unwrap().0, "done");
    let path = format!("/messages/session/{session}");
    let (status, answer) = person.client().call(reqwest::Method::GET, &path, None).await;
    assert_eq!((status.as_u16(), answer["data"].as_array().unwrap().len()), (200, 2), "{answer}");
    let in_views = format!("SELECT count(*) FROM read.messages WHERE session_id = '{session}'");
    assert_eq!(cluster.count(&in_views).await, 0);
    // Whoever sits on a transaction of the product's own is thrown out by the server; this one goes by itself.
    let bound = "SELECT setting FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'";
    let store = cluster.store().await;
    let bound: String = sqlx::query_scalar(bound).fetch_one(store.pool()).await.unwrap();
    assert_eq!(bound, "30000");
    parked.rollback().await.unwrap();
    eventually("the views have it", async || (cluster.count(&in_views).await == 2).then_some(())).await;
    audit(&mut cluster, &history, sampler).await.expect_green();
}
