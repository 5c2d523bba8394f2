//! Nodes of a deployment: one database, and as many listeners as a test wants.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use polyphony_api::Deps;
use polyphony_bus::Bus;
use polyphony_eventstore::Store;
use polyphony_platform::{
    config::Config,
    http::{EgressPolicy, guarded_client},
    lifecycle::Shutdown,
    secrets::Secrets,
};
use polyphony_projections::{ReadModels, runner, usage};
use polyphony_providers::{context::Contexts, registry::Registry};
use polyphony_testkit::{Private, TestDatabase, database, free_port, private_nats};
use tokio::task::JoinHandle;

/// A database with its secrets.
pub struct Deployment {
    pub database: TestDatabase,
    nats: Private,
    secrets: String,
}

/// A listener with everything behind it. It is cut when dropped.
pub struct Node {
    pub url: String,
    pub address: SocketAddr,
    shutdown: Shutdown,
    serving: Option<JoinHandle<()>>,
}

impl Deployment {
    pub async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (database, nats) = tokio::join!(database(), private_nats());
        Self { database, nats, secrets: Secrets::generate_toml() }
    }

    /// A node as it is by default.
    pub async fn node(&self) -> Node {
        self.node_with(self.nats.url(), |_| {}).await
    }

    /// A node with other settings.
    pub async fn node_set(&self, set: impl FnOnce(&mut Config)) -> Node {
        self.node_with(self.nats.url(), set).await
    }

    /// A node with other settings at a NATS server of somebody else, so that it hears nothing.
    pub async fn node_with(&self, nats: &str, set: impl FnOnce(&mut Config)) -> Node {
        let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let mut config = Config::load().unwrap();
        config.http.addr = address;
        config.http.metrics_addr = ([127, 0, 0, 1], free_port()).into();
        config.http.drain_seconds = 1;
        config.database.url.clone_from(&self.database.url);
        config.projector.poll_ms = 20;
        // Nobody listens there: this interface does without.
        config.clickhouse.url = format!("http://127.0.0.1:{}", free_port()).parse().unwrap();
        set(&mut config);
        let config = Arc::new(config);
        let secrets = Secrets::parse(&self.secrets).unwrap();
        let store = Store::connect(&config.database, secrets.kek.clone()).await.unwrap();
        let bus = Bus::connect(nats, "test").await.unwrap();
        let clickhouse = usage::client(&config.clickhouse);
        let egress = Arc::new(EgressPolicy::from_config(&config));
        let registry = Registry::new(&config, guarded_client(egress.clone()).unwrap()).unwrap();
        let catalog = Arc::new(registry.catalog(&config).unwrap());
        let shutdown = Shutdown::default();
        let projecting = runner::Deps {
            store: store.clone(),
            bus: bus.clone(),
            clickhouse: clickhouse.clone(),
            config: config.projector.clone(),
        };
        tokio::spawn(runner::run_all(projecting, shutdown.soft.clone()));
        let reads = ReadModels::new(store.clone(), clickhouse);
        let deps =
            Deps { store, bus, reads, catalog, registry, egress, secrets, config, contexts: Contexts::default() };
        let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
        let ending = shutdown.clone();
        let serving = tokio::spawn(async move { polyphony_api::serve(deps, metrics, ending).await.unwrap() });
        let node = Node { url: format!("http://{address}"), address, shutdown, serving: Some(serving) };
        eventually("the node is ready", async || {
            reqwest::get(format!("{}/readyz", node.url)).await.is_ok_and(|ready| ready.status() == 200).then_some(())
        })
        .await;
        node
    }

    /// How many events there are.
    pub async fn events(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&self.database.pool).await.unwrap()
    }

    /// How many events of a type there are.
    pub async fn events_of(&self, kind: &str) -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM events WHERE event_type = $1").bind(kind);
        count.fetch_one(&self.database.pool).await.unwrap()
    }
}

impl Node {
    /// Asks it to stop, and waits until it has.
    pub async fn stop(mut self) {
        self.shutdown.soft.cancel();
        self.serving.take().unwrap().await.unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.soft.cancel();
        self.shutdown.hard.cancel();
    }
}

/// Asks again until there is an answer.
pub async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "it never came about that {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
