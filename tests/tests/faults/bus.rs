//! The message bus dies, forgets and repeats.

use polyphony_bus::{
    Bus,
    wire::{Job, JobClass},
};
use polyphony_platform::telemetry::TraceContext;
use polyphony_testkit::proxy::{Conduct, Way};
use polyphony_tests::{Cluster, Person, Sampler, audit::audit, eventually, history::History, load::Load};

#[tokio::test]
async fn the_bus_may_be_killed_and_wiped_under_load() {
    let mut cluster = Cluster::new(&[], "").await;
    let [api, ..] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let load = Load::start(&[cluster.url(api)], &history, 6, &["emu/plain-n40-i10", "emu/plain"]).await;
    for round in 0..2 {
        load.more(&history, 6).await;
        cluster.nats.kill9();
        if round == 0 {
            cluster.nats.delete_data();
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        cluster.nats.start();
    }
    load.more(&history, 6).await;
    load.finish().await;
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn jobs_that_come_again_and_again_are_done_once() {
    // Acknowledgements are dropped at the worker, and later on the line; every job is issued five times besides.
    let mut cluster = Cluster::new(&[], "").await;
    let [api, ..] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    cluster.start("worker", &[("POLYPHONY_FAILPOINTS", "worker.before_ack=err")]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let load = Load::start(&[cluster.url(api)], &history, 4, &["emu/plain-n40-i10"]).await;
    let bus = Bus::connect(cluster.nats.url(), "repeater").await.unwrap();
    let mut repeated = 0;
    for issue in 100.. {
        let rows: Vec<(uuid::Uuid, uuid::Uuid, uuid::Uuid, uuid::Uuid)> =
            sqlx::query_as("SELECT answer_id, turn_id, session_id, owner_id FROM ops.runs")
                .fetch_all(cluster.pool())
                .await
                .unwrap();
        for (answer, turn, session, owner) in rows {
            let job = Job {
                answer_id: answer.to_string().parse().unwrap(),
                turn_id: turn.to_string().parse().unwrap(),
                session_id: session.to_string().parse().unwrap(),
                owner_id: owner.to_string().parse().unwrap(),
                issue,
                requested_at_ms: 0,
                may_stand_alone: false,
            };
            bus.publish_job(&job, JobClass::Interactive, &TraceContext::random()).await.unwrap();
            repeated += 1;
        }
        if repeated > 60 {
            break;
        }
        tokio::task::yield_now().await;
    }
    // What the workers say gets lost on its way for longer than a job may stay unacknowledged.
    cluster.to_nats.behave(Conduct { way: Way::Up, stalled: true, ..Conduct::default() });
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    cluster.to_nats.heal();
    load.more(&history, 4).await;
    load.finish().await;
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn nothing_stays_on_the_bus_when_answers_have_ended() {
    let settings = [("POLYPHONY_WORKER__MAX_DELIVER", "2"), ("POLYPHONY_DURATIONS", "bus.chunks_kept=1000")];
    let mut cluster = Cluster::new(&settings, "").await;
    let [api, ..] = cluster.start_all(["api", "relay", "projector"]).await;
    // The first job message breaks on each of its deliveries; the sweeper's next one is done.
    cluster.start("worker", &[("POLYPHONY_FAILPOINTS", "worker.job_received=panic@1*2")]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let person = Person::register(&[cluster.url(api)], &history).await;
    for _ in 0..3 {
        let ask = person.ask(person.session("emu/plain-n40-i10").await, "emu/plain-n40-i10").await;
        assert_eq!(ask.end.as_ref().unwrap().0, "done", "{ask:?}");
        assert!(cluster.stored("CHUNKS").await > 0);
    }
    eventually("chunks are removed after their time", async || (cluster.stored("CHUNKS").await == 0).then_some(()))
        .await;
    eventually("no job is left", async || (cluster.stored("JOBS").await == 0).then_some(())).await;
    audit(&mut cluster, &history, sampler).await.expect_green();
}
