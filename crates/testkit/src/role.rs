//! The product's binary as a child process.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use polyphony_devstack::{Guarded, Spec, get_status, process::Signal};
use tokio::time::{Instant, sleep};

use crate::{binary, free_port, ok};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// A running `polyphony`. It is killed when dropped; when the test failed, the end of its log is shown.
pub struct Role {
    guarded: Guarded,
    log: PathBuf,
    http: u16,
    metrics: u16,
    told_to_end: AtomicBool,
}

impl Role {
    /// Starts `polyphony` with free ports and fresh secrets, which `envs` may override, and doesn't wait.
    ///
    /// # Panics
    /// When it can't be built or started.
    pub fn spawn<K: Into<String>, V: Into<String>>(args: &[&str], envs: impl IntoIterator<Item = (K, V)>) -> Self {
        let (http, metrics) = (free_port(), free_port());
        let log = log_file(args.first().unwrap_or(&"polyphony"));
        let mut spec = Spec::new("polyphony", &binary("polyphony"), &log);
        spec.args = args.iter().map(Into::into).collect();
        spec.envs.insert("POLYPHONY_HTTP_ADDR".into(), format!("127.0.0.1:{http}"));
        spec.envs.insert("POLYPHONY_PUBLIC_URL".into(), format!("http://127.0.0.1:{http}"));
        spec.envs.insert("POLYPHONY_METRICS_ADDR".into(), format!("127.0.0.1:{metrics}"));
        spec.envs.insert("POLYPHONY_SECRETS".into(), secrets().to_owned());
        // The test servers are quick instead of durable.
        spec.envs.insert("POLYPHONY_SAFETY__ALLOW_VOLATILE".into(), "true".into());
        spec.envs.extend(envs.into_iter().map(|(name, value)| (name.into(), value.into())));
        spec.grace = Duration::from_secs(40);
        let (http, metrics) =
            (port_of(&spec, "POLYPHONY_HTTP_ADDR", http), port_of(&spec, "POLYPHONY_METRICS_ADDR", metrics));
        Self { guarded: ok(Guarded::spawn(&spec)), log, http, metrics, told_to_end: AtomicBool::new(false) }
    }

    /// Starts it and waits until it is ready: `/readyz` of the main listener for `all` and `api`, `/healthz` of the
    /// metrics listener for the others.
    ///
    /// # Panics
    /// When it can't be built or started, ends by itself, or isn't ready in time.
    pub async fn start<K: Into<String>, V: Into<String>>(
        args: &[&str],
        envs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let mut role = Self::spawn(args, envs);
        let serves = args.first().is_none_or(|role| matches!(*role, "all" | "api"));
        let (port, path) = if serves { (role.http, "/readyz") } else { (role.metrics, "/healthz") };
        role.wait_for_status(port, path, 200).await;
        role
    }

    /// Waits until `GET http://127.0.0.1:{port}{path}` answers with this status.
    ///
    /// # Panics
    /// When the process ends or the time is over.
    pub async fn wait_for_status(&mut self, port: u16, path: &'static str, status: u16) {
        let answers = move || get_status(port, path).is_ok_and(|answer| answer == status);
        let waited = self.wait_until(path, async || tokio::task::spawn_blocking(answers).await.unwrap_or(false)).await;
        ok(waited);
    }

    /// Waits until its log holds `text`.
    ///
    /// # Panics
    /// When the process ends or the time is over.
    pub async fn wait_for_log(&mut self, text: &str) {
        let log = self.log.clone();
        let holds = async || fs::read_to_string(&log).is_ok_and(|written| written.contains(text));
        ok(self.wait_until(text, holds).await);
    }

    async fn wait_until(&mut self, what: &str, mut condition: impl AsyncFnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await {
            if let Some(status) = self.guarded.exited()? {
                bail!("polyphony ended ({status}) before {what}:\n{}", self.guarded.log_tail());
            }
            if Instant::now() >= deadline {
                bail!("polyphony: no {what} within {} s:\n{}", PATIENCE.as_secs(), self.guarded.log_tail());
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Base of its HTTP interface.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// Port of its HTTP interface.
    pub const fn http_port(&self) -> u16 {
        self.http
    }

    /// Port of its metrics.
    pub const fn metrics_port(&self) -> u16 {
        self.metrics
    }

    /// Its process id.
    pub const fn pid(&self) -> u32 {
        self.guarded.pid()
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.guarded.log()
    }

    /// Kills it, as `kill -9`, and waits for its end.
    ///
    /// # Panics
    /// When it can't be waited for.
    pub fn kill9(&mut self) {
        ok(self.guarded.kill());
    }

    /// Freezes it, as a machine that stands still for a while. [`Self::thaw`] lets it go on.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn freeze(&self) {
        ok(self.guarded.signal(Signal::STOP));
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn thaw(&self) {
        ok(self.guarded.signal(Signal::CONT));
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// When the system can't tell.
    pub fn has_ended(&mut self) -> bool {
        ok(self.guarded.exited()).is_some()
    }

    /// Open file descriptors and resident kilobytes, where the system tells.
    pub fn resources(&self) -> Option<(usize, u64)> {
        let folder = format!("/proc/{}", self.pid());
        let files = fs::read_dir(format!("{folder}/fd")).ok()?.count();
        let status = fs::read_to_string(format!("{folder}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some((files, line.trim().trim_end_matches(" kB").parse().ok()?))
    }

    /// Processor time that it has used in all, where the system tells.
    pub fn processor_time(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        // The program's name may hold blanks; user and system time are the 12th and 13th after it, in hundredths.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Duration::from_millis(ticks * 10))
    }

    /// Asks it to stop and doesn't wait.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn sigterm(&self) {
        self.told_to_end.store(true, Ordering::Relaxed);
        ok(self.guarded.signal(Signal::TERM));
    }

    /// Whether it was asked to stop.
    pub fn is_told_to_end(&self) -> bool {
        self.told_to_end.load(Ordering::Relaxed)
    }

    /// Waits for its end; the exit code, or 128 + the signal's number.
    ///
    /// # Panics
    /// When it doesn't end in time.
    pub async fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = ok(self.guarded.exited()) {
                return status.code();
            }
            assert!(Instant::now() < deadline, "polyphony did not end:\n{}", self.guarded.log_tail());
            sleep(POLL).await;
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.guarded.kill();
        if std::thread::panicking() {
            polyphony_devstack::progress(format!(
                "log of polyphony, process {}:\n{}",
                self.pid(),
                self.guarded.log_tail()
            ));
        }
        let _ = fs::remove_file(&self.log);
    }
}

/// Runs `polyphony` to its end, for commands such as `migrate`.
///
/// # Panics
/// When it can't be built or started.
pub fn run<K: Into<String>, V: Into<String>>(args: &[&str], envs: impl IntoIterator<Item = (K, V)>) -> Output {
    let mut command = Command::new(binary("polyphony"));
    command.args(args);
    if args.first() != Some(&"config") {
        command.env("POLYPHONY_SECRETS", secrets());
    }
    command.envs(envs.into_iter().map(|(name, value)| (name.into(), value.into())));
    ok(command.output().context("starting polyphony"))
}

/// Secrets for the roles of this test process, in their TOML form: `POLYPHONY_SECRETS`.
///
/// # Panics
/// When the binary can't be built or makes none.
pub fn secrets() -> &'static str {
    static SECRETS: OnceLock<String> = OnceLock::new();
    SECRETS.get_or_init(|| {
        let output = run(&["config", "generate-secrets"], [("POLYPHONY_LOG__FORMAT", "pretty")]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("pepper"), "{}", String::from_utf8_lossy(&output.stderr));
        text
    })
}

fn log_file(role: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("polyphony-{}-{number}-{role}.log", std::process::id()))
}

fn port_of(spec: &Spec, variable: &str, default: u16) -> u16 {
    spec.envs.get(variable).and_then(|address| address.rsplit(':').next()?.parse().ok()).unwrap_or(default)
}
