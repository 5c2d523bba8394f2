//! `cargo xtask up`: the whole product on this machine, private, with data that stays.

use std::{
    env, fs,
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use polyphony_devstack::{Deps, Guarded, Spec, Stack, StackOptions, get_status, is_root, progress, state};
use tokio::signal::unix::{SignalKind, signal};

use crate::cargo;

/// How long the product may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked.
const POLL: Duration = Duration::from_millis(25);
/// How long it may take to stop: its own drain, and a little more.
const GRACE: Duration = Duration::from_secs(40);

/// Where the data is kept.
fn state_folder() -> PathBuf {
    match env::var_os("POLYPHONY_STATE_DIR") {
        Some(folder) => PathBuf::from(folder),
        // Postgres drops to another account there, which can't enter root's own folders.
        None if is_root() => PathBuf::from("/var/tmp/polyphony-state"),
        None => cargo::root().join(".polyphony"),
    }
}

/// Builds, starts, says that it is ready, and stops at a signal.
///
/// # Errors
/// Something could not be built or started: the message says what and why.
pub fn run(release: bool) -> Result<()> {
    // First of all: a signal during the start must not leave anything behind.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals =
        runtime.block_on(async { anyhow::Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)) })?;
    progress("building");
    let programs = cargo::build(&["polyphony", "chdb-server"], release)?;
    let deps = Deps::install()?;
    let folder = state_folder();
    progress(format!("starting Postgres, NATS and the ClickHouse engine in {}", folder.display()));
    let mut stack = Stack::start(&deps, StackOptions::lasting(&folder, &programs.join("chdb-server")))?;
    let program = programs.join("polyphony");
    let mut spec = Spec::new("polyphony", &program, &stack.folder().join("polyphony.log"));
    let endpoints = stack.endpoints();
    spec.envs.insert("DATABASE_URL".to_owned(), endpoints.database_url.clone());
    spec.envs.insert("NATS_URL".to_owned(), endpoints.nats_url.clone());
    spec.envs.insert("CLICKHOUSE_URL".to_owned(), endpoints.clickhouse_url.clone());
    if env::var_os("POLYPHONY_SECRETS_FILE").is_none() && env::var_os("POLYPHONY_SECRETS").is_none() {
        let secrets = stack.folder().join("secrets.toml");
        state::private_or(&secrets, || {
            let output = Command::new(&program).args(["config", "generate-secrets"]).output()?;
            Ok(String::from_utf8(output.stdout)?)
        })?;
        spec.envs.insert("POLYPHONY_SECRETS_FILE".to_owned(), secrets.display().to_string());
    }
    if env::var_os("POLYPHONY_MAIL__URL").is_none() {
        let mail = stack.folder().join("mail");
        fs::create_dir_all(&mail)?;
        spec.envs.insert("POLYPHONY_MAIL__URL".to_owned(), format!("file://{}", mail.display()));
    }
    let migrated = Command::new(&program).arg("migrate").envs(&spec.envs).stdout(Stdio::null()).status()?;
    if !migrated.success() {
        bail!("the database could not be migrated");
    }
    spec.args = vec!["all".into()];
    spec.grace = GRACE;
    let mut product = Guarded::spawn(&spec)?;
    let address = address()?;
    let begun = Instant::now();
    while get_status(address.port(), "/readyz").ok() != Some(200) {
        if product.exited()?.is_some() {
            bail!("polyphony has ended:\n{}", product.log_tail());
        }
        if begun.elapsed() > PATIENCE {
            bail!("polyphony is not ready after {} s:\n{}", PATIENCE.as_secs(), product.log_tail());
        }
        std::thread::sleep(POLL);
    }
    writeln!(std::io::stdout(), "polyphony ready http://{address}").context("standard output is closed")?;
    progress(format!("its log: {}; Ctrl-C stops everything", stack.folder().join("polyphony.log").display()));
    let ended = runtime.block_on(async {
        loop {
            tokio::select! {
                _ = signals.0.recv() => return anyhow::Ok(false),
                _ = signals.1.recv() => return Ok(false),
                () = tokio::time::sleep(Duration::from_millis(200)) => {
                    if product.exited()?.is_some() {
                        return Ok(true);
                    }
                }
            }
        }
    })?;
    if ended {
        bail!("polyphony has ended:\n{}", product.log_tail());
    }
    progress("stopping");
    product.stop()?;
    stack.stop()
}

/// Where the product will answer.
fn address() -> Result<SocketAddr> {
    let text = env::var("POLYPHONY_HTTP_ADDR").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let mut address: SocketAddr = text.parse().context("POLYPHONY_HTTP_ADDR must look like 127.0.0.1:8080")?;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    Ok(address)
}
