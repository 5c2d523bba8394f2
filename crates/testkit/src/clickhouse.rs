//! A ClickHouse database for each test.

use anyhow::{Result, bail};
use polyphony_devstack::post;

use crate::{ok, stack, unique};

/// A database of one test. It stays until the engine goes: dropping tables costs more than their few kilobytes.
#[derive(Debug, Clone)]
pub struct ClickhouseDatabase {
    /// The HTTP interface, without a database.
    pub url: String,
    /// The database's name.
    pub name: String,
}

impl ClickhouseDatabase {
    /// For `CLICKHOUSE_URL`: address and database in one.
    pub fn url_with_database(&self) -> String {
        format!("{}/?database={}", self.url.trim_end_matches('/'), self.name)
    }
}

/// A new database with nothing in it.
///
/// # Panics
/// When the engine can't be started.
pub async fn clickhouse_database() -> ClickhouseDatabase {
    let (url, name) = (stack().clickhouse_url().to_owned(), unique("test"));
    ok(create(&url, &name));
    ClickhouseDatabase { url, name }
}

fn create(url: &str, name: &str) -> Result<()> {
    let (status, answer) = post(url, &format!("CREATE DATABASE {name}"))?;
    if status != 200 {
        bail!("ClickHouse answered {status}: {answer}");
    }
    Ok(())
}
