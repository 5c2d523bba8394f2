//! One rough minute in a quarter of it: a fixed course of faults that touches every invariant. Unharmed, the product
//! passes it; with any one of the mistakes of [`MUTATIONS`] built in, the auditor says which promise was broken.

use std::time::Duration;

use crate::{
    Cluster, Person, Sampler, audit::Report, baseline::Baseline, history::History, load::patient_crowd, twin::Twin,
};

/// A mistake, what it is, and the invariants that it breaks; none for one that the product bears.
pub const MUTATIONS: [(&str, &str, &[&str]); 16] = [
    ("reply_without_commit", "a prompt is acknowledged whose transaction is rolled back", &["I1"]),
    ("forget_idempotency", "the key of a request is not kept", &["I1"]),
    ("no_sweep", "nobody looks for answers that nobody works on", &["I2", "I10"]),
    ("swallow_projection_error", "a failed batch counts as applied", &["I3"]),
    ("position_only", "the log is read by position, past what is not committed yet", &["I3", "I7"]),
    ("skip_fence", "an overtaken attempt may publish and store", &["I4", "I5"]),
    ("lossy_resume", "a viewer that catches up misses a chunk", &["I4"]),
    ("drop_dedup_token", "a batch of facts is sent without its token", &["I5", "I3"]),
    ("sum_usage", "reports of usage are added up", &["I5"]),
    ("retry_after_text", "a provider is asked again although text was shown", &["I6"]),
    ("skip_sequence", "sequences have holes", &["I7"]),
    ("log_prompt", "a worker logs what it sends", &["I8"]),
    ("cross_user", "chunks go to whoever listens", &["I9"]),
    ("give_up", "a projection ends at its first error", &["I10"]),
    (HOLD_GRUDGE, "a provider that was too busy once is asked after a pause for ever", &["I10"]),
    ("ack_early", "a job is acknowledged before it is done: the bus promises nothing, so nothing breaks", &[]),
];

/// The mistake that makes everything slower and breaks nothing else.
const HOLD_GRUDGE: &str = "hold_grudge";
/// So long a person waits on the course: as long as a sound product may need at most on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);
const MODELS: &str = "twice-i5,plain-n200-i20,s429-ra1-first1";

/// Goes the course with a mistake built in, or with none.
pub async fn course(mutation: &str) -> Report {
    let settings = [("POLYPHONY_MUTATION", mutation), ("POLYPHONY_WORKER__LEASE_SECONDS", "2")];
    let mut cluster = Cluster::new(&settings, MODELS).await;
    cluster.provider("rude", "cut-first1");
    let [api, _relay, zombie] = cluster.start_all(["api", "relay", "worker"]).await;
    let projector = "projector.before_rows=err@3*1;projector.clickhouse_after_insert=abort@2";
    let doomed_projector = cluster.start("projector", &[("POLYPHONY_FAILPOINTS", projector)]).await;
    let slow = "store.before_commit.turn=sleep:400";
    let slow = cluster.start("api", &[("POLYPHONY_FAILPOINTS", slow)]).await;
    let doomed = "api.before_reply=sleep:5000;api.after_publish=abort";
    let doomed = cluster.start("api", &[("POLYPHONY_FAILPOINTS", doomed)]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let (good, slow, doomed) = (cluster.url(api), cluster.url(slow), cluster.url(doomed));
    // What is broken otherwise needn't be quick.
    let is_timed = ["", HOLD_GRUDGE].contains(&mutation);
    let before = if is_timed {
        let twin = Twin::start(&["api", "relay", "worker", "projector"]).await;
        let nodes = std::slice::from_ref(&good);
        Some(Baseline::measure(&mut cluster, nodes, twin, &history, PATIENCE).await)
    } else {
        None
    };

    // A node dies after it has published a job and before it has answered.
    let retrying = impatient(Person::register(&[doomed, good.clone()], &history).await);
    let retried = retrying.session("emu/plain").await;
    retrying.ask(retried, "emu/plain").await;

    // Commits that are late, beside others.
    let (one, other) = ([good.clone()], [slow]);
    let late = patient_crowd(&other, &history, 3, 2, "emu/plain-n5-i0", PATIENCE);
    let busy = patient_crowd(&one, &history, 4, 4, "emu/plain-n5-i0", PATIENCE);
    tokio::join!(late, busy);

    // A worker stands still, is overtaken and wakes up; meanwhile a stream that breaks off and one with two reports.
    let person = impatient(Person::register(std::slice::from_ref(&good), &history).await);
    let [long, cut, twice] = ["emu/plain-n200-i20", "rude/cut-first1", "emu/twice-i5"];
    let session = person.session(long).await;
    let mut asking = person.asking(session, long);
    asking.until_text(400).await;
    asking.cut();
    asking.until_text(800).await;
    cluster.role(zombie).freeze();
    let second = cluster.start("worker", &[]).await;
    asking.read_while(|ask| ask.restarts == 0).await;
    cluster.role(zombie).thaw();
    let (others_cut, others_twice) = (person.session(cut).await, person.session(twice).await);
    tokio::join!(person.ask(others_cut, cut), person.ask(others_twice, twice), asking.to_end());
    asking.finish();

    // Workers die in the middle, and the bus forgets their jobs; the projector has died long ago.
    let last = impatient(Person::register(&[good], &history).await);
    let session = last.session(long).await;
    let mut asking = last.asking(session, long);
    asking.until_text(400).await;
    cluster.role(zombie).kill9();
    cluster.role(second).kill9();
    cluster.nats.kill9();
    cluster.nats.delete_data();
    cluster.nats.start();
    cluster.start("worker", &[]).await;
    asking.to_end().await;
    asking.finish();
    // A provider that has too much to do, once.
    let busy = "emu/s429-ra1-first1";
    last.ask(last.session(busy).await, busy).await;
    if !cluster.role(doomed_projector).has_ended() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // One more, since the first has died; beside it, if it has not.
    cluster.start("projector", &[("POLYPHONY_FAILPOINTS", "projector.before_rows=err@1*1")]).await;
    // A mistake is not waited for as long as a sound product on a busy machine.
    let patience = Duration::from_secs(if mutation.is_empty() { 60 } else { 16 });
    crate::audit::audit_within(&mut cluster, &history, sampler, patience, before.as_ref()).await
}

/// Somebody with the patience of the course.
fn impatient(mut person: Person) -> Person {
    person.patience = PATIENCE;
    person
}
