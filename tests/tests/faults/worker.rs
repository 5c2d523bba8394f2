//! Workers die, stand still and are overtaken.

use std::time::Duration;

use polyphony_testkit::emulator::{Ended, Script};
use polyphony_tests::{Cluster, Person, Sampler, audit::audit, eventually, history::History, load::crowd};

const ENDS_AT: [&str; 9] = [
    "worker.job_received=abort",
    "worker.after_lease=abort",
    "worker.before_connect=abort",
    "worker.after_headers=abort",
    "worker.after_chunk=abort",
    "worker.after_chunk=abort@20",
    "worker.before_end_event=abort",
    "worker.after_end_event=abort",
    "worker.before_ack=abort",
];
const ENDINGS: &str = "SELECT count(*) FROM events WHERE event_type IN ('answer_completed', 'answer_failed')";

#[tokio::test]
async fn a_worker_that_dies_at_any_point_loses_and_doubles_nothing() {
    let mut cluster = Cluster::new(&[("POLYPHONY_WORKER__LEASE_SECONDS", "2")], "").await;
    let [api, ..] = cluster.start_all(["api", "relay", "projector"]).await;
    let (history, sampler, nodes) = (History::default(), Sampler::start(cluster.pool()), [cluster.url(api)]);
    // Each has one slot, and dies at its own point of its first job.
    let one_slot = ("POLYPHONY_WORKER__SLOTS", "1");
    let doomed: Vec<_> =
        ENDS_AT.map(|point| cluster.spawn("worker", &[("POLYPHONY_FAILPOINTS", point), one_slot])).into();
    let asking = tokio::spawn({
        let (nodes, history) = (nodes.clone(), history.clone());
        async move { crowd(&nodes, &history, 9, 1, "emu/plain-n40-i10").await }
    });
    for node in doomed {
        assert_ne!(cluster.role(node).exit_code().await, Some(0));
    }
    cluster.start("worker", &[]).await;
    asking.await.unwrap();
    assert_eq!(cluster.injected().len(), 8, "{:?}", cluster.injected());
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn a_worker_that_stood_still_and_wakes_up_changes_nothing() {
    let mut cluster = Cluster::new(&[], "").await;
    let [api, _, _, zombie] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let person = Person::register(&[cluster.url(api)], &history).await;
    let session = person.session("emu/plain").await;
    // As long as it takes.
    cluster
        .emulator
        .script("plain", Some(Script { pieces: 20_000, pause: Duration::from_millis(10), ..Script::default() }));
    let mut asking = person.asking(session, "emu/plain");
    asking.until_text(500).await;
    cluster.role(zombie).freeze();
    let second = cluster.start("worker", &[]).await;
    // Two more attempts: the second one's worker dies after the first one's has woken up and acknowledged the job.
    asking.read_while(|ask| ask.restarts == 0 || ask.text.len() < 500).await;
    cluster.role(zombie).thaw();
    let marker = asking.ask.marker.clone();
    let hung_up = async || {
        let calls = cluster.emulator.calls_for(&marker);
        calls[0].ended.is_some_and(|(_, how)| how == Ended::HungUp).then_some(())
    };
    eventually("the zombie ends its call", hung_up).await;
    cluster.role(second).kill9();
    cluster.role(zombie).kill9();
    cluster.emulator.script("plain", None);
    cluster.start("worker", &[]).await;
    asking.to_end().await;
    let ask = asking.finish();
    assert_eq!((ask.restarts, ask.end.as_ref().unwrap().0.as_str()), (2, "done"));
    assert_eq!(cluster.emulator.calls_for(&marker).len(), 3);
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn a_long_call_is_made_once_and_one_without_heartbeat_is_fenced() {
    let mut cluster = Cluster::new(&[("POLYPHONY_WORKER__LEASE_SECONDS", "2")], "plain-n100-i80").await;
    let [api, _, _, first] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let person = Person::register(&[cluster.url(api)], &history).await;
    let session = person.session("emu/plain-n100-i80").await;
    // Four leases long.
    let long = person.ask(session, "emu/plain-n100-i80").await;
    assert_eq!((long.restarts, cluster.emulator.calls_for(&long.marker).len()), (0, 1));
    cluster.role(first).sigterm();
    assert_eq!(cluster.role(first).exit_code().await, Some(0));
    let silent = cluster.start("worker", &[("POLYPHONY_FAILPOINTS", "worker.heartbeat=err")]).await;
    let mut asking = person.asking(session, "emu/plain-n100-i80");
    asking.until_text(100).await;
    cluster.start("worker", &[]).await;
    asking.to_end().await;
    let ask = asking.finish();
    assert_eq!((ask.restarts, cluster.emulator.calls_for(&ask.marker).len()), (1, 2));
    assert!(!cluster.role(silent).has_ended());
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn a_panic_is_the_end_of_an_attempt_and_of_the_answer_at_last() {
    let mut cluster = Cluster::new(&[], "").await;
    let [api, ..] = cluster.start_all(["api", "relay", "projector"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let worker = cluster.start("worker", &[("POLYPHONY_FAILPOINTS", "worker.after_chunk=panic@1*8")]).await;
    let person = Person::register(&[cluster.url(api)], &history).await;
    let session = person.session("emu/plain").await;
    let poisoned = person.ask(session, "emu/plain").await;
    assert_eq!(poisoned.end.as_ref().unwrap().0, "error", "{poisoned:?}");
    // The worker lives, and whoever comes next is served.
    let next = person.ask(person.session("emu/plain").await, "emu/plain").await;
    assert_eq!(next.end.as_ref().unwrap().0, "done");
    assert!(!cluster.role(worker).has_ended());
    assert_eq!(cluster.count(ENDINGS).await, 2);
    audit(&mut cluster, &history, sampler).await.expect_green();
}
