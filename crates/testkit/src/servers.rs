//! The servers that all tests of a process share, each started when first asked for.

use std::{env, fs, sync::OnceLock};

use anyhow::{Context as _, Result};
use polyphony_devstack::{Deps, Endpoints, Stack, StackOptions};

use crate::{STACK_VARIABLE, binary, ok};

/// Which server of a stack is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Postgres,
    Nats,
    Clickhouse,
}

/// Starts one server alone, in a temporary folder, or with its data on a disk of so many megabytes.
pub(crate) fn start(server: Server, small_disk: Option<u32>) -> Result<Stack> {
    let deps = Deps::install()?;
    // Unwanted ones count as running elsewhere.
    let elsewhere = |wanted| (server != wanted).then(String::new);
    let external = Endpoints {
        database_url: elsewhere(Server::Postgres),
        nats_url: elsewhere(Server::Nats),
        clickhouse_url: elsewhere(Server::Clickhouse),
    };
    let front = if server == Server::Clickhouse { binary("chdb-server") } else { Default::default() };
    Stack::start(&deps, StackOptions { external, small_disk, ..StackOptions::temporary(&front)? })
}

/// The servers that this process's tests share.
pub struct TestStack {
    given: Option<Endpoints>,
    postgres: OnceLock<Stack>,
    nats: OnceLock<Stack>,
    clickhouse: OnceLock<Stack>,
}

/// The shared servers. Nothing is started by this alone.
///
/// # Panics
/// When `POLYPHONY_TEST_STACK` names a file that can't be read.
pub fn stack() -> &'static TestStack {
    static STACK: OnceLock<TestStack> = OnceLock::new();
    STACK.get_or_init(|| TestStack {
        given: ok(given()),
        postgres: OnceLock::new(),
        nats: OnceLock::new(),
        clickhouse: OnceLock::new(),
    })
}

fn given() -> Result<Option<Endpoints>> {
    let Some(path) = env::var_os(STACK_VARIABLE) else { return Ok(None) };
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(serde_json::from_str(&text)?))
}

impl TestStack {
    /// Postgres, with the right to create databases. Tests want [`crate::database`].
    ///
    /// # Panics
    /// When it can't be started.
    pub fn database_url(&'static self) -> &'static str {
        match &self.given {
            Some(given) => &given.database_url,
            None => &self.postgres.get_or_init(|| ok(start(Server::Postgres, None))).endpoints().database_url,
        }
    }

    /// NATS with JetStream.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn nats_url(&'static self) -> &'static str {
        match &self.given {
            Some(given) => &given.nats_url,
            None => &self.nats.get_or_init(|| ok(start(Server::Nats, None))).endpoints().nats_url,
        }
    }

    /// The ClickHouse HTTP interface. Tests want [`crate::clickhouse_database`].
    ///
    /// # Panics
    /// When it can't be started.
    pub fn clickhouse_url(&'static self) -> &'static str {
        match &self.given {
            Some(given) => &given.clickhouse_url,
            None => &self.clickhouse.get_or_init(|| ok(start(Server::Clickhouse, None))).endpoints().clickhouse_url,
        }
    }
}

/// The shared NATS server. Its streams are shared too: a test that declares the product's own streams, stops the server
/// or deletes anything wants [`crate::private_nats`].
///
/// # Panics
/// When it can't be started.
pub fn nats_url() -> &'static str {
    stack().nats_url()
}
