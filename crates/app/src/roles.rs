//! Wiring: which parts a process runs, how they start, how they stop.

use std::sync::Arc;

use anyhow::Context;
use polyphony_bus::Bus;
use polyphony_eventstore::{Seats, Store, audit::AuditKeys};
use polyphony_platform::{
    config::Config,
    http::{EgressPolicy, guarded_client},
    lifecycle::Shutdown,
    secrets::Secrets,
    telemetry,
};
use polyphony_projections::{ReadModels, runner, usage};
use polyphony_providers::{context::Contexts, registry::Registry};
use polyphony_workers::{completion, forget, relay, sweeper};
use tokio::task::JoinSet;

/// The roles of one process.
#[derive(Clone, Copy)]
pub struct Roles {
    pub api: bool,
    pub worker: bool,
    pub projector: bool,
    pub relay: bool,
}

impl Roles {
    /// Every role.
    pub const ALL: Self = Self { api: true, worker: true, projector: true, relay: true };
    /// No role.
    pub const NONE: Self = Self { api: false, worker: false, projector: false, relay: false };

    const fn name(self) -> &'static str {
        match self {
            Self { api: true, worker: true, .. } => "all",
            Self { api: true, .. } => "api",
            Self { worker: true, .. } => "worker",
            Self { projector: true, .. } => "projector",
            _ => "relay",
        }
    }
}

/// Opens the store with the configured database and secrets.
pub async fn open_store(config: &Config) -> anyhow::Result<(Store, Secrets)> {
    let secrets = Secrets::load()?;
    let store = Store::connect(&config.database, secrets.kek.clone()).await.context("Postgres can't be reached")?;
    let limits = &config.limits;
    let seats = if limits.relaxed {
        Seats::UNCOUNTED
    } else {
        Seats { in_flight: Some(limits.in_flight), waiting: limits.waiting, unstarted: limits.unstarted }
    };
    Ok((store.with_seats(seats), secrets))
}

/// The providers, and where calls of them may go.
pub fn outbound(config: &Config) -> anyhow::Result<(Arc<EgressPolicy>, Registry)> {
    let mut egress = EgressPolicy::from_config(config);
    for preset in polyphony_providers::compatible::presets() {
        // The operator's choice of a preset's local host is trust in it; hosted ones are public anyway.
        let declared = config.providers.get(preset.name).is_some_and(|own| own.base_url.is_none());
        if let (true, Ok(url)) = (declared, preset.base_url.parse()) {
            egress.allow_url(&url);
        }
    }
    let egress = Arc::new(egress);
    let client = guarded_client(egress.clone()).context("the HTTP client could not be made")?;
    Ok((egress, Registry::new(config, client)?))
}

/// What is answered with success must survive a crash of the database's machine.
async fn expect_durable(store: &Store, config: &Config) -> anyhow::Result<()> {
    let settings = store.unsafe_settings().await.context("Postgres can't be asked for its settings")?;
    if settings.is_empty() {
        return Ok(());
    }
    let settings = settings.join(", ");
    if config.safety.allow_volatile {
        tracing::warn!(settings, "Postgres may lose what it has committed, as safety.allow_volatile lets it");
        return Ok(());
    }
    anyhow::bail!(
        "Postgres may lose what it has committed: {settings} is off (safety.allow_volatile = true starts anyway)"
    )
}

/// Runs the roles until the first signal, lets them finish, and returns.
pub async fn run(config: Config, roles: Roles) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let metrics = telemetry::install_prometheus()?;
    let config = Arc::new(config);
    let (store, secrets) = open_store(&config).await?;
    expect_durable(&store, &config).await?;
    // A name that is unique for this process: leases and events carry it.
    let name = format!("{}-{}-{}", roles.name(), std::process::id(), &polyphony_platform::vault::random_token("")[..8]);
    let bus = Bus::connect(&config.nats.url, &name).await?;
    let clickhouse = usage::client(&config.clickhouse);
    let (egress, registry) = outbound(&config)?;
    let catalog = Arc::new(registry.catalog(&config)?);
    let contexts = Contexts::default();
    tokio::spawn(forget::run(store.clone(), bus.clone(), shutdown.hard.clone()));
    let mut tasks: JoinSet<anyhow::Result<&'static str>> = JoinSet::new();
    let stop = shutdown.soft.clone();
    if roles.relay {
        let (store, bus, relay_config) = (store.clone(), bus.clone(), config.relay.clone());
        let keys = Arc::new(AuditKeys::new(&secrets.audit));
        let (sweeper_store, sweeper_bus, sweeper_stop) = (store.clone(), bus.clone(), stop.clone());
        let stop = stop.clone();
        tasks.spawn(async move {
            tokio::join!(
                relay::run(store, bus, relay_config, keys, stop),
                sweeper::run(sweeper_store, sweeper_bus, sweeper_stop)
            );
            Ok("relay")
        });
    }
    if roles.projector {
        let deps = runner::Deps {
            store: store.clone(),
            bus: bus.clone(),
            clickhouse: clickhouse.clone(),
            config: config.projector.clone(),
        };
        let (client, database, stop) = (clickhouse.clone(), config.clickhouse.database.clone(), stop.clone());
        tasks.spawn(async move {
            // The views in Postgres don't wait for ClickHouse, and nor does the schema of the facts for them.
            if let Err(error) = usage::ensure_schema(&client, &database).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "ClickHouse can't be prepared; its facts will wait"
                );
            }
            runner::run_all(deps, stop).await;
            Ok("projector")
        });
    }
    if roles.worker {
        let deps = completion::Deps {
            store: store.clone(),
            bus: bus.clone(),
            registry: registry.clone(),
            catalog: catalog.clone(),
            switchboard: Arc::default(),
            egress: egress.clone(),
            config: config.worker.clone(),
            name,
            contexts: contexts.clone(),
        };
        let stop = stop.clone();
        tasks.spawn(async move {
            completion::run(deps, stop).await?;
            Ok("worker")
        });
    }
    if roles.api {
        let reads = ReadModels::new(store.clone(), clickhouse);
        let deps = polyphony_api::Deps { store, bus, reads, catalog, registry, egress, secrets, config, contexts };
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            polyphony_api::serve(deps, metrics, shutdown).await?;
            Ok("api")
        });
    } else {
        let (address, hard) = (config.http.metrics_addr, shutdown.hard.clone());
        tasks.spawn(async move {
            polyphony_api::serve_metrics(address, metrics, stop, hard).await?;
            Ok("metrics")
        });
    }
    while let Some(ended) = tokio::select! {
        ended = tasks.join_next() => ended,
        // The second signal: now.
        () = shutdown.hard.cancelled() => None,
    } {
        let role = ended.context("a role broke")??;
        if !shutdown.soft.is_cancelled() {
            // A role that ends by itself takes the process with it: half a process would look healthy.
            shutdown.soft.cancel();
            anyhow::bail!("the role {role} ended by itself");
        }
    }
    Ok(())
}
