//! Whoever appends to the log waits for nobody else who does.

use std::{fs, path::Path};

use polyphony_tests::{Cluster, Person, Sampler, audit::audit, eventually, history::History, load::crowd};

#[tokio::test]
async fn a_command_that_is_about_to_commit_holds_up_nobody_elses() {
    let mut cluster = Cluster::new(&[], "").await;
    let [api, ..] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    // Holds every lock that a command takes, for longer than the rest of the test lasts.
    let parked = cluster.start("api", &[("POLYPHONY_FAILPOINTS", "store.before_commit.turn=sleep:25000@1*1")]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let (api, slow) = (cluster.url(api), cluster.url(parked));
    let person = Person::register(&[slow, api.clone()], &history).await;
    let session = person.session("emu/plain-n5-i0").await;
    let asker = person.clone();
    let asking = tokio::spawn(async move { asker.ask(session, "emu/plain-n5-i0").await });
    let inside = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'polyphony' \
        AND datname = current_database() AND state = 'idle in transaction' AND backend_xid IS NOT NULL \
        AND clock_timestamp() - state_change > interval '500 milliseconds'";
    eventually("a command is parked", async || (cluster.count(inside).await == 1).then_some(())).await;
    // Sixteen writers, each with an account of its own.
    let writers = std::slice::from_ref(&api);
    crowd(writers, &history, 16, 3, "emu/plain-n5-i0").await;
    assert_eq!(cluster.count(inside).await, 1, "the command was over before the others were");
    let made = history.asks();
    assert_eq!(made.iter().filter(|ask| ask.end.as_ref().is_some_and(|(event, _)| event == "done")).count(), 48);
    cluster.role(parked).kill9();
    assert_eq!(asking.await.unwrap().end.unwrap().0, "done");
    audit(&mut cluster, &history, sampler).await.expect_green();
}

/// Notifications of Postgres queue up behind one lock of the whole server, which every commit with one takes.
#[test]
fn nothing_is_notified_through_the_database() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["crates", "migrations"] {
        gather(&root.join(folder), &mut files);
    }
    assert!(files.len() > 100);
    for file in files {
        let text = fs::read_to_string(&file).unwrap().to_ascii_lowercase();
        for word in ["pg_notify", "\"notify ", "\"listen ", "pglistener"] {
            assert!(!text.contains(word), "{} holds {word:?}", file.display());
        }
    }
}

fn gather(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, files);
        } else if path.extension().is_some_and(|kind| kind == "rs" || kind == "sql") {
            files.push(path);
        }
    }
}
