//! A deployment of single roles on servers of its own, with a misbehaving line before each server and an emulated
//! provider. Roles are kept to the end, so that everything that they ever logged can be searched.

use std::{collections::HashMap, net::SocketAddr};

use polyphony_eventstore::Store;
use polyphony_platform::{config::DatabaseConfig, secrets::Secrets};
use polyphony_testkit::{
    Private, Role, TestDatabase, database, emulator::Emulator, migrate, private_clickhouse, private_nats,
    private_on_small_disks, private_postgres, proxy::Proxy, secrets,
};
use sqlx::{PgPool, postgres::PgPoolOptions};

/// The operator's key at the emulated provider: it must be found nowhere.
pub const PROVIDER_KEY: &str = "sk-emulated-0123456789abcdef0123456789abcdef";
/// Models that every cluster has.
const MODELS: &str = "plain,plain-n40-i10,plain-n80-i20,plain-n300-i10,plain-n5-i0";

/// A role of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(usize);

/// Where Postgres is.
enum Postgres {
    /// A database in the shared server.
    Shared(TestDatabase),
    /// A server that may be killed.
    Own(Box<Private>, PgPool),
}

/// The deployment.
pub struct Cluster {
    /// The provider.
    pub emulator: Emulator,
    /// NATS.
    pub nats: Private,
    /// ClickHouse.
    pub clickhouse: Private,
    postgres: Postgres,
    /// The line from all roles to the provider.
    pub to_provider: Proxy,
    /// The line from all roles to NATS.
    pub to_nats: Proxy,
    /// The line from all roles to Postgres.
    pub to_postgres: Proxy,
    settings: HashMap<String, String>,
    roles: Vec<(String, Role)>,
}

fn address(url: &str) -> SocketAddr {
    let tail = url.split_once("127.0.0.1:").map(|(_, tail)| tail).unwrap();
    format!("127.0.0.1:{}", tail.split(|c: char| !c.is_ascii_digit()).next().unwrap()).parse().unwrap()
}

/// Settings under which a fault is over in seconds.
const QUICK: [(&str, &str); 7] = [
    ("POLYPHONY_WORKER__LEASE_SECONDS", "3"),
    ("POLYPHONY_WORKER__HEARTBEAT_SECONDS", "1"),
    ("POLYPHONY_WORKER__ACK_WAIT_SECONDS", "4"),
    ("POLYPHONY_WORKER__DRAIN_SECONDS", "2"),
    ("POLYPHONY_HTTP__DRAIN_SECONDS", "2"),
    ("POLYPHONY_DATABASE__ACQUIRE_TIMEOUT_MS", "2000"),
    ("POLYPHONY_LIMITS__RELAXED", "true"),
];

impl Cluster {
    /// With further settings and further models of the emulator. Postgres is shared.
    pub async fn new(settings: &[(&str, &str)], models: &str) -> Self {
        let database = database().await;
        let url = database.url.clone();
        let servers = tokio::join!(private_nats(), private_clickhouse());
        Self::on(Postgres::Shared(database), servers, &url, settings, models).await
    }

    /// With a Postgres that may be killed.
    pub async fn with_own_postgres(settings: &[(&str, &str)], models: &str) -> Self {
        let (postgres, nats, clickhouse) = tokio::join!(private_postgres(), private_nats(), private_clickhouse());
        Self::with_servers(postgres, (nats, clickhouse), settings, models).await
    }

    /// With a Postgres and a NATS whose disks may be filled.
    pub async fn on_small_disks(settings: &[(&str, &str)], models: &str) -> Self {
        let ((postgres, nats), clickhouse) = tokio::join!(private_on_small_disks(), private_clickhouse());
        Self::with_servers(postgres, (nats, clickhouse), settings, models).await
    }

    async fn with_servers(
        postgres: Private,
        servers: (Private, Private),
        settings: &[(&str, &str)],
        models: &str,
    ) -> Self {
        let url = postgres.url().to_owned();
        migrate(&url).await;
        let pool = PgPoolOptions::new().max_connections(4).test_before_acquire(true).connect_lazy(&url).unwrap();
        Self::on(Postgres::Own(Box::new(postgres), pool), servers, &url, settings, models).await
    }

    async fn on(
        postgres: Postgres,
        (nats, clickhouse): (Private, Private),
        database_url: &str,
        extra: &[(&str, &str)],
        models: &str,
    ) -> Self {
        let emulator = Emulator::start().await;
        let to_nats = Proxy::before(address(nats.url())).await;
        let to_postgres = Proxy::before(address(database_url)).await;
        let to_provider = Proxy::before(address(&emulator.url())).await;
        let mut settings: HashMap<String, String> = HashMap::new();
        let mut set = |name: &str, value: String| settings.insert(name.to_owned(), value);
        for (name, value) in QUICK {
            set(name, value.to_owned());
        }
        set("DATABASE_URL", to_postgres.instead_in(database_url));
        set("NATS_URL", to_nats.instead_in(nats.url()));
        set("CLICKHOUSE_URL", format!("{}/?database=polyphony", clickhouse.url().trim_end_matches('/')));
        set("POLYPHONY_DATABASE__MAX_CONNECTIONS", "8".to_owned());
        for (name, value) in extra {
            set(name, (*value).to_owned());
        }
        let roles = Vec::new();
        let mut cluster =
            Self { emulator, nats, clickhouse, postgres, to_provider, to_nats, to_postgres, settings, roles };
        cluster.provider("emu", &format!("{MODELS},{models}"));
        cluster
    }

    /// Declares a provider by this name, which is the emulator too, for the roles that are started from now on. What is
    /// learnt of one provider's limits and failures counts for no other.
    pub fn provider(&mut self, name: &str, models: &str) {
        self.provider_of("compatible", name, models);
    }

    /// Like [`Self::provider`], of a kind: `compatible`, `anthropic` or `gemini`.
    pub fn provider_of(&mut self, kind: &str, name: &str, models: &str) {
        let prefix = format!("POLYPHONY_PROVIDERS__{}__", name.to_ascii_uppercase());
        let base_url = self.to_provider.instead_in(&self.emulator.url());
        // As the SDKs of each family take it.
        let base_url = if kind == "compatible" { base_url.as_str() } else { base_url.trim_end_matches("/v1") };
        let fields = [("KIND", kind), ("BASE_URL", base_url), ("MODELS", models), ("API_KEY", PROVIDER_KEY)];
        self.settings.extend(fields.map(|(field, value)| (format!("{prefix}{field}"), value.to_owned())));
    }

    /// Starts a role with further settings and waits until it is ready.
    pub async fn start(&mut self, kind: &str, further: &[(&str, &str)]) -> Node {
        let role = Role::start(&[kind], self.settings_with(further)).await;
        self.keep(kind, role)
    }

    /// Starts a role and doesn't wait.
    pub fn spawn(&mut self, kind: &str, further: &[(&str, &str)]) -> Node {
        let role = Role::spawn(&[kind], self.settings_with(further));
        self.keep(kind, role)
    }

    /// Starts a command of the operator's and doesn't wait.
    pub fn spawn_command(&mut self, args: &[&str], further: &[(&str, &str)]) -> Node {
        let role = Role::spawn(args, self.settings_with(further));
        self.keep(args[0], role)
    }

    /// Starts several roles at once.
    pub async fn start_all<const N: usize>(&mut self, kinds: [&str; N]) -> [Node; N] {
        let settings = self.settings_with(&[]);
        let started = futures::future::join_all(kinds.map(|kind| {
            let settings = settings.clone();
            async move { Role::start(&[kind], settings).await }
        }));
        let started: Vec<Role> = started.await;
        let nodes: Vec<Node> = kinds.iter().zip(started).map(|(kind, role)| self.keep(kind, role)).collect();
        nodes.try_into().unwrap()
    }

    fn keep(&mut self, kind: &str, role: Role) -> Node {
        self.roles.push((kind.to_owned(), role));
        Node(self.roles.len() - 1)
    }

    fn settings_with(&self, further: &[(&str, &str)]) -> HashMap<String, String> {
        let mut settings = self.settings.clone();
        settings.extend(further.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        settings
    }

    /// A role.
    pub fn role(&mut self, node: Node) -> &mut Role {
        &mut self.roles[node.0].1
    }

    /// Base URL of a node.
    pub fn url(&self, node: Node) -> String {
        self.roles[node.0].1.url()
    }

    /// The roles that are alive, with their kind.
    pub fn alive(&mut self) -> Vec<(Node, String)> {
        let roles = self.roles.iter_mut().enumerate();
        roles.filter_map(|(index, (kind, role))| (!role.has_ended()).then(|| (Node(index), kind.clone()))).collect()
    }

    /// Open files and resident kilobytes of each living role, where the system tells.
    pub fn resources(&mut self) -> Vec<(String, usize, u64)> {
        let living = self.alive();
        let told = living.into_iter().filter_map(|(node, kind)| {
            let (files, kilobytes) = self.role(node).resources()?;
            Some((format!("{kind} {}", node.0), files, kilobytes))
        });
        told.collect()
    }

    /// Everything that all roles have ever logged, by kind and number.
    pub fn logs(&self) -> Vec<(String, String)> {
        self.roles.iter().enumerate().map(|(index, (kind, role))| (format!("{kind} {index}"), role.log())).collect()
    }

    /// How often each fault on purpose has acted, as the logs say.
    pub fn injected(&self) -> Vec<(String, usize)> {
        let mut counts: std::collections::BTreeMap<String, usize> = Default::default();
        for (_, log) in self.logs() {
            for line in log.lines().filter(|line| line.contains("a fault on purpose")) {
                let point = line.split("\"point\":\"").nth(1).and_then(|tail| tail.split('"').next());
                *counts.entry(point.unwrap_or("?").to_owned()).or_default() += 1;
            }
        }
        counts.into_iter().collect()
    }

    /// Runs a command of the operator's on the healed deployment and expects that it succeeds.
    pub async fn run(&self, args: &[&str]) -> Result<String, String> {
        let (args, settings) = (args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>(), self.settings_with(&[]));
        let run = move || {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            polyphony_testkit::run(&args, settings)
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// The database, past every line.
    pub fn pool(&self) -> &PgPool {
        match &self.postgres {
            Postgres::Shared(database) => &database.pool,
            Postgres::Own(_, pool) => pool,
        }
    }

    /// The Postgres server of one's own.
    ///
    /// # Panics
    /// When it is the shared one, which must not be killed.
    pub fn postgres(&self) -> &Private {
        match &self.postgres {
            Postgres::Own(server, _) => server,
            Postgres::Shared(_) => unreachable!("the shared Postgres is not to be touched"),
        }
    }

    /// The Postgres server of one's own, if it is one.
    pub fn own_postgres(&self) -> Option<&Private> {
        match &self.postgres {
            Postgres::Own(server, _) => Some(server),
            Postgres::Shared(_) => None,
        }
    }

    /// The product's own reading of the log, for the auditor.
    pub async fn store(&self) -> Store {
        let url = match &self.postgres {
            Postgres::Shared(database) => database.url.clone(),
            Postgres::Own(server, _) => server.url().to_owned(),
        };
        let config =
            DatabaseConfig { url, max_connections: 4, acquire_timeout_ms: 10_000, statement_timeout_ms: 30_000 };
        Store::connect(&config, Secrets::parse(secrets()).unwrap().kek).await.unwrap()
    }

    /// A line to NATS for one role alone, and the URL that it is given: `NATS_URL`.
    pub async fn own_line_to_nats(&self) -> (Proxy, String) {
        let line = Proxy::before(address(self.nats.url())).await;
        let url = line.instead_in(self.nats.url());
        (line, url)
    }

    /// Messages in a stream.
    pub async fn stored(&self, stream: &str) -> u64 {
        let bus = polyphony_bus::Bus::connect(self.nats.url(), "looking").await.unwrap();
        let stored = bus.stored().await.unwrap();
        stored.into_iter().find(|(name, _)| name == stream).map(|(_, messages)| messages).unwrap()
    }

    /// One number from the database.
    pub async fn count(&self, sql: &str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(self.pool()).await.unwrap()
    }

    /// One text from the database; empty for null.
    pub async fn text(&self, sql: &str) -> String {
        sqlx::query_scalar::<_, Option<String>>(sql).fetch_one(self.pool()).await.unwrap().unwrap_or_default()
    }

    /// The answer of the analytics to a query, in lines of tabs.
    pub async fn facts(&self, sql: &str) -> Result<String, String> {
        let url = format!("{}/?database=polyphony", self.clickhouse.url().trim_end_matches('/'));
        let asked = reqwest::Client::new().post(url).body(sql.to_owned()).send().await;
        let answer = asked.map_err(|error| error.to_string())?;
        let good = answer.status().is_success();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if good { Ok(text) } else { Err(text) }
    }
}
