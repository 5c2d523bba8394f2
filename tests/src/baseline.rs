//! How quick and how small a deployment is while all is well, and whether it is so again when the faults are over (I10).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{Cluster, audit::Verdict, history::History, load::crowd};

/// People who ask at once, and how often each.
const PEOPLE: usize = 8;
const ASKS: usize = 13;
const MODEL: &str = "emu/plain-n5-i0";
/// Time until it must be as quick as before.
const QUICK_AGAIN: Duration = Duration::from_secs(30);
/// What counts as quick on any machine, however busy with other things: every wait that a fault may have left behind (a
/// lease, a redelivery, a pause before a retry) is longer.
const QUICK: Duration = Duration::from_secs(1);
/// Files that a role may hold more than before, besides a tenth: connections that are opened when they are needed.
const MORE_FILES: usize = 8;

/// A deployment at its best.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// Of a hundred short answers, all but one took at most so long.
    pub p99: Duration,
    /// Most open files of each kind of role.
    files: BTreeMap<String, usize>,
}

impl Baseline {
    /// Measures it; nothing else may be going on.
    pub async fn measure(cluster: &mut Cluster, nodes: &[String], history: &History) -> Self {
        // The first answers pay for connections and caches.
        p99(nodes, history).await;
        let p99 = p99(nodes, history).await;
        Self { p99, files: files(cluster) }
    }

    /// Expects of a healed deployment that within half a minute it takes less than twice as long as before, or a second,
    /// and that it holds no more files.
    pub(crate) async fn expect(&self, cluster: &mut Cluster, history: &History, verdict: &mut Verdict) {
        let apis: Vec<_> = cluster.alive().into_iter().filter(|(_, kind)| kind == "api").collect();
        let nodes: Vec<String> = apis.into_iter().map(|(node, _)| cluster.url(node)).collect();
        let begun = Instant::now();
        let mut now = p99(&nodes, history).await;
        let most = QUICK.max(self.p99 * 2);
        while now > most && begun.elapsed() < QUICK_AGAIN {
            now = p99(&nodes, history).await;
        }
        let (before, seconds) = (self.p99, begun.elapsed().as_secs());
        verdict.expect(now <= most, || format!("p99 was {before:?} and is {now:?} after {seconds} s"));
        for (kind, now) in files(cluster) {
            let before = self.files.get(&kind).copied().unwrap_or(0);
            let most = before + before / 10 + MORE_FILES;
            verdict.expect(now <= most, || format!("{kind} held {before} files and holds {now}"));
        }
    }
}

/// The time that all but one of a hundred asks took at most.
async fn p99(nodes: &[String], history: &History) -> Duration {
    let before = history.len();
    crowd(nodes, history, PEOPLE, ASKS, MODEL).await;
    let mut times: Vec<_> = history.asks()[before..].iter().filter_map(|ask| ask.total).collect();
    times.sort();
    times.iter().rev().nth(1).copied().unwrap_or(Duration::MAX)
}

fn files(cluster: &mut Cluster) -> BTreeMap<String, usize> {
    let mut most = BTreeMap::new();
    for (name, files, _) in cluster.resources() {
        let kind = name.split(' ').next().unwrap_or_default().to_owned();
        let known: &mut usize = most.entry(kind).or_default();
        *known = files.max(*known);
    }
    most
}
