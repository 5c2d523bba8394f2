//! A database for each test, copied from one that was migrated once.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::{OnceLock, mpsc},
    thread,
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::OnceCell;

use crate::{ok, stack, unique};

/// Held while the template is made; any number does.
const TEMPLATE_LOCK: i64 = 0x706f_6c79_7068;
/// A test's own connections; the server allows 200.
const POOL: u32 = 10;

/// A database of one test. It is dropped with this value, whoever is still connected.
#[derive(Debug)]
pub struct TestDatabase {
    /// For `DATABASE_URL`. Holds the password.
    pub url: String,
    /// Connections to it.
    pub pool: PgPool,
    name: String,
}

/// A new database with all migrations.
///
/// # Panics
/// When Postgres can't be started or a migration fails.
pub async fn database() -> TestDatabase {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    let template = TEMPLATE.get_or_init(async || ok(template().await)).await;
    ok(create(&format!("TEMPLATE {template}")).await)
}

/// A new database with nothing in it.
///
/// # Panics
/// When Postgres can't be started.
pub async fn empty_database() -> TestDatabase {
    ok(create("").await)
}

/// Brings any database up to date with the migrations of this workspace.
///
/// # Panics
/// When a migration fails.
pub async fn migrate(url: &str) {
    ok(run_migrations(url).await);
}

async fn create(options: &str) -> Result<TestDatabase> {
    let name = unique("test");
    let mut server = connect().await?;
    server.execute(format!("CREATE DATABASE {name} {options}").as_str()).await.context("creating a database")?;
    let url = url_of(&name)?;
    let pool = PgPoolOptions::new().max_connections(POOL).connect_lazy_with(options_of(&url)?);
    Ok(TestDatabase { url, pool, name })
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // A thread of its own does it: nothing here may wait, and the test's runtime ends in this moment.
        let _ = reaper().send(std::mem::take(&mut self.name));
    }
}

/// Drops databases one after the other. The last ones may remain when the process ends; the cluster is temporary.
fn reaper() -> &'static mpsc::Sender<String> {
    static REAPER: OnceLock<mpsc::Sender<String>> = OnceLock::new();
    REAPER.get_or_init(|| {
        let (sender, names) = mpsc::channel::<String>();
        thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            for name in names {
                let dropped = runtime.block_on(async {
                    let mut server = connect().await?;
                    server.execute(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)").as_str()).await?;
                    anyhow::Ok(server.close().await?)
                });
                // A database that stays costs 8 MB until the cluster goes.
                drop(dropped);
            }
            Ok(())
        });
        sender
    })
}

/// The name of the migrated template, made by whichever process comes first.
async fn template() -> Result<String> {
    let name = format!("template_{}", fingerprint()?);
    let mut server = connect().await?;
    sqlx::query("SELECT pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut server).await?;
    let exists = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1").bind(&name);
    if exists.fetch_optional(&mut server).await?.is_none() {
        let unfinished = format!("{name}_unfinished");
        server.execute(format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)").as_str()).await?;
        server.execute(format!("CREATE DATABASE {unfinished}").as_str()).await?;
        run_migrations(&url_of(&unfinished)?).await?;
        // Nobody may be connected to a template while it is copied.
        server
            .execute(format!("ALTER DATABASE {unfinished} IS_TEMPLATE true ALLOW_CONNECTIONS false").as_str())
            .await?;
        server.execute(format!("ALTER DATABASE {unfinished} RENAME TO {name}").as_str()).await?;
    }
    // Ends the lock, too.
    server.close().await?;
    Ok(name)
}

async fn run_migrations(url: &str) -> Result<()> {
    let folder = migrations();
    let migrator = Migrator::new(folder.clone()).await.with_context(|| format!("reading {}", folder.display()))?;
    let mut connection = options_of(url)?.connect().await?;
    migrator.run(&mut connection).await.context("migrating")?;
    Ok(connection.close().await?)
}

fn migrations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations")
}

fn fingerprint() -> Result<String> {
    let mut files = fs::read_dir(migrations())?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    let mut hash = Sha256::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "sql")) {
        hash.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update(fs::read(file)?);
    }
    Ok(hex::encode(&hash.finalize()[..6]))
}

async fn connect() -> Result<PgConnection> {
    options_of(stack().database_url())?.connect().await.context("connecting to the test Postgres")
}

fn options_of(url: &str) -> Result<PgConnectOptions> {
    Ok(PgConnectOptions::from_str(url)?)
}

/// The server's URL with another database at its end.
fn url_of(database: &str) -> Result<String> {
    let (server, _) = stack().database_url().rsplit_once('/').context("a database URL has a path")?;
    Ok(format!("{server}/{database}"))
}
