//! Many commands at once, stops at the last moment, readers who don't read.

use std::net::SocketAddr;

use polyphony_testkit::proxy::{Conduct, Proxy, Way};
use polyphony_tests::{Cluster, Person, Sampler, audit::audit, eventually, history::History};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn fifty_commands_at_once_on_one_session_leave_no_hole_and_no_failure() {
    let mut cluster = Cluster::new(&[], "").await;
    let [api, other, ..] = cluster.start_all(["api", "api", "relay", "projector", "worker"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let person = Person::register(&[cluster.url(api), cluster.url(other)], &history).await;
    let session = person.session("emu/plain").await;
    let (here, there) = (person.client(), person.client().at(&cluster.url(other)));
    let commands = (0..50).map(|index| {
        let client = if index % 2 == 0 { &here } else { &there };
        async move {
            let prompt = json!({"session_id": session, "content": format!("{index}"), "model_id": "emu/plain"});
            let answered = match index % 3 {
                0 => client.call(Method::POST, "/chat/stop", Some(json!({ "session_id": session }))).await,
                1 => {
                    let title = json!({"title": format!("title {index}")});
                    client.call(Method::PUT, &format!("/sessions/{session}"), Some(title)).await
                }
                _ => {
                    let request = client.request(Method::POST, "/chat/completions").json(&prompt);
                    let request = request.header("accept", "application/json");
                    polyphony_tests::read(request.send().await.unwrap()).await
                }
            };
            (index, answered)
        }
    });
    let mut taken = 0;
    for (index, (status, answer)) in futures::future::join_all(commands).await {
        // A second prompt on the same place is refused for its meaning; nothing else is.
        let allowed: &[u16] = if index % 3 == 2 { &[202, 409] } else { &[200, 202] };
        assert!(allowed.contains(&status.as_u16()), "{index}: {status} {answer}");
        taken += usize::from(index % 3 == 2 && status == 202);
    }
    assert!(taken >= 1);
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn a_stop_at_any_moment_ends_the_answer_once_and_the_call_soon() {
    let mut cluster = Cluster::new(&[], "").await;
    let [api, ..] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let person = Person::register(&[cluster.url(api)], &history).await;
    // Around the last of forty pieces, and before the first one.
    let stops = (0..24_u64).map(|index| {
        let person = person.clone();
        async move {
            let session = person.session("emu/plain-n40-i10").await;
            let mut asking = person.asking(session, "emu/plain-n40-i10");
            asking.read_while(|ask| ask.last_id.is_none()).await;
            let pieces = if index < 4 { 0 } else { 15 + index as usize };
            asking.until_text(pieces * 60).await;
            let body = json!({ "session_id": session });
            let (status, answer) = person.client().call(Method::POST, "/chat/stop", Some(body)).await;
            assert_eq!(status, 202, "{answer}");
            asking.to_end().await;
            asking.finish()
        }
    });
    let asks = futures::future::join_all(stops).await;
    let stopped = asks.iter().filter(|ask| ask.end.as_ref().is_some_and(|(_, data)| data["status"] == "stopped"));
    assert!(stopped.count() > 4);
    eventually("no call goes on", async || {
        cluster.emulator.calls().iter().all(|call| call.ended.is_some()).then_some(())
    })
    .await;
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn a_reader_who_does_not_read_is_given_up_and_holds_up_nobody() {
    let model = "plain-n1500-i1-b4000";
    let mut cluster = Cluster::new(&[], model).await;
    let [_, _, worker] = cluster.start_all(["relay", "projector", "worker"]).await;
    let api = cluster.start("api", &[("POLYPHONY_DURATIONS", "api.write=2000")]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let address: SocketAddr = cluster.url(api).trim_start_matches("http://").parse().unwrap();
    let line = Proxy::before(address).await;
    let stuck = Person::register(&[format!("http://127.0.0.1:{}", line.port())], &history).await;
    let session = stuck.session(&format!("emu/{model}")).await;
    let mut reading = stuck.asking(session, &format!("emu/{model}"));
    reading.until_text(10_000).await;
    line.behave(Conduct { way: Way::Down, stalled: true, ..Conduct::default() });
    let (_, before) = cluster.role(api).resources().unwrap();
    // Another one reads the same answer meanwhile, six megabytes of it.
    let other = Person::register(&[cluster.url(api)], &history).await;
    let session = other.session(&format!("emu/{model}")).await;
    let whole = other.ask(session, &format!("emu/{model}")).await;
    assert_eq!(whole.end.as_ref().unwrap().0, "done");
    // The connection of the one who doesn't read is ended, and little was kept for it.
    let metrics = format!("http://127.0.0.1:{}/metrics", cluster.role(api).metrics_port());
    eventually("the connection is given up", async || {
        let metrics = reqwest::get(&metrics).await.ok()?.text().await.ok()?;
        metrics.lines().any(|line| line == "polyphony_stream_viewers 0").then_some(())
    })
    .await;
    let (_, after) = cluster.role(api).resources().unwrap();
    assert!(after < before + 60_000, "the node has grown from {before} kB to {after} kB");
    assert!(!cluster.role(worker).has_ended());
    // Plugged in again, the reader goes on where it was.
    line.heal();
    reading.to_end().await;
    assert_eq!(reading.finish().end.unwrap().0, "done");
    audit(&mut cluster, &history, sampler).await.expect_green();
}
