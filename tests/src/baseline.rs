//! How quick and how small a deployment is while all is well, and whether it is so again when the faults are over (I10).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{Cluster, audit::Verdict, history::History, load::patient_crowd, twin::Twin};

/// People who ask at once, few enough that they don't wait for one another, and how often each.
const PEOPLE: usize = 4;
const ASKS: usize = 8;
const MODEL: &str = "emu/plain-n5-i0";
/// Time until it must be as quick as before.
const QUICK_AGAIN: Duration = Duration::from_secs(30);
/// How many times as long as the twin's its slowest answers may take.
const SLOWER: f64 = 2.0;
/// Pairs of crowds that are judged by their median: what else the machine does may spoil three of them.
const PAIRS: usize = 7;
/// Files that a role may hold more than before, besides a tenth: connections that are opened when they are needed.
const MORE_FILES: usize = 8;

/// The times that all but one of a crowd's short answers took at most, here and at the twin, one crowd after the other.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Of the deployment.
    pub here: Duration,
    /// Of its twin.
    pub twin: Duration,
}

impl Pace {
    fn ratio(self) -> f64 {
        self.here.as_secs_f64() / self.twin.as_secs_f64()
    }
}

/// A deployment at its best.
pub struct Baseline {
    twin: Twin,
    nodes: Vec<String>,
    patience: Duration,
    /// How quick its first answers were, which pay for connections and caches.
    pub pace: Pace,
    /// Most open files of each kind of role.
    files: BTreeMap<String, usize>,
}

impl Baseline {
    /// Measures it; nothing else may be going on. The twin has been started with the same roles, and people ask `nodes`,
    /// each with this patience.
    pub async fn measure(
        cluster: &mut Cluster,
        nodes: &[String],
        twin: Twin,
        history: &History,
        patience: Duration,
    ) -> Self {
        let pace = pair(nodes, history, &twin, patience).await;
        Self { twin, nodes: nodes.to_vec(), patience, pace, files: files(cluster) }
    }

    /// Expects of a healed deployment that within half a minute it takes less than twice as long as its twin, and that
    /// it holds no more files than before.
    pub(crate) async fn expect(&self, cluster: &mut Cluster, history: &History, verdict: &mut Verdict) {
        let (begun, mut paces) = (Instant::now(), Vec::new());
        let last = loop {
            paces.push(pair(&self.nodes, history, &self.twin, self.patience).await);
            let Some(last) = paces.last_chunk::<PAIRS>() else { continue };
            if median(last) < SLOWER || begun.elapsed() > QUICK_AGAIN {
                break last;
            }
        };
        let seconds = begun.elapsed().as_secs();
        verdict.expect(median(last) < SLOWER, || {
            format!("{:.1} times as slow as a deployment without faults, after {seconds} s: {last:?}", median(last))
        });
        for (kind, now) in files(cluster) {
            // What was not there before has nothing to be held against.
            let Some(before) = self.files.get(&kind) else { continue };
            let most = before + before / 10 + MORE_FILES;
            verdict.expect(now <= most, || format!("{kind} held {before} files and holds {now}"));
        }
    }
}

fn median(paces: &[Pace; PAIRS]) -> f64 {
    let mut ratios = paces.map(Pace::ratio);
    ratios.sort_by(f64::total_cmp);
    ratios[PAIRS / 2]
}

/// A crowd here and one at the twin, so close together that both meet the same machine.
async fn pair(nodes: &[String], history: &History, twin: &Twin, patience: Duration) -> Pace {
    Pace { here: slowest(nodes, history, patience).await, twin: slowest(&twin.nodes, &twin.history, patience).await }
}

/// The time that all but one of the asks took at most. Who gets no answer has waited for as long as anybody does.
async fn slowest(nodes: &[String], history: &History, patience: Duration) -> Duration {
    let before = history.len();
    patient_crowd(nodes, history, PEOPLE, ASKS, MODEL, patience).await;
    let mut times: Vec<_> = history.asks()[before..].iter().map(|ask| ask.total.unwrap_or(patience)).collect();
    times.sort();
    times.iter().rev().nth(1).copied().unwrap_or(patience)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(here: u64, twin: u64) -> Pace {
        Pace { here: Duration::from_millis(here), twin: Duration::from_millis(twin) }
    }

    #[test]
    fn three_spoiled_pairs_say_nothing_and_four_slow_ones_do() {
        let [good, slow, spoiled] = [pace(240, 250), pace(600, 240), pace(9_000, 250)];
        assert!(median(&[good, spoiled, good, spoiled, good, spoiled, good]) < SLOWER);
        assert!(median(&[slow, good, slow, slow, good, good, slow]) > SLOWER);
        // On a machine that has become slow, both have.
        assert!(median(&[pace(2_400, 2_500); PAIRS]) < SLOWER);
    }
}
