//! Seats are taken and given back, whatever ends an answer; views are built anew beside live writes.

use std::time::Duration;

use polyphony_testkit::emulator::{Call, Ended};
use polyphony_tests::{Cluster, Person, Sampler, audit::audit, eventually, history::History, load::Load};
use reqwest::Method;
use serde_json::json;

/// Most calls that went on at the same moment.
fn at_once(calls: &[Call]) -> usize {
    let running =
        |call: &Call, moment: Duration| call.began <= moment && call.ended.is_none_or(|(end, _)| end > moment);
    calls.iter().map(|one| calls.iter().filter(|call| running(call, one.began)).count()).max().unwrap_or(0)
}

#[tokio::test]
async fn a_seat_is_given_back_however_its_answer_ends() {
    let settings = [("POLYPHONY_LIMITS__RELAXED", "false"), ("POLYPHONY_LIMITS__IN_FLIGHT", "2")];
    let mut cluster = Cluster::new(&settings, "").await;
    cluster.provider("rude", "cut-n20,s503");
    let [api, _, _, doomed] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let person = Person::register(&[cluster.url(api)], &history).await;
    let asks = (0..12_usize).map(|index| {
        let person = person.clone();
        async move {
            let model = ["emu/plain-n40-i10", "rude/cut-n20", "emu/plain-n40-i10", "rude/s503"][index % 4];
            let session = person.session(model).await;
            let mut asking = person.asking(session, model);
            match index % 3 {
                // Followed to the end; stopped; left.
                0 => asking.to_end().await,
                1 => {
                    asking.until_text(100).await;
                    let body = json!({ "session_id": session });
                    person.client().call(Method::POST, "/chat/stop", Some(body)).await;
                    asking.to_end().await;
                }
                _ => asking.until_text(100).await,
            }
            asking.finish()
        }
    });
    let asking = tokio::spawn(futures::future::join_all(asks.collect::<Vec<_>>()));
    eventually("some are answered", async || (cluster.emulator.calls().len() >= 3).then_some(())).await;
    cluster.role(doomed).kill9();
    cluster.start("worker", &[]).await;
    asking.await.unwrap();
    // Nothing is in flight, so no seat is taken, and whoever asks now needn't wait.
    eventually("every seat is free", async || {
        (cluster.count("SELECT count(*) FROM ops.runs").await == 0).then_some(())
    })
    .await;
    let calls = cluster.emulator.calls();
    assert!(at_once(&calls) <= 2, "{} calls at once", at_once(&calls));
    assert!(calls.iter().any(|call| call.ended.is_some_and(|(_, how)| how == Ended::HungUp)));
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn a_rebuild_beside_live_writes_may_be_killed_and_is_right_when_it_ends() {
    let mut cluster = Cluster::new(&[], "").await;
    let [api, ..] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let load = Load::start(&[cluster.url(api)], &history, 4, &["emu/plain-n5-i0"]).await;
    load.more(&history, 20).await;
    for round in 1..=4_u64 {
        let rebuild = cluster.spawn_command(&["rebuild", "--all"], &[]);
        tokio::time::sleep(Duration::from_millis(150 * round)).await;
        cluster.role(rebuild).kill9();
    }
    cluster.run(&["rebuild", "--all"]).await.unwrap();
    load.more(&history, 10).await;
    cluster.run(&["rebuild", "--all"]).await.unwrap();
    load.finish().await;
    audit(&mut cluster, &history, sampler).await.expect_green();
}
