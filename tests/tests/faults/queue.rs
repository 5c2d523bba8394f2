//! The fair queue as people meet it: a thousand answers of one account beside another one's, and the bound.

use futures::{StreamExt as _, stream};
use polyphony_devstack::progress;
use polyphony_testkit::emulator::Script;
use polyphony_tests::{Cluster, Person, Sampler, audit::audit, eventually, history::History, read};
use reqwest::{Method, Response};
use serde_json::json;
use uuid::Uuid;

const LONG: &str = "emu/plain-n80-i20";
const SHORT: &str = "emu/plain-n40-i10";

/// Asks and doesn't wait for the answer.
async fn post(person: &Person, session: Uuid, model: &str) -> Response {
    let content = format!("{}: count, please", person.marker().text);
    let body = json!({"session_id": session, "content": content, "model_id": model});
    let request = person.client().request(Method::POST, "/chat/completions").header("accept", "application/json");
    request.json(&body).send().await.unwrap()
}

#[tokio::test]
async fn a_thousand_answers_of_one_account_do_not_hold_up_another() {
    let settings = [("POLYPHONY_LIMITS__RELAXED", "false"), ("POLYPHONY_WORKER__SLOTS", "8")];
    let mut cluster = Cluster::new(&settings, "").await;
    let [api, ..] = cluster.start_all(["api", "relay", "projector", "worker", "worker"]).await;
    let (history, sampler, nodes) = (History::default(), Sampler::start(cluster.pool()), [cluster.url(api)]);
    let (greedy, modest) = (Person::register(&nodes, &history).await, Person::register(&nodes, &history).await);
    let session = modest.session(SHORT).await;
    let mut alone = Vec::new();
    for _ in 0..9 {
        alone.push(modest.ask(session, SHORT).await.first.unwrap());
    }
    let posts =
        stream::iter(0..1_000).map(|_| async { post(&greedy, greedy.session(LONG).await, LONG).await.status() });
    let refused: Vec<_> =
        posts.buffer_unordered(16).filter(|status| std::future::ready(*status != 202)).collect().await;
    assert!(refused.is_empty(), "{refused:?}");
    let (mut ahead, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let seated = cluster.count("SELECT count(*) FROM ops.runs WHERE seat IS NOT NULL").await;
        assert!(seated <= 8, "{seated} answers of an account with eight seats are in the making");
        let before = cluster.emulator.calls().len();
        let ask = modest.ask(session, SHORT).await;
        assert_eq!(ask.end.as_ref().unwrap().0, "done");
        let since = &cluster.emulator.calls()[before..];
        ahead.push(since.iter().position(|call| call.marker == ask.marker).unwrap());
        beside.push(ask.first.unwrap());
    }
    let left = cluster.count("SELECT count(*) FROM ops.runs WHERE seat IS NULL").await;
    assert!(left > 100, "the backlog was gone: {left}");
    // None of the backlog went first, only what just then began on a seat of its own.
    assert!(ahead.iter().all(|calls| *calls <= 8), "{ahead:?}");
    alone.sort();
    beside.sort();
    let ratio = beside[4].as_secs_f64() / alone[4].as_secs_f64();
    progress(format!(
        "first chunk alone {:?}, beside a backlog of {left} {:?}: x{ratio:.2}; begun before it {ahead:?}",
        alone[4], beside[4]
    ));
    // The rest is made quickly, and every one of it once.
    cluster.emulator.script("plain-n80-i20", Some(Script { pieces: 2, ..Script::default() }));
    eventually("the backlog shrinks", async || {
        (cluster.count("SELECT count(*) FROM ops.runs").await < left / 2).then_some(())
    })
    .await;
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn past_its_bound_an_account_is_told_when_to_come_again() {
    let settings = [
        ("POLYPHONY_LIMITS__RELAXED", "false"),
        ("POLYPHONY_LIMITS__IN_FLIGHT", "1"),
        ("POLYPHONY_LIMITS__WAITING", "2"),
    ];
    let mut cluster = Cluster::new(&settings, "").await;
    let [api, ..] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let (history, sampler, nodes) = (History::default(), Sampler::start(cluster.pool()), [cluster.url(api)]);
    let (greedy, modest) = (Person::register(&nodes, &history).await, Person::register(&nodes, &history).await);
    for _ in 0..3 {
        let session = greedy.session("emu/plain-n300-i10").await;
        assert_eq!(post(&greedy, session, "emu/plain-n300-i10").await.status(), 202);
    }
    let session = greedy.session(SHORT).await;
    let before = cluster.count("SELECT count(*) FROM events").await;
    let refused = post(&greedy, session, SHORT).await;
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    let (status, answer) = read(refused).await;
    assert_eq!((status.as_u16(), answer["error"]["code"].as_str()), (429, Some("RATE_LIMITED")), "{answer}");
    assert!((1..=60).contains(&wait), "{wait}");
    let session_of_other = modest.session(SHORT).await;
    let prompts = "SELECT count(*) FROM events WHERE event_type = 'prompt_posted'";
    assert_eq!(cluster.count(prompts).await, 3, "{before} events before");
    // Another one is served meanwhile, and whoever comes again is served in turn.
    assert_eq!(modest.ask(session_of_other, SHORT).await.end.unwrap().0, "done");
    let ask = greedy.ask(session, SHORT).await;
    assert_eq!(ask.end.as_ref().unwrap().0, "done", "{ask:?}");
    audit(&mut cluster, &history, sampler).await.expect_green();
}
