//! The node that a client talks to dies.

use futures::{StreamExt as _, stream};
use polyphony_tests::{
    Cluster, Person, Sampler,
    audit::audit,
    eventually,
    history::{History, Outcome},
};

#[tokio::test]
async fn a_node_that_dies_around_the_commit_promises_neither_too_much_nor_twice() {
    let mut cluster = Cluster::new(&[], "").await;
    let [good, ..] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let good = cluster.url(good);
    // Whether the prompt was stored when the node died.
    for (point, stored) in [
        ("store.before_commit.turn=abort", 0),
        ("store.after_commit.turn=abort", 1),
        ("api.after_commit=abort", 1),
        ("api.before_reply=sleep:5000;api.after_publish=abort", 1),
    ] {
        let doomed = cluster.start("api", &[("POLYPHONY_FAILPOINTS", point)]).await;
        let nodes = [cluster.url(doomed), good.clone()];
        let person = Person::register(&nodes, &history).await;
        let session = person.session("emu/plain").await;
        let before = cluster.count("SELECT count(*) FROM events WHERE event_type = 'prompt_posted'").await;
        // Somebody who sends the same again elsewhere.
        let again = person.ask(session, "emu/plain").await;
        assert!(cluster.role(doomed).has_ended(), "{point}");
        let prompts = cluster.count("SELECT count(*) FROM events WHERE event_type = 'prompt_posted'").await;
        assert_eq!(prompts - before, 1, "{point}");
        assert_eq!((again.end.as_ref().unwrap().0.as_str(), again.tries), ("done", 2), "{point}");
        assert_eq!(cluster.emulator.calls_for(&again.marker).len(), 1, "{point}");
        // Nobody comes back to ask again: what is in the log is answered all the same, what isn't never is.
        let doomed = cluster.start("api", &[("POLYPHONY_FAILPOINTS", point)]).await;
        let mut hasty = Person::register(&[cluster.url(doomed)], &history).await;
        let session = hasty.session("emu/plain").await;
        hasty.tries = 1;
        let mut asking = hasty.asking(session, "emu/plain");
        asking.to_end().await;
        let ask = asking.finish();
        assert_eq!(ask.outcome, Outcome::Unknown);
        assert_ne!(cluster.role(doomed).exit_code().await, Some(0));
        eventually("nothing is in flight", async || {
            (cluster.count("SELECT count(*) FROM ops.runs").await == 0).then_some(())
        })
        .await;
        assert_eq!(cluster.emulator.calls_for(&ask.marker).len(), stored, "{point}");
    }
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn streams_of_a_node_that_dies_go_on_at_another_one() {
    let mut cluster = Cluster::new(&[("POLYPHONY_WORKER__LEASE_SECONDS", "30")], "").await;
    let [dying, other, ..] = cluster.start_all(["api", "api", "relay", "projector", "worker"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let nodes = [cluster.url(dying), cluster.url(other)];
    let mut people = Vec::new();
    for _ in 0..10 {
        people.push(Person::register(&nodes, &history).await);
    }
    // Forty streams, cut at different places.
    let asking = people.iter().cycle().take(40).enumerate().map(|(index, person)| async move {
        let session = person.session("emu/plain-n80-i20").await;
        let mut asking = person.asking(session, "emu/plain-n80-i20");
        asking.until_text(20 + 60 * index).await;
        asking
    });
    let asking = futures::future::join_all(asking).await;
    cluster.role(dying).kill9();
    let asks = futures::future::join_all(asking.into_iter().map(|mut asking| async move {
        asking.to_end().await;
        asking.finish()
    }));
    for ask in asks.await {
        assert_eq!(ask.end.as_ref().map(|(event, _)| event.as_str()), Some("done"), "{:?}", ask.faults);
        assert_eq!(ask.restarts, 0);
    }
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn a_hundred_viewers_who_come_at_once_are_served_without_the_database() {
    let model = "emu/plain-n60-i300";
    let mut cluster = Cluster::new(&[("POLYPHONY_WORKER__LEASE_SECONDS", "30")], "plain-n60-i300").await;
    let [dying, other, ..] = cluster.start_all(["api", "api", "relay", "projector", "worker"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let nodes = [cluster.url(dying), cluster.url(other)];
    let mut people = Vec::new();
    for _ in 0..6 {
        people.push(Person::register(&nodes, &history).await);
    }
    let asking = stream::iter(people.iter().cycle().take(100)).map(|person| async move {
        let session = person.session(model).await;
        let mut asking = person.asking(session, model);
        asking.until_text(50).await;
        asking
    });
    let asking: Vec<_> = asking.buffered(32).collect().await;
    cluster.role(dying).kill9();
    // Counted whenever one has come back.
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'polyphony' \
        AND datname = current_database()";
    let back = asking.into_iter().map(|mut asking| async {
        asking.read_while(|ask| ask.resumes == 0).await;
        let connections = cluster.count(connections).await;
        asking.to_end().await;
        (asking.finish(), connections)
    });
    for (ask, connections) in futures::future::join_all(back).await {
        // Five processes with eight connections each, whatever comes.
        assert!(connections <= 5 * 8 + 2, "{connections} connections");
        let end = ask.end.as_ref().map(|(event, _)| event.as_str());
        assert_eq!((end, ask.restarts, &ask.faults), (Some("done"), 0, &Vec::new()));
    }
    audit(&mut cluster, &history, sampler).await.expect_green();
}
