//! One server of the stack: started, stopped, killed and started again on the same port.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{disk::Disk, guard::Guarded, guard::Spec, http, ports::Port, process};

/// How a server says that it is ready.
#[derive(Debug)]
pub enum Probe {
    /// This path answers 200.
    Http { port: u16, path: &'static str },
    /// Postgres writes it into the last line of its pid file, which is where `pg_ctl -w` looks too.
    Postmaster { pid_file: PathBuf },
}

impl Probe {
    fn is_ready(&self, pid: u32) -> bool {
        match self {
            Self::Http { port, path } => http::get_status(*port, path).is_ok_and(|status| status == 200),
            Self::Postmaster { pid_file } => fs::read_to_string(pid_file).is_ok_and(|text| {
                let mut lines = text.lines();
                lines.next().is_some_and(|line| line.trim() == pid.to_string())
                    && lines.nth(6).is_some_and(|line| line.trim() == "ready")
            }),
        }
    }
}

/// Told the process ids of a server whenever it starts.
pub type Watcher = Box<dyn Fn(&Guarded) -> Result<()> + Send + Sync>;

/// A server and what is needed to start it again.
pub struct Part {
    pub(crate) spec: Spec,
    pub(crate) url: String,
    pub(crate) data: PathBuf,
    pub(crate) probe: Probe,
    pub(crate) patience: Duration,
    /// What it says when it can't start yet, because of its killed predecessor.
    pub(crate) retry_on: &'static [&'static str],
    pub(crate) watcher: Option<Watcher>,
    pub(crate) disk: Option<Disk>,
    pub(crate) running: Mutex<Option<Guarded>>,
    pub(crate) _ports: Vec<Port>,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL holds the password.
        f.debug_struct("Part").field("name", &self.spec.name).field("data", &self.data).finish_non_exhaustive()
    }
}

impl Part {
    /// Where clients connect, with the password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.spec.log
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running().as_ref().map(Guarded::pid)
    }

    /// Whether it was started and has not ended since.
    ///
    /// # Errors
    /// When the system can't tell.
    pub fn is_running(&self) -> Result<bool> {
        Ok(match self.running().as_mut() {
            Some(guarded) => guarded.exited()?.is_none(),
            None => false,
        })
    }

    /// Starts it, on the same port and data as before, and waits until it is ready.
    ///
    /// # Errors
    /// When it runs already, ends by itself or isn't ready in time; with the tail of its log.
    pub fn start(&self) -> Result<()> {
        let mut running = self.running();
        ensure!(running.is_none(), "{} runs already", self.spec.name);
        let deadline = Instant::now() + self.patience;
        loop {
            let mut guarded = Guarded::spawn(&self.spec)?;
            if let Some(watcher) = &self.watcher {
                watcher(&guarded)?;
            }
            match self.wait_until_ready(&mut guarded, deadline) {
                Ok(()) => {
                    *running = Some(guarded);
                    return Ok(());
                }
                Err(error) => {
                    let log = guarded.log();
                    let again = self.retry_on.iter().any(|text| log.contains(text));
                    if !again || Instant::now() >= deadline {
                        return Err(error);
                    }
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    fn wait_until_ready(&self, guarded: &mut Guarded, deadline: Instant) -> Result<()> {
        let patience = deadline.saturating_duration_since(Instant::now());
        let what = format!("{} being ready", self.spec.name);
        let waited = process::wait_until(&what, patience, || {
            if let Some(status) = guarded.exited()? {
                bail!("{} ended instead of starting ({status})", self.spec.name);
            }
            Ok(self.probe.is_ready(guarded.pid()))
        });
        waited.with_context(|| format!("its log {} ends with:\n{}", self.spec.log.display(), guarded.log_tail()))
    }

    /// Stops it as it wants to be stopped. Does nothing when it doesn't run.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub fn stop(&self) -> Result<()> {
        if let Some(mut guarded) = self.running().take() {
            guarded.stop()?;
        }
        Ok(())
    }

    /// Kills it at once, as a crash would.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub fn kill(&self) -> Result<()> {
        if let Some(mut guarded) = self.running().take() {
            guarded.kill()?;
        }
        Ok(())
    }

    /// Deletes its data, as a lost disk would. Only while it is stopped.
    ///
    /// # Errors
    /// When it runs or the folder can't be removed.
    pub fn delete_data(&self) -> Result<()> {
        ensure!(self.running().is_none(), "{} runs: stop it first", self.spec.name);
        if self.data.exists() {
            fs::remove_dir_all(&self.data).with_context(|| format!("removing {}", self.data.display()))?;
        }
        Ok(())
    }

    /// Has it keep a folder of its data, or all of it, on a small disk of its own from its next start on.
    pub(crate) fn confine(&mut self, folder: &str, megabytes: u32) {
        let folder = if folder.is_empty() { self.data.clone() } else { self.data.join(folder) };
        self.disk = Some(Disk::under(&mut self.spec, &folder, megabytes));
    }

    /// Fills its small disk up.
    ///
    /// # Errors
    /// When it doesn't run, or has no such disk.
    pub fn fill_disk(&self) -> Result<()> {
        let (disk, pid) = self.small_disk()?;
        disk.fill(pid)
    }

    /// Makes room on its small disk again.
    ///
    /// # Errors
    /// When it doesn't run, or has no such disk.
    pub fn free_disk(&self) -> Result<()> {
        let (disk, pid) = self.small_disk()?;
        disk.free(pid)
    }

    fn small_disk(&self) -> Result<(&Disk, u32)> {
        let disk = self.disk.as_ref().with_context(|| format!("{} has no small disk", self.spec.name))?;
        Ok((disk, self.pid().with_context(|| format!("{} doesn't run", self.spec.name))?))
    }

    fn running(&self) -> MutexGuard<'_, Option<Guarded>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
