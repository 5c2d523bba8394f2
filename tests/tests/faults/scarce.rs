//! What everybody needs is slow, locked or cut off for some, or there is too little of it.

use std::time::Duration;

use polyphony_testkit::proxy::Conduct;
use polyphony_tests::{Cluster, Node, Person, Sampler, audit::audit, eventually, history::History, load::Load};
use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn a_slow_or_locked_database_refuses_what_it_cannot_take_and_recovers() {
    let mut cluster = Cluster::new(&[], "").await;
    cluster.start_all(["relay", "projector", "worker"]).await;
    // Only the node has too little of it. Were the worker as impatient, it would give up and begin again most of the time.
    let scarce = [("POLYPHONY_DATABASE__MAX_CONNECTIONS", "3"), ("POLYPHONY_DATABASE__ACQUIRE_TIMEOUT_MS", "500")];
    let api = cluster.start("api", &scarce).await;
    let (history, sampler, nodes) = (History::default(), Sampler::start(cluster.pool()), [cluster.url(api)]);
    let person = Person::register(&nodes, &history).await;
    let mut sessions = Vec::new();
    for _ in 0..12 {
        sessions.push(person.session("emu/plain").await);
    }
    // Nothing can be appended, with three connections for a dozen who ask at once.
    let mut lock = cluster.pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE events IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let (client, begun) = (person.client(), Instant::now());
    let asks = sessions.iter().map(|session| {
        let body = json!({"session_id": session, "content": "count", "model_id": "emu/plain"});
        let request = client.request(Method::POST, "/chat/completions").header("accept", "application/json");
        async move {
            let response = request.json(&body).send().await.unwrap();
            (response.status().as_u16(), response.headers().contains_key("retry-after"))
        }
    });
    let asking = futures::future::join_all(asks);
    tokio::pin!(asking);
    let refused = async {
        // Those who get no connection needn't wait for the lock.
        let (_, answer) = (sleep(Duration::from_secs(3)).await, client.call(Method::GET, "/sessions", None).await);
        answer.0.as_u16()
    };
    let refused = tokio::select! {
        _ = &mut asking => unreachable!("nothing can be taken while the log is locked"),
        status = refused => status,
    };
    assert_eq!(refused, 503, "a pool without a free connection");
    lock.rollback().await.unwrap();
    let answers = asking.await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    for answer in &answers {
        assert!([(202, false), (503, true)].contains(answer), "{answers:?}");
    }
    let taken = answers.iter().filter(|(status, _)| *status == 202).count();
    assert!((1..12).contains(&taken), "{answers:?}");
    eventually("what was taken is answered", async || {
        (cluster.count("SELECT count(*) FROM ops.runs").await == 0).then_some(())
    })
    .await;
    let prompts = cluster.count("SELECT count(*) FROM events WHERE event_type = 'prompt_posted'").await;
    assert_eq!(prompts, i64::try_from(taken).unwrap());
    // Every word to and from the database takes 150 ms: slow, and right.
    cluster.to_postgres.behave(Conduct { latency: Duration::from_millis(150), ..Conduct::default() });
    let patient = cluster.start("api", &[]).await;
    let person = person.with_nodes(&[cluster.url(patient)]);
    let asks = sessions.iter().rev().take(3).map(|session| person.ask(*session, "emu/plain"));
    for ask in futures::future::join_all(asks).await {
        assert_eq!(ask.end.as_ref().unwrap().0, "done", "{ask:?}");
    }
    cluster.to_postgres.heal();
    audit(&mut cluster, &history, sampler).await.expect_green();
}

/// Share of one processor that a role uses over two seconds, in percent.
async fn busy(cluster: &mut Cluster, node: Node) -> u128 {
    let (before, begun) = (cluster.role(node).processor_time().unwrap(), Instant::now());
    sleep(Duration::from_secs(2)).await;
    (cluster.role(node).processor_time().unwrap() - before).as_millis() * 100 / begun.elapsed().as_millis()
}

#[tokio::test]
async fn whoever_is_cut_off_from_the_bus_waits_quietly_and_comes_back() {
    let mut cluster = Cluster::new(&[], "").await;
    let (line, url) = cluster.own_line_to_nats().await;
    let [api, ..] = cluster.start_all(["api", "relay", "projector"]).await;
    let cut_off = cluster.start("worker", &[("NATS_URL", url.as_str())]).await;
    let (history, sampler, nodes) = (History::default(), Sampler::start(cluster.pool()), [cluster.url(api)]);
    let load = Load::start(&nodes, &history, 3, &["emu/plain-n40-i10"]).await;
    load.more(&history, 3).await;
    // The only worker hears nothing of the bus: nobody is answered, and it doesn't spin.
    line.behave(Conduct { stalled: true, ..Conduct::default() });
    let share = busy(&mut cluster, cut_off).await;
    assert!(share < 50, "cut off, the worker uses {share} % of a processor");
    sleep(Duration::from_secs(4)).await;
    line.heal();
    load.more(&history, 3).await;
    // The whole bus stands still, as a machine without breath, and then it is gone.
    cluster.nats.freeze();
    let (worker, node) = (busy(&mut cluster, cut_off).await, busy(&mut cluster, api).await);
    cluster.nats.thaw();
    load.more(&history, 3).await;
    cluster.nats.kill9();
    let (worker_alone, node_alone) = (busy(&mut cluster, cut_off).await, busy(&mut cluster, api).await);
    cluster.nats.start();
    load.more(&history, 3).await;
    load.finish().await;
    let shares = [worker, node, worker_alone, node_alone];
    assert!(shares.iter().all(|share| *share < 50), "without the bus, roles use {shares:?} % of a processor");
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn workers_may_be_one_and_eight_and_two_without_a_job_begun_twice() {
    // Long enough that nothing is handed over: what is begun is finished.
    let settings = [("POLYPHONY_WORKER__DRAIN_SECONDS", "30"), ("POLYPHONY_DATABASE__MAX_CONNECTIONS", "4")];
    let mut cluster = Cluster::new(&settings, "").await;
    let [api, _, _, first] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let (history, sampler, nodes) = (History::default(), Sampler::start(cluster.pool()), [cluster.url(api)]);
    let load = Load::start(&nodes, &history, 8, &["emu/plain-n40-i10", "emu/plain", "emu/plain-n80-i20"]).await;
    let mut workers = vec![first];
    for count in [8, 2, 6, 1] {
        load.more(&history, 8).await;
        while workers.len() < count {
            workers.push(cluster.spawn("worker", &[]));
        }
        load.more(&history, 8).await;
        for worker in workers.drain(count..) {
            cluster.role(worker).sigterm();
            assert_eq!(cluster.role(worker).exit_code().await, Some(0));
        }
    }
    load.finish().await;
    for ask in history.asks() {
        assert_eq!((ask.end.as_ref().unwrap().0.as_str(), ask.restarts), ("done", 0), "{ask:?}");
        assert_eq!(cluster.emulator.calls_for(&ask.marker).len(), 1, "{}", ask.marker);
    }
    let again =
        cluster.count("SELECT count(*) FROM events WHERE event_type = 'attempt_started' AND sequence > 3").await;
    assert_eq!(again, 0);
    audit(&mut cluster, &history, sampler).await.expect_green();
}
