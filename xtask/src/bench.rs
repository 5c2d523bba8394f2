//! `cargo xtask bench`: the product with optimisation, on a stack that keeps every promise (nothing is turned off that
//! makes data durable), beside a mock provider.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use polyphony_devstack::{Deps, Guarded, Spec, Stack, StackOptions, get_status, ports::Port, progress};

use crate::cargo;

/// How long a program may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked.
const POLL: Duration = Duration::from_millis(25);

#[derive(clap::Subcommand)]
pub enum What {
    /// First chunk, relay latency and completions per second, in a few minutes.
    Smoke {
        /// How often each workload is run; the report gives medians.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Programs that are measured instead of this checkout's: a folder with `polyphony` and `chdb-server`.
        #[arg(long)]
        programs: Option<PathBuf>,
        /// Only the workload of this name (`first-1`, `streams-100`, `streams-500`, `completions-64`).
        #[arg(long)]
        only: Option<String>,
    },
}

/// Builds, starts, measures, prints the table on standard output, and stops everything.
///
/// # Errors
/// Something could not be built or started, or a workload failed.
pub fn run(what: &What) -> Result<()> {
    let What::Smoke { rounds, programs, only } = what;
    let built = cargo::build(&["polyphony", "chdb-server", "polyphony-bench"], true)?;
    let programs = programs.clone().unwrap_or_else(|| built.clone());
    let deps = Deps::install()?;
    let folder = std::env::temp_dir().join(format!("polyphony-bench-{}", std::process::id()));
    let measured = measure(&deps, &folder, &built, &programs, *rounds, only.as_deref());
    fs::remove_dir_all(&folder).ok();
    measured
}

fn measure(deps: &Deps, folder: &Path, built: &Path, programs: &Path, rounds: usize, only: Option<&str>) -> Result<()> {
    progress("starting a durable stack");
    let mut stack = Stack::start(deps, StackOptions::lasting(folder, &programs.join("chdb-server")))?;
    let (http, metrics, mock_port) = (Port::free()?, Port::free()?, Port::free()?);
    let mock_host = format!("127.0.0.1:{}", mock_port.number());
    let mut spec = Spec::new("the mock", &built.join("bench"), &stack.folder().join("mock.log"));
    spec.args = ["mock", "--listen", &mock_host].map(Into::into).to_vec();
    let mut mock = Guarded::spawn(&spec)?;
    wait(&mut mock, mock_port.number(), "/healthz")?;

    let program = programs.join("polyphony");
    let mut spec = Spec::new("polyphony", &program, &stack.folder().join("polyphony.log"));
    let endpoints = stack.endpoints();
    let secrets = Command::new(&program).args(["config", "generate-secrets"]).output()?;
    let host = format!("127.0.0.1:{}", http.number());
    let envs: BTreeMap<&str, String> = [
        ("DATABASE_URL", endpoints.database_url.clone()),
        ("NATS_URL", endpoints.nats_url.clone()),
        ("CLICKHOUSE_URL", endpoints.clickhouse_url.clone()),
        ("POLYPHONY_SECRETS", String::from_utf8(secrets.stdout)?),
        ("POLYPHONY_HTTP_ADDR", host.clone()),
        ("POLYPHONY_PUBLIC_URL", format!("http://{host}")),
        ("POLYPHONY_METRICS_ADDR", format!("127.0.0.1:{}", metrics.number())),
        ("POLYPHONY_LIMITS__RELAXED", "true".to_owned()),
        ("POLYPHONY_EGRESS__ALLOW", mock_host.clone()),
        ("POLYPHONY_PROVIDERS__MOCK__KIND", "compatible".to_owned()),
        ("POLYPHONY_PROVIDERS__MOCK__BASE_URL", format!("http://{mock_host}/v1")),
        ("POLYPHONY_PROVIDERS__MOCK__MODELS", "mock-n1-i0,mock-n20-i10,mock-n200-i10,mock-n200-i20".to_owned()),
    ]
    .into();
    spec.envs.extend(envs.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let migrated = Command::new(&program).arg("migrate").envs(&spec.envs).output()?;
    if !migrated.status.success() {
        bail!("the database could not be migrated:\n{}", String::from_utf8_lossy(&migrated.stderr));
    }
    spec.args = vec![OsString::from("all")];
    let mut product = Guarded::spawn(&spec)?;
    wait(&mut product, http.number(), "/readyz")?;

    progress("measuring");
    let status = Command::new(built.join("bench"))
        .args(["smoke", "--mock", &mock_host, "--mock-pid", &mock.pid().to_string()])
        .args(["--product", &host, "--product-pid", &product.pid().to_string(), "--rounds", &rounds.to_string()])
        .args(only.map(|only| ["--only", only]).into_iter().flatten())
        .status()
        .context("the load client can't be started")?;
    let log = product.log_tail();
    product.stop()?;
    mock.stop()?;
    stack.stop()?;
    if status.success() { Ok(()) } else { bail!("the measurement failed; the product's last words:\n{log}") }
}

fn wait(program: &mut Guarded, port: u16, path: &str) -> Result<()> {
    let begun = Instant::now();
    while get_status(port, path).ok() != Some(200) {
        if program.exited()?.is_some() || begun.elapsed() > PATIENCE {
            bail!("it is not ready:\n{}", program.log_tail());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
