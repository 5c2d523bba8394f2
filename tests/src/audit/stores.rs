//! What the stores hold: I3, I7, I8, the analytics of I5, and the coming to rest of I10.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use polyphony_testkit::emulator::markers;
use tokio::time::sleep;

use super::{Ledger, Verdict};
use crate::{Cluster, Person, cluster::PROVIDER_KEY, history::History};

/// Most open files of a role at rest; each has a few dozen connections.
const MOST_FILES: usize = 160;
/// Most resident memory of a role at rest.
const MOST_KILOBYTES: u64 = 400_000;
const LOOK: Duration = Duration::from_millis(50);

/// What must have come to rest, as a number that is then 0.
const RESTLESS: [(&str, &str); 4] = [
    ("answers in flight", "SELECT count(*) FROM ops.runs"),
    (
        "events ahead of a view",
        "SELECT count(*) FROM events, read.checkpoints c WHERE (events.xid, events.position) > (c.xid, c.position)",
    ),
    (
        "events ahead of the relay",
        "SELECT count(*) FROM events, ops.relay r WHERE (events.xid, events.position) > (r.xid, r.position)",
    ),
    ("batches of facts on their way", "SELECT count(*) FROM read.usage_batches"),
];

/// I10: nothing is left to be done.
pub(super) async fn rest(cluster: &mut Cluster, verdict: &mut Verdict, patience: Duration) {
    let deadline = Instant::now() + patience;
    for (what, sql) in RESTLESS {
        let mut left = cluster.count(sql).await;
        while left > 0 && Instant::now() < deadline {
            sleep(LOOK).await;
            left = cluster.count(sql).await;
        }
        verdict.expect(left == 0, || format!("{left} {what} after {} s", patience.as_secs()));
    }
    for (name, files, kilobytes) in cluster.resources() {
        let modest = files <= MOST_FILES && kilobytes <= MOST_KILOBYTES;
        verdict.expect(modest, || format!("{name} holds {files} files and {kilobytes} kB"));
    }
    let parked = cluster.count("SELECT count(*) FROM read.parked_events").await;
    verdict.expect(parked == 0, || format!("{parked} events were put aside"));
}

/// I10: whoever asks now is answered, on every node.
pub(super) async fn revive(cluster: &mut Cluster, history: &History, verdict: &mut Verdict, patience: Duration) {
    let nodes: Vec<_> =
        cluster.alive().into_iter().filter(|(_, kind)| ["api", "all"].contains(&kind.as_str())).collect();
    for (node, _) in nodes {
        let base = [cluster.url(node)];
        let begun = Instant::now();
        let mut person = Person::register(&base, history).await;
        person.patience = patience;
        let session = person.session("emu/plain-n5-i0").await;
        let ask = person.ask(session, "emu/plain-n5-i0").await;
        let done = ask.end.as_ref().is_some_and(|(event, _)| event == "done");
        verdict.expect(done, || format!("{}: no answer {} s after the faults", base[0], begun.elapsed().as_secs()));
    }
    rest(cluster, verdict, patience).await;
}

/// I7, as far as it can be seen afterwards.
pub(super) async fn order(cluster: &Cluster, verdict: &mut Verdict) {
    let holes = "SELECT count(*) FROM (SELECT aggregate_id FROM events GROUP BY aggregate_type, aggregate_id \
        HAVING min(sequence) <> 1 OR max(sequence) <> count(*)) AS broken";
    let holes = cluster.count(holes).await;
    verdict.expect(holes == 0, || format!("{holes} aggregates have holes in their sequence"));
    let doubled = "SELECT count(*) - count(DISTINCT event_id) FROM events";
    let doubled = cluster.count(doubled).await;
    verdict.expect(doubled == 0, || format!("{doubled} event ids are used twice"));
}

/// Rows of all views, as one hash.
const ROWS: &str = "SELECT md5(string_agg(kind || id::text || data::text, '|' ORDER BY kind, id)) FROM (\
    SELECT 's' AS kind, id, data FROM read.sessions UNION ALL SELECT 'm', id, data FROM read.messages) AS rows";

const FACTS: &str = "SELECT count(), sum(tokens_input), sum(tokens_output), sum(cost_nanos), uniqExact(event_id)";

/// Name of the live table of facts.
async fn live_facts(cluster: &Cluster) -> String {
    let epoch = cluster.count("SELECT epoch FROM read.checkpoints WHERE name = 'usage_v1'").await;
    if epoch == 0 { "usage_events".to_owned() } else { format!("usage_events_e{epoch}") }
}

/// I3: everything is built anew from the log, twice.
pub(super) async fn views(cluster: &Cluster) -> Verdict {
    let mut verdict = Verdict::of("I3");
    let rows = async || {
        let count = cluster.count("SELECT (SELECT count(*) FROM read.sessions) + (SELECT count(*) FROM read.messages)");
        let facts = cluster.facts(&format!("{FACTS} FROM {}", live_facts(cluster).await)).await;
        (count.await, cluster.text(ROWS).await, facts.unwrap_or_else(|error| error))
    };
    let live = rows().await;
    for round in 1..=2 {
        if let Err(error) = cluster.run(&["rebuild", "--all"]).await {
            verdict.expect(false, || format!("the rebuild failed: {error}"));
            return verdict;
        }
        let built = rows().await;
        verdict.expect(built == live, || format!("rebuild {round}: {built:?} instead of {live:?}"));
        verdict.checked += usize::try_from(live.0).unwrap_or(0);
    }
    verdict
}

/// I5: the analytics hold what the log holds.
pub(super) async fn analytics(cluster: &Cluster, ledger: &Ledger, verdict: &mut Verdict) {
    let mut expected = (0_u64, 0_u64, 0_u64, 0_i64);
    for record in ledger.answers.values().flat_map(|answer| &answer.records).filter(|record| record.attempt > 0) {
        expected.0 += 1;
        expected.1 += record.usage.input;
        expected.2 += record.usage.output;
        expected.3 += record.cost.0;
    }
    let logged = format!("{}\t{}\t{}\t{}\t{}", expected.0, expected.1, expected.2, expected.3, expected.0);
    let table = live_facts(cluster).await;
    match cluster.facts(&format!("{FACTS} FROM {table}")).await {
        Ok(counted) => verdict.expect(counted.trim() == logged, || {
            format!("the analytics have {:?}, the log {logged:?}", counted.trim())
        }),
        Err(error) => verdict.expect(false, || format!("the analytics can't be asked: {error}")),
    }
    let daily = table.replace("usage_events", "usage_daily");
    let sums = format!("SELECT sum(requests), sum(tokens_input), sum(tokens_output), sum(cost_nanos) FROM {daily}");
    let logged = format!("{}\t{}\t{}\t{}", expected.0, expected.1, expected.2, expected.3);
    match cluster.facts(&sums).await {
        Ok(counted) => verdict.expect(counted.trim() == logged, || {
            format!("the daily sums are {:?}, the log's {logged:?}", counted.trim())
        }),
        Err(error) => verdict.expect(false, || format!("the daily sums can't be asked: {error}")),
    }
}

/// Tables whose text must hold neither the keys nor the prompts.
const SEALED: [(&str, &str); 5] = [
    ("the log", "SELECT string_agg(events::text, '') FROM events"),
    ("the idempotency table", "SELECT string_agg(encode(response, 'escape') || key, '') FROM ops.idempotency"),
    ("the table of keys", "SELECT string_agg(api_keys::text, '') FROM ops.api_keys"),
    ("the table of runs", "SELECT string_agg(runs::text, '') FROM ops.runs"),
    ("the parked events", "SELECT string_agg(parked_events::text, '') FROM read.parked_events"),
];

/// I8.
pub(super) async fn secrets(cluster: &Cluster) -> Verdict {
    let mut verdict = Verdict::of("I8");
    let mut look = |place: &str, text: &str, is_for_persons: bool| {
        for word in [PROVIDER_KEY, "correct horse"] {
            verdict.expect(!text.contains(word), || format!("{place} holds {word:?}"));
        }
        // The markers stand for all text of persons. Less than a whole one may stand in sealed bytes by chance.
        let found = if is_for_persons { None } else { markers(text).into_iter().next() };
        verdict.expect(found.is_none(), || format!("{place} holds {found:?}"));
    };
    for (place, sql) in SEALED {
        look(place, &cluster.text(sql).await, false);
    }
    let views = "SELECT string_agg(data::text, '') FROM (SELECT data FROM read.sessions \
        UNION ALL SELECT data FROM read.messages) AS rows";
    look("the views", &cluster.text(views).await, true);
    for (role, log) in cluster.logs() {
        look(&format!("the log of {role}"), &log, false);
    }
    let facts = cluster.facts(&format!("SELECT * FROM {}", live_facts(cluster).await)).await;
    look("the analytics", &facts.unwrap_or_default(), false);
    if let Some(folder) = cluster.nats.log().parent() {
        let mut files = HashMap::new();
        read_all(folder, &mut files);
        for (name, text) in files.iter().filter(|(name, _)| name.contains("jetstream") || name.contains("nats")) {
            look(name, text, false);
        }
    }
    verdict
}

/// The files of a folder and those under it, up to a size that a test's NATS doesn't reach.
fn read_all(folder: &Path, files: &mut HashMap<String, String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_all(&path, files);
        } else if entry.metadata().is_ok_and(|meta| meta.len() < 64 << 20)
            && let Ok(bytes) = std::fs::read(&path)
        {
            files.insert(path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
