//! The auditor: after a run it holds what the clients saw, what the log holds, what the views show and what the provider
//! was asked against the ten invariants, and says of each whether it held.

mod clients;
mod ledger;
mod provider;
mod stores;

use std::{fmt, time::Duration};

use serde_json::{Value, json};

pub use self::ledger::{Answer, Ledger};
use crate::{Cluster, Sampler, baseline::Baseline, history::History};

/// Names of the invariants.
const TITLES: [(&str, &str); 10] = [
    ("I1", "what was acknowledged is in the log, once"),
    ("I2", "every answer ends exactly once"),
    ("I3", "views are the fold of the log"),
    ("I4", "text: sent = stored = seen, byte for byte"),
    ("I5", "money: provider = log = analytics"),
    ("I6", "no call too many, none after text was shown"),
    ("I7", "sequences without holes, no cursor too far"),
    ("I8", "no secret and no text where it doesn't belong"),
    ("I9", "nobody sees another's bytes"),
    ("I10", "it comes back to rest by itself"),
];

/// Whether one invariant held.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// `I1` … `I10`.
    pub id: &'static str,
    /// What it says.
    pub title: &'static str,
    /// How many things were looked at.
    pub checked: usize,
    /// What broke it.
    pub broken: Vec<String>,
}

impl Verdict {
    fn of(id: &'static str) -> Self {
        let title = TITLES.iter().find(|(name, _)| *name == id).map_or("", |(_, title)| title);
        Self { id, title, checked: 0, broken: Vec::new() }
    }

    /// Looks at one thing; `broken` says what is wrong when it is.
    pub(crate) fn expect(&mut self, holds: bool, broken: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds {
            self.broken.push(broken());
        }
    }
}

/// The auditor's verdicts.
#[derive(Clone, Debug)]
pub struct Report {
    /// One for each invariant.
    pub verdicts: Vec<Verdict>,
}

impl Report {
    /// Ids of the invariants that broke.
    pub fn red(&self) -> Vec<&'static str> {
        self.verdicts.iter().filter(|verdict| !verdict.broken.is_empty()).map(|verdict| verdict.id).collect()
    }

    /// Expects that every invariant held, and that each was really looked at.
    ///
    /// # Panics
    /// When one broke; with the table.
    pub fn expect_green(&self) {
        assert!(self.red().is_empty(), "\n{self}");
        let idle: Vec<_> = self.verdicts.iter().filter(|verdict| verdict.checked == 0).map(|one| one.id).collect();
        assert!(idle.is_empty(), "nothing was looked at for {idle:?}\n{self}");
    }

    /// For files.
    pub fn to_json(&self) -> Value {
        let verdicts = self.verdicts.iter().map(|one| {
            json!({"id": one.id, "title": one.title, "checked": one.checked, "held": one.broken.is_empty(),
                   "broken": one.broken})
        });
        verdicts.collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for verdict in &self.verdicts {
            let word = if verdict.broken.is_empty() { "green" } else { "RED" };
            writeln!(f, "{:<4} {word:<5} {:>7} checked  {}", verdict.id, verdict.checked, verdict.title)?;
            for broken in verdict.broken.iter().take(5) {
                writeln!(f, "       {broken}")?;
            }
            if verdict.broken.len() > 5 {
                writeln!(f, "       … and {} more", verdict.broken.len() - 5)?;
            }
        }
        Ok(())
    }
}

/// Waits until the healed deployment is at rest, a minute at most, then judges the run.
pub async fn audit(cluster: &mut Cluster, history: &History, sampler: Sampler) -> Report {
    audit_within(cluster, history, sampler, Duration::from_secs(60), None).await
}

/// Like [`audit`]; the deployment may take so long to come to rest, and half of it to answer again. It must be as quick
/// as one that no fault has touched, where there is one.
pub async fn audit_within(
    cluster: &mut Cluster,
    history: &History,
    sampler: Sampler,
    patience: Duration,
    before: Option<&Baseline>,
) -> Report {
    let mut rest = Verdict::of("I10");
    stores::rest(cluster, &mut rest, patience).await;
    stores::revive(cluster, history, &mut rest, patience / 2).await;
    if let Some(before) = before {
        before.expect(cluster, history, &mut rest).await;
        stores::rest(cluster, &mut rest, patience).await;
    }
    let asks = history.asks();
    let calls = cluster.emulator.calls();
    let ledger = Ledger::read(&cluster.store().await).await;
    let mut order = Verdict::of("I7");
    sampler.finish(&mut order).await;
    stores::order(cluster, &mut order).await;
    let mut money = provider::money(&ledger, &calls);
    stores::analytics(cluster, &ledger, &mut money).await;
    let verdicts = vec![
        clients::acknowledged(&ledger, &asks),
        clients::ended(cluster, &ledger).await,
        stores::views(cluster).await,
        clients::text(&ledger, &asks, &calls),
        money,
        provider::calls(&ledger, &asks, &calls),
        order,
        stores::secrets(cluster).await,
        clients::apart(&asks),
        rest,
    ];
    Report { verdicts }
}

impl Verdict {
    /// Adds what a sampler has seen.
    pub(crate) fn sampled(&mut self, samples: usize, broken: Vec<String>) {
        self.checked += samples;
        self.broken.extend(broken);
    }
}
