//! A deployment of the real product for one test, and a client that speaks the contract.
#![expect(clippy::unwrap_used, reason = "test support: what fails here is a failed test")]

pub mod audit;
pub mod baseline;
mod client;
pub mod cluster;
pub mod driver;
pub mod history;
pub mod load;
pub mod nemesis;
mod peer;
pub mod rough;
mod sampler;
mod seed;
pub mod twin;

use std::collections::HashMap;

use polyphony_testkit::{ClickhouseDatabase, Private, Role, TestDatabase, clickhouse_database, database, private_nats};

pub use polyphony_devstack::has_small_disks;

pub use self::{
    client::{Client, Event, Stream, read},
    cluster::{Cluster, Node},
    driver::{Asking, Person},
    peer::{JSON, MUSES, Peer, REDACTED, SAYS, SIGNATURE, THOUGHT},
    sampler::Sampler,
    seed::seed,
};

/// A database, a message bus and an analytics database of one's own.
pub struct Deployment {
    /// Postgres, migrated and empty.
    pub database: TestDatabase,
    /// NATS, which a test may kill and wipe.
    pub nats: Private,
    clickhouse: ClickhouseDatabase,
    extra: HashMap<String, String>,
}

impl Deployment {
    /// With further settings for its roles.
    pub async fn new(extra: &[(&str, &str)]) -> Self {
        let (database, nats, clickhouse) = tokio::join!(database(), private_nats(), clickhouse_database());
        let extra = extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { database, nats, clickhouse, extra }
    }

    /// With a provider of the test's own.
    pub async fn with_peer(peer: &Peer) -> Self {
        let settings = peer.settings();
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Self::new(&settings).await
    }

    fn envs(&self) -> HashMap<String, String> {
        let mut envs = self.extra.clone();
        envs.insert("DATABASE_URL".into(), self.database.url.clone());
        envs.insert("NATS_URL".into(), self.nats.url().to_owned());
        envs.insert("CLICKHOUSE_URL".into(), self.clickhouse.url_with_database());
        // What else runs on this machine is none of the tests' business.
        envs.entry("POLYPHONY_EGRESS__DISCOVER_LOCAL".into()).or_insert("false".into());
        // Quick scripted models.
        let models = "demo-n40-i10,demo-n300-i10,demo-n2000-i1,demo-n20000-i0";
        envs.entry("POLYPHONY_PROVIDERS__DEMO__MODELS".into()).or_insert(models.into());
        envs.entry("POLYPHONY_DATABASE__MAX_CONNECTIONS".into()).or_insert("8".into());
        envs.entry("POLYPHONY_LIMITS__RELAXED".into()).or_insert("true".into());
        // The test servers are quick instead of durable.
        envs.entry("POLYPHONY_SAFETY__ALLOW_VOLATILE".into()).or_insert("true".into());
        envs
    }

    /// Starts a role and waits until it is ready.
    pub async fn start(&self, role: &str) -> Role {
        Role::start(&[role], self.envs()).await
    }

    /// Starts a role with a further setting of its own.
    pub async fn start_with(&self, role: &str, name: &str, value: &str) -> Role {
        let mut envs = self.envs();
        envs.insert(name.to_owned(), value.to_owned());
        Role::start(&[role], envs).await
    }

    /// Runs a command of the operator's to its end and expects that it succeeds.
    pub async fn run(&self, args: &[&str]) -> String {
        let output = polyphony_testkit::run(args, self.envs());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command of the operator's to its end, expects that it fails, and gives back what it complains about.
    pub async fn fails(&self, args: &[&str]) -> String {
        let output = polyphony_testkit::run(args, self.envs());
        assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    /// Runs a command of the operator's to its end, whatever that is.
    pub fn try_run(&self, args: &[&str]) -> std::process::Output {
        polyphony_testkit::run(args, self.envs())
    }

    /// One number from the database.
    pub async fn count(&self, sql: &str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.database.pool).await.unwrap()
    }

    /// Whether somebody holds the door of a session: alone with `ExclusiveLock`, together with others with `ShareLock`.
    pub async fn holds_door(&self, session: uuid::Uuid, mode: &str) -> bool {
        let sql = format!(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND mode = '{mode}' \
             AND ((classid::bigint << 32) | objid::bigint) = hashtextextended('{session}', 0)"
        );
        self.count(&sql).await > 0
    }

    /// One text from the database; empty for null.
    pub async fn text(&self, sql: &str) -> String {
        sqlx::query_scalar::<_, Option<String>>(sql).fetch_one(&self.database.pool).await.unwrap().unwrap_or_default()
    }
}

/// Waits for a condition outside, at most 30 seconds.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
