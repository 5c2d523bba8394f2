//! Disks are full: that of the tables, that of the bus.

use polyphony_tests::{Cluster, Person, Sampler, audit::audit, eventually, history::History};
use reqwest::Method;
use serde_json::json;

const BEHIND: &str =
    "SELECT count(*) FROM events, ops.relay r WHERE (events.xid, events.position) > (r.xid, r.position)";
const PROMPTS: &str = "SELECT count(*) FROM events WHERE event_type = 'prompt_posted'";
const MODEL: &str = "emu/plain-n40-i10";

#[tokio::test]
async fn a_full_disk_refuses_or_waits_and_is_forgotten_when_there_is_room() {
    if !polyphony_tests::has_small_disks() {
        eprintln!("NOT TESTED: this machine lets no program have a disk of its own (unshare --user --mount)");
        return;
    }
    let mut cluster = Cluster::on_small_disks(&[], "").await;
    let [api, relay, ..] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let (history, sampler, nodes) = (History::default(), Sampler::start(cluster.pool()), [cluster.url(api)]);
    let person = Person::register(&nodes, &history).await;
    let session = person.session(MODEL).await;
    assert_eq!(person.ask(session, MODEL).await.end.unwrap().0, "done");

    // No room for the tables: what fits into the last pages is taken, and then every prompt is refused. What
    // was refused is not in the log.
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(person.session(MODEL).await);
    }
    cluster.postgres().fill_disk();
    let (client, mut taken, mut refused) = (person.client(), cluster.count(PROMPTS).await, None);
    for session in sessions {
        let body = json!({"session_id": session, "content": "tea ".repeat(2_000), "model_id": MODEL});
        let request = client.request(Method::POST, "/chat/completions").header("accept", "application/json");
        let response = request.json(&body).send().await.unwrap();
        if response.status() != 202 {
            refused = Some(response);
            break;
        }
        taken += 1;
    }
    let refused = refused.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(cluster.count(PROMPTS).await, taken);
    // Whoever asks all the same is refused now, or waits for an answer that can't be stored; and is answered later.
    let failures = |cluster: &Cluster| {
        let all: String = cluster.logs().into_iter().map(|(_, log)| log).collect();
        all.matches("a request failed").count() + all.matches("could not be stored yet").count()
    };
    let (before, asker) = (failures(&cluster), person.clone());
    let patient = tokio::spawn(async move { asker.ask(session, MODEL).await });
    eventually("it is felt", async || (failures(&cluster) > before).then_some(())).await;
    cluster.postgres().free_disk();
    let ask = patient.await.unwrap();
    assert_eq!(ask.end.as_ref().unwrap().0, "done", "{ask:?}");

    // No room for the bus: prompts are taken, and nobody hears of them.
    eventually("the relay is level", async || (cluster.count(BEHIND).await == 0).then_some(())).await;
    cluster.nats.fill_disk();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut asking = person.asking(person.session(MODEL).await, MODEL);
        asking.read_while(|ask| ask.last_id.is_none()).await;
        waiting.push(asking);
    }
    cluster.role(relay).wait_for_log("the relay lost its lead").await;
    assert!(cluster.count(BEHIND).await > 0);
    // Whoever makes room starts the server again: it may have switched its streams off.
    cluster.nats.free_disk();
    cluster.nats.stop();
    cluster.nats.start();
    for mut asking in waiting {
        asking.to_end().await;
        let ask = asking.finish();
        assert_eq!(ask.end.as_ref().unwrap().0, "done", "{ask:?}");
    }
    audit(&mut cluster, &history, sampler).await.expect_green();
}
