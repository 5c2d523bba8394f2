//! The operator's commands.

mod audit;
mod doctor;
pub mod models;
mod rebuild;
mod replay;
mod table;

use std::io::Write as _;

use anyhow::Context;
use polyphony_domain::account::{Account, AccountCommand};
use polyphony_eventstore::{CommandContext, Effect, Root};
use polyphony_platform::{config::Config, secrets::Secrets};
use polyphony_projections::usage;

pub use self::{
    audit::{AuditCommand, audit},
    doctor::doctor,
    rebuild::rebuild,
    replay::replay,
};

use crate::roles;

/// Writes an error and its causes to standard error.
pub fn complain(error: &anyhow::Error) {
    let mut line = format!("polyphony: {error}");
    for cause in error.chain().skip(1) {
        line.push_str(": ");
        line.push_str(&cause.to_string());
    }
    // A closed standard error leaves nobody to complain to.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("standard output is closed")
}

/// Prints fresh secrets.
pub fn generate_secrets() -> anyhow::Result<()> {
    print(&Secrets::generate_toml())
}

/// Prints the configuration without its secrets, and says whether the secrets load.
pub fn check_config(config: &Config) -> anyhow::Result<()> {
    print(&format!("{}\n", config.redacted()?))?;
    Secrets::load()?;
    Ok(())
}

/// Brings Postgres and ClickHouse up to date.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    let (store, _) = roles::open_store(config).await?;
    store.migrate().await?;
    usage::ensure_schema(&usage::client(&config.clickhouse), &config.clickhouse.database).await?;
    Ok(())
}

/// Says how many answers an account may have in the making at a time.
pub async fn set_allowance(config: &Config, email: &str, in_flight: u32) -> anyhow::Result<()> {
    let (store, secrets) = roles::open_store(config).await?;
    let index = secrets.pepper.email_index(email);
    let credential = store.credential(&index).await?.context("there is no account with this e-mail address")?;
    let account_id = credential.account_id;
    let context = CommandContext::internal(account_id, "operator", account_id.as_uuid());
    store
        .command::<Account>(context, Root::Existing(account_id.as_uuid()))
        .effects(move |_, _| vec![Effect::SetAllowance { account_id, in_flight }])
        .run(account_id.as_uuid(), AccountCommand::SetAllowance { in_flight })
        .await?;
    print(&format!("{email}: {in_flight} answers at a time\n"))
}

/// Writes the tables anew that erased texts may have been in.
pub async fn scrub(config: Config) -> anyhow::Result<()> {
    let (store, _) = roles::open_store(&config).await?;
    for table in store.scrub().await? {
        print(&format!("{table}\n"))?;
    }
    Ok(())
}
