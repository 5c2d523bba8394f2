//! Wall clocks are wrong, differ and step.

use polyphony_testkit::clock::Clock;
use polyphony_tests::{Cluster, Person, Sampler, audit::audit, history::History};
use reqwest::Method;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const LONG: &str = "emu/plain-n80-i20";

#[tokio::test]
async fn clocks_that_differ_and_step_back_change_no_order_no_lease_and_no_bill() {
    let mut cluster = Cluster::new(&[], "").await;
    // Whoever puts a day on something by a clock of one's own puts a wrong one.
    let [ahead, behind, tomorrow, yesterday] = [10 * MINUTE, -10 * MINUTE, 26 * HOUR, -26 * HOUR].map(Clock::shifted);
    let one = cluster.start("api", &ahead.envs()).await;
    let other = cluster.start("api", &behind.envs()).await;
    cluster.start("relay", &behind.envs()).await;
    cluster.start("projector", &tomorrow.envs()).await;
    let worker = cluster.start("worker", &yesterday.envs()).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let (one, other) = (cluster.url(one), cluster.url(other));

    // Prompts by way of both nodes: their order is that of the log, as is the order of the sessions.
    let person = Person::register(&[one.clone(), other.clone()], &history).await;
    let sessions = [person.session("emu/plain").await, person.session("emu/plain").await];
    let mut markers = Vec::new();
    for _ in 0..4 {
        for session in sessions {
            let ask = person.ask(session, "emu/plain").await;
            assert_eq!(ask.end.as_ref().unwrap().0, "done", "{ask:?}");
            markers.push(ask.marker);
        }
        person.move_on();
    }
    for node in [&one, &other] {
        let client = person.client().at(node);
        for (index, session) in sessions.iter().enumerate() {
            let path = format!("/messages/session/{session}?limit=100");
            let (_, answer) = client.call(Method::GET, &path, None).await;
            let contents =
                answer["data"].as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap());
            let prompts: Vec<_> = contents.filter_map(|content| content.split_once(": count")).collect();
            let asked: Vec<_> = markers.iter().skip(index).step_by(2).map(String::as_str).collect();
            assert_eq!(prompts.iter().map(|(marker, _)| *marker).collect::<Vec<_>>(), asked);
        }
        let (_, list) = client.call(Method::GET, "/sessions", None).await;
        let listed: Vec<_> = list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!(listed, [sessions[1].to_string(), sessions[0].to_string()]);
    }

    // A token lives for a quarter of an hour: one of the node that is behind is over at the node that is ahead.
    let late = Person::register(std::slice::from_ref(&other), &history).await;
    let (status, answer) = late.client().at(&one).call(Method::GET, "/sessions", None).await;
    assert_eq!((status.as_u16(), answer["error"]["code"].as_str()), (401, Some("TOKEN_EXPIRED")), "{answer}");
    assert_eq!(late.client().call(Method::GET, "/sessions", None).await.0.as_u16(), 200);

    // In the middle of an answer all clocks go back, and in the middle of the next one they leap: no lease ends by it.
    for step in [-HOUR, 2 * HOUR] {
        let mut asking = person.asking(sessions[0], LONG);
        asking.until_text(200).await;
        for clock in [&ahead, &behind, &tomorrow, &yesterday] {
            clock.shift(step);
        }
        asking.to_end().await;
        let ask = asking.finish();
        assert_eq!((ask.end.as_ref().unwrap().0.as_str(), ask.restarts), ("done", 0), "{:?}", ask.faults);
        assert_eq!(cluster.emulator.calls_for(&ask.marker).len(), 1);
    }
    let log = cluster.role(worker).log();
    assert!(!log.contains("taken over"), "a lease was lost");
    // What was measured is time that has passed.
    let longest = "SELECT max((payload #>> '{answer_completed,record,timings,total_ms}')::bigint) FROM events";
    let longest = cluster.count(longest).await;
    assert!((0..=i64::try_from(history.elapsed().as_millis()).unwrap()).contains(&longest), "{longest} ms");

    let report = audit(&mut cluster, &history, sampler).await;
    // Usage belongs to the day on which the log took it.
    let days = "SELECT string_agg(day || '\t' || count || E'\n', '' ORDER BY day) FROM (\
        SELECT recorded_at::date::text AS day, count(*) FROM events WHERE event_type = 'answer_completed' GROUP BY 1) AS days";
    let table = if cluster.facts("SELECT 1 FROM usage_daily LIMIT 1").await.is_ok_and(|rows| !rows.is_empty()) {
        "usage_daily".to_owned()
    } else {
        format!("usage_daily_e{}", cluster.count("SELECT epoch FROM read.checkpoints WHERE name = 'usage_v1'").await)
    };
    let counted = format!("SELECT toString(day) AS day, sum(requests) FROM {table} GROUP BY day ORDER BY day");
    assert_eq!(cluster.facts(&counted).await.unwrap(), cluster.text(days).await);
    report.expect_green();
}
