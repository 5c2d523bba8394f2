//! The nemesis: injects faults one upon another, heals them, leaves calm periods, and counts what it has done. The same
//! seed makes the same choices. Faults are dealt from a shuffled deck, so that each has come before any comes again.

use std::{collections::BTreeMap, time::Duration};

use polyphony_testkit::{
    free_port,
    proxy::{Break, Conduct, Way},
};
use rand::{
    Rng as _, SeedableRng as _,
    rngs::StdRng,
    seq::{IndexedRandom as _, SliceRandom as _},
};
use tokio::time::sleep;

use crate::{Cluster, Node};

/// How many of each role there are.
const FLEET: [(&str, usize); 4] = [("api", 2), ("worker", 3), ("projector", 2), ("relay", 2)];

/// What can be done to a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill(&'static str),
    Terminate(&'static str),
    Freeze(&'static str),
    /// Another role that dies at a point of its own.
    Doomed(&'static str, &'static str),
    BusKilled,
    BusWiped,
    BusFrozen,
    BusStalled,
    BusSlow,
    BusCut,
    DatabaseKilled,
    SessionsTerminated,
    DatabaseSlow,
    DatabaseStalled,
    /// The table of events is locked.
    LogLocked,
    AnalyticsKilled,
    ProviderReset,
    ProviderSliced,
    ProviderSilent,
}

const FAULTS: [Fault; 39] = [
    Fault::Kill("api"),
    Fault::Kill("worker"),
    Fault::Kill("projector"),
    Fault::Kill("relay"),
    Fault::Terminate("api"),
    Fault::Terminate("worker"),
    Fault::Terminate("projector"),
    Fault::Terminate("relay"),
    Fault::Freeze("api"),
    Fault::Freeze("worker"),
    Fault::Freeze("projector"),
    Fault::Freeze("relay"),
    Fault::Doomed("worker", "worker.job_received"),
    Fault::Doomed("worker", "worker.after_lease"),
    Fault::Doomed("worker", "worker.before_connect"),
    Fault::Doomed("worker", "worker.after_headers"),
    Fault::Doomed("worker", "worker.after_chunk"),
    Fault::Doomed("worker", "worker.before_end_event"),
    Fault::Doomed("worker", "worker.after_end_event"),
    Fault::Doomed("worker", "worker.before_ack"),
    Fault::Doomed("projector", "projector.before_commit"),
    Fault::Doomed("projector", "projector.clickhouse_before_insert"),
    Fault::Doomed("projector", "projector.clickhouse_after_insert"),
    Fault::Doomed("relay", "relay.after_publish"),
    Fault::BusKilled,
    Fault::BusWiped,
    Fault::BusFrozen,
    Fault::BusStalled,
    Fault::BusSlow,
    Fault::BusCut,
    Fault::DatabaseKilled,
    Fault::SessionsTerminated,
    Fault::DatabaseSlow,
    Fault::DatabaseStalled,
    Fault::LogLocked,
    Fault::AnalyticsKilled,
    Fault::ProviderReset,
    Fault::ProviderSliced,
    Fault::ProviderSilent,
];
/// Passings that a point is armed for at most: a role that is one of several must come by soon.
const LATEST_PASSING: u32 = 4;

/// Who plays against the deployment.
pub struct Nemesis {
    random: StdRng,
    fleet: Vec<(&'static str, u16, Option<Node>)>,
    /// What is to come before everything comes again.
    deck: Vec<Fault>,
    /// How often each fault was injected.
    pub counts: BTreeMap<String, usize>,
}

impl Nemesis {
    /// With its choices to come.
    pub fn new(seed: u64) -> Self {
        let fleet = Self::fleet().into_iter().map(|kind| (kind, free_port(), None)).collect();
        Self { random: StdRng::seed_from_u64(seed), fleet, deck: Vec::new(), counts: BTreeMap::new() }
    }

    /// The kind of each role that it plays against.
    pub fn fleet() -> Vec<&'static str> {
        FLEET.iter().flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count)).collect()
    }

    /// Where the nodes are; they keep their addresses.
    pub fn nodes(&self) -> Vec<String> {
        let apis = self.fleet.iter().filter(|(kind, ..)| *kind == "api");
        apis.map(|(_, port, _)| format!("http://127.0.0.1:{port}")).collect()
    }

    /// Starts what isn't running.
    pub async fn raise(&mut self, cluster: &mut Cluster) {
        for (kind, port, slot) in &mut self.fleet {
            let has_ended = match *slot {
                Some(node) => cluster.role(node).has_ended(),
                None => true,
            };
            if has_ended {
                let address = format!("127.0.0.1:{port}");
                let further: &[(&str, &str)] =
                    if *kind == "api" { &[("POLYPHONY_HTTP_ADDR", address.as_str())] } else { &[] };
                *slot = Some(cluster.start(kind, further).await);
            }
        }
    }

    /// One round: one fault or two at once, then healed; in a quarter of the rounds nothing.
    pub async fn round(&mut self, cluster: &mut Cluster) {
        let calm = Duration::from_millis(self.random.random_range(500..3_000));
        if self.random.random_ratio(1, 4) {
            self.count("calm".to_owned());
            sleep(calm).await;
            return;
        }
        let mut faults = vec![self.draw()];
        if self.random.random_ratio(1, 3) {
            faults.push(self.draw());
        }
        for fault in &faults {
            self.count(format!("{fault:?}"));
            self.inject(cluster, *fault).await;
        }
        sleep(Duration::from_millis(self.random.random_range(200..5_000))).await;
        self.heal(cluster).await;
        sleep(calm / 3).await;
    }

    fn draw(&mut self) -> Fault {
        if self.deck.is_empty() {
            self.deck = FAULTS.to_vec();
            self.deck.shuffle(&mut self.random);
        }
        self.deck.pop().unwrap()
    }

    /// Faults that were not injected yet.
    pub fn missing(&self) -> Vec<String> {
        FAULTS.iter().map(|fault| format!("{fault:?}")).filter(|fault| !self.counts.contains_key(fault)).collect()
    }

    fn count(&mut self, what: String) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// One of the running roles of a kind.
    fn one(&mut self, kind: &str) -> Option<Node> {
        let nodes: Vec<Node> =
            self.fleet.iter().filter(|(own, ..)| *own == kind).filter_map(|(.., node)| *node).collect();
        nodes.choose(&mut self.random).copied()
    }

    async fn inject(&mut self, cluster: &mut Cluster, fault: Fault) {
        let conduct = Conduct::default();
        match fault {
            Fault::Kill(kind) => {
                if let Some(node) = self.one(kind) {
                    cluster.role(node).kill9();
                }
            }
            Fault::Terminate(kind) => {
                if let Some(node) = self.one(kind)
                    && !cluster.role(node).has_ended()
                {
                    cluster.role(node).sigterm();
                }
            }
            Fault::Freeze(kind) => {
                if let Some(node) = self.one(kind)
                    && !cluster.role(node).has_ended()
                {
                    cluster.role(node).freeze();
                }
            }
            Fault::Doomed(kind, point) => {
                let passing = self.random.random_range(1..=LATEST_PASSING);
                let point = format!("{point}=abort@{passing}");
                cluster.spawn(kind, &[("POLYPHONY_FAILPOINTS", point.as_str())]);
            }
            Fault::BusKilled => cluster.nats.kill9(),
            Fault::BusWiped => {
                cluster.nats.kill9();
                cluster.nats.delete_data();
            }
            Fault::BusFrozen => cluster.nats.freeze(),
            Fault::BusStalled => cluster.to_nats.behave(Conduct { way: Way::Up, stalled: true, ..conduct }),
            Fault::BusSlow => cluster.to_nats.behave(Conduct { latency: Duration::from_millis(40), ..conduct }),
            Fault::BusCut => cluster.to_nats.break_all(Break::Reset),
            Fault::DatabaseKilled => cluster.postgres().kill9(),
            Fault::SessionsTerminated => {
                let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                    WHERE application_name = 'polyphony'";
                // It may be gone at the same time.
                drop(sqlx::query(sql).execute(cluster.pool()).await);
            }
            Fault::DatabaseSlow => {
                cluster.to_postgres.behave(Conduct { latency: Duration::from_millis(30), ..conduct })
            }
            Fault::DatabaseStalled => cluster.to_postgres.behave(Conduct { stalled: true, ..conduct }),
            Fault::LogLocked => {
                let pool = cluster.pool().clone();
                let sql = "BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(3); COMMIT";
                // The database may be killed at the same time, and its lock with it.
                tokio::spawn(async move { drop(sqlx::raw_sql(sql).execute(&pool).await) });
            }
            Fault::AnalyticsKilled => cluster.clickhouse.kill9(),
            Fault::ProviderReset => cluster.to_provider.break_all(Break::Reset),
            Fault::ProviderSliced => {
                let slice = self.random.random_range(1..9);
                cluster.to_provider.behave(Conduct { slice: Some(slice), ..conduct });
            }
            Fault::ProviderSilent => cluster.to_provider.behave(Conduct { way: Way::Down, stalled: true, ..conduct }),
        }
    }

    /// Takes every fault back.
    pub async fn heal(&mut self, cluster: &mut Cluster) {
        cluster.nats.thaw();
        for server in [Some(&cluster.nats), Some(&cluster.clickhouse), cluster.own_postgres()].into_iter().flatten() {
            if server.pid().is_none() {
                server.start();
            }
        }
        cluster.to_nats.heal();
        cluster.to_postgres.heal();
        cluster.to_provider.heal();
        for (node, _) in cluster.alive() {
            cluster.role(node).thaw();
        }
        // What was told to end ends before it is started again, since it keeps its address until then.
        for index in 0..self.fleet.len() {
            if let (_, _, Some(node)) = self.fleet[index]
                && cluster.role(node).is_told_to_end()
            {
                cluster.role(node).exit_code().await;
            }
        }
        self.raise(cluster).await;
    }
}
