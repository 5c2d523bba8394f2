//! A child process that can't outlive its owner.
//!
//! Between the owner and the server stands a shell that holds the read end of a pipe. When the owner ends, in whatever
//! way, the kernel closes the pipe and the shell stops the server. A test may so die by `kill -9` and leave nothing.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    process::{self, Signal},
    user::Account,
};

const GUARD: &str = include_str!("guard.sh");
const LOG_TAIL: u64 = 4_000;

/// What to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// For messages, and the name of the log file.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to the environment.
    pub envs: BTreeMap<String, String>,
    /// Where the program runs; the owner's folder when none.
    pub folder: Option<PathBuf>,
    /// Where its output goes, appended.
    pub log: PathBuf,
    /// What asks it to stop.
    pub stop_signal: Signal,
    /// How long it may take to stop before it is killed.
    pub grace: Duration,
    /// The account to run under, when not ours.
    pub account: Option<Account>,
}

impl Spec {
    /// A program that stops at SIGTERM within ten seconds and runs under our own account.
    pub fn new(name: &str, program: &Path, log: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            args: Vec::new(),
            envs: BTreeMap::new(),
            folder: None,
            log: log.to_owned(),
            stop_signal: Signal::TERM,
            grace: Duration::from_secs(10),
            account: None,
        }
    }
}

/// A running program and its guard. Dropping it stops the program.
#[derive(Debug)]
pub struct Guarded {
    name: String,
    guard: Child,
    lifeline: Option<ChildStdin>,
    pid: u32,
    log: PathBuf,
    log_start: u64,
    stop_signal: Signal,
    grace: Duration,
}

impl Guarded {
    /// Starts the program.
    ///
    /// # Errors
    /// When the shell or the log file can't be opened. A program that doesn't exist shows as an early exit.
    pub fn spawn(spec: &Spec) -> Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&spec.log)
            .with_context(|| format!("opening {}", spec.log.display()))?;
        let log_start = log.metadata()?.len();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", GUARD, "polyphony-guard", signal_name(spec.stop_signal)])
            .arg(spec.grace.as_secs().to_string())
            .arg(&spec.program)
            .args(&spec.args)
            .envs(&spec.envs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C in a terminal goes to the whole group; the owner decides in which order things stop.
            .process_group(0);
        if let Some(account) = spec.account {
            command.uid(account.uid).gid(account.gid);
        }
        if let Some(folder) = &spec.folder {
            command.current_dir(folder);
        }
        let mut guard = command.spawn().with_context(|| format!("starting {}", spec.name))?;
        let lifeline = guard.stdin.take();
        let mut line = String::new();
        let stdout = guard.stdout.take().context("the guard has no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let pid = line.trim().parse().with_context(|| format!("the guard of {} said {line:?}", spec.name))?;
        Ok(Self {
            name: spec.name.clone(),
            guard,
            lifeline,
            pid,
            log: spec.log.clone(),
            log_start,
            stop_signal: spec.stop_signal,
            grace: spec.grace,
        })
    }

    /// The program's process id.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// The guard's process id.
    pub fn guard_pid(&self) -> u32 {
        self.guard.id()
    }

    /// How the program ended, when it has.
    ///
    /// # Errors
    /// When the system can't tell.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.guard.try_wait()?)
    }

    /// Sends a signal to the program.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::send(self.pid, signal)
    }

    /// Asks the program to stop, kills it when it takes too long, and says how it ended: by its exit code, or by
    /// 128 + signal as a shell says it.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let (signal, grace) = (self.stop_signal, self.grace);
        self.stop_with(signal, grace)
    }

    /// Kills the program at once, as `kill -9`.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.stop_with(Signal::KILL, Duration::from_secs(10))
    }

    fn stop_with(&mut self, signal: Signal, grace: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.exited()? {
            return Ok(status);
        }
        // It may end by itself in this moment.
        let _ = self.signal(signal);
        let stopped = self.wait(grace);
        if stopped.is_err() {
            let _ = self.signal(Signal::KILL);
            self.lifeline = None;
            return self.wait(Duration::from_secs(10));
        }
        stopped
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    /// When it doesn't end in time.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        let mut status = None;
        process::wait_until(&what, patience, || {
            status = self.exited()?;
            Ok(status.is_some())
        })?;
        Ok(status.unwrap_or_else(|| ExitStatus::from_raw(0)))
    }

    /// What the program has written since it was started.
    pub fn log(&self) -> String {
        read_from(&self.log, self.log_start).unwrap_or_default()
    }

    /// The last lines of it, for messages.
    pub fn log_tail(&self) -> String {
        let length = std::fs::metadata(&self.log).map_or(0, |meta| meta.len());
        read_from(&self.log, self.log_start.max(length.saturating_sub(LOG_TAIL))).unwrap_or_default()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn read_from(path: &Path, start: u64) -> Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

const fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::INT => "INT",
        Signal::QUIT => "QUIT",
        Signal::KILL => "KILL",
        _ => "TERM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path) -> Spec {
        let mut spec = Spec::new("sleeper", Path::new("sleep"), &folder.join("log"));
        spec.args = vec!["600".into()];
        spec
    }

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("polyphony-guard-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn program_stops_when_its_lifeline_ends() {
        let folder = folder("lifeline");
        let mut guarded = Guarded::spawn(&sleeper(&folder)).unwrap();
        assert!(process::is_running_with(guarded.pid(), "600"));
        guarded.lifeline = None;
        guarded.wait(Duration::from_secs(10)).unwrap();
        assert!(!process::is_alive(guarded.pid()));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn stopping_reports_the_signal_as_a_shell_does() {
        let folder = folder("stop");
        let mut guarded = Guarded::spawn(&sleeper(&folder)).unwrap();
        assert_eq!(guarded.stop().unwrap().code(), Some(128 + 15));
        let mut guarded = Guarded::spawn(&sleeper(&folder)).unwrap();
        assert_eq!(guarded.kill().unwrap().code(), Some(128 + 9));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn missing_program_is_an_early_exit_with_a_log() {
        let folder = folder("missing");
        let mut guarded =
            Guarded::spawn(&Spec::new("nothing", Path::new("/no/such/program"), &folder.join("log"))).unwrap();
        assert_eq!(guarded.wait(Duration::from_secs(10)).unwrap().code(), Some(127));
        assert!(guarded.log_tail().contains("/no/such/program"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
