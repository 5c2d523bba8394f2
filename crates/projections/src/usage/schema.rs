//! The tables of facts in ClickHouse, and which of them are the live ones.
//!
//! Each build of the projection has tables of its own: those of epoch 0 have the plain names, those of a later one
//! end in it (`usage_events_e1`). The checkpoint in Postgres says which epoch is live, so a rebuild switches over
//! with one row, and a projector that has missed that writes into tables that nobody reads any more.

use std::time::Duration;

use clickhouse::{Client, error::Error};
use polyphony_platform::config::ClickhouseConfig;
use tokio::time::timeout;

use crate::ProjectionError;

const SCHEMA: &str = concat!(
    include_str!("../../../../migrations/clickhouse/0001_usage.sql"),
    include_str!("../../../../migrations/clickhouse/0050_keys.sql"),
);
/// The tables; `usage_events` feeds the others through views that are called like them, with `_mv`.
const TABLES: [&str; 3] = ["usage_events", "usage_hourly", "usage_daily"];
/// The epoch of tables that are only made to be compared with the live ones.
pub(crate) const SCRATCH: i64 = -1;
/// Longest wait for one statement.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A client of the configured database.
pub fn client(config: &ClickhouseConfig) -> Client {
    let mut url = config.url.clone();
    let (user, password) = (url.username().to_owned(), url.password().map(str::to_owned));
    // Both can only fail for URLs without a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let client = Client::default().with_url(url.as_str().trim_end_matches('/')).with_database(&config.database);
    let client = if user.is_empty() { client } else { client.with_user(user) };
    match password {
        Some(password) => client.with_password(password),
        None => client,
    }
}

/// Creates the database and the tables of the first build where they're missing.
///
/// # Errors
/// [`ProjectionError::Clickhouse`].
pub async fn ensure_schema(client: &Client, database: &str) -> Result<(), ProjectionError> {
    ensure(&client.clone().with_database(database), 0).await
}

/// Creates the client's database and the tables of an epoch where they're missing.
pub(crate) async fn ensure(client: &Client, epoch: i64) -> Result<(), ProjectionError> {
    if let Some(database) = client.database() {
        let create = format!("CREATE DATABASE IF NOT EXISTS `{}`", database.replace(['`', '\\'], ""));
        execute(&client.clone().with_database("default"), &create).await?;
    }
    let schema = TABLES.iter().fold(SCHEMA.to_owned(), |sql, name| sql.replace(name, &table(name, epoch)));
    let schema = schema.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
    for statement in schema.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        execute(client, statement).await?;
    }
    Ok(())
}

/// Drops the tables of an epoch, the views before what they feed.
pub(crate) async fn drop_tables(client: &Client, epoch: i64) -> Result<(), ProjectionError> {
    for suffix in ["_mv", ""] {
        for name in TABLES {
            execute(client, &format!("DROP TABLE IF EXISTS {}{suffix}", table(name, epoch))).await?;
        }
    }
    Ok(())
}

/// The name of a table in an epoch.
pub(crate) fn table(name: &str, epoch: i64) -> String {
    match epoch {
        0 => name.to_owned(),
        SCRATCH => format!("{name}_verify"),
        epoch => format!("{name}_e{epoch}"),
    }
}

async fn execute(client: &Client, sql: &str) -> Result<(), ProjectionError> {
    Ok(within(TIMEOUT, client.query(sql).execute()).await?)
}

/// A call to ClickHouse, but not for ever.
pub(crate) async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(limit, call).await.unwrap_or(Err(Error::TimedOut))
}
