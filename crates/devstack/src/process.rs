//! Signals, and what is known of a process by its id.

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, kill_process, test_kill_process};

pub use rustix::process::Signal;

const POLL: Duration = Duration::from_millis(10);

/// Sends a signal to one process.
///
/// # Errors
/// When there is no such process or it belongs to somebody else.
pub fn send(pid: u32, signal: Signal) -> Result<()> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).context("not a process id")?;
    kill_process(id, signal).with_context(|| format!("sending {signal:?} to process {pid}"))
}

/// Whether a process with this id exists.
pub fn is_alive(pid: u32) -> bool {
    i32::try_from(pid).ok().and_then(Pid::from_raw).is_some_and(|id| test_kill_process(id).is_ok())
}

/// Whether a process exists whose command line holds `word`: ids are used again after a restart.
pub fn is_running_with(pid: u32, word: &str) -> bool {
    is_alive(pid) && command_line(pid).is_some_and(|line| line.contains(word))
}

fn command_line(pid: u32) -> Option<String> {
    let proc = Path::new("/proc").join(pid.to_string()).join("cmdline");
    if let Ok(bytes) = std::fs::read(proc) {
        return Some(String::from_utf8_lossy(&bytes).replace('\0', " "));
    }
    let output = Command::new("ps").args(["-o", "args=", "-p", &pid.to_string()]).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks `ready` every few milliseconds until it says yes.
///
/// # Errors
/// The first error of `ready`, or that the time is over.
pub fn wait_until(what: &str, patience: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !ready()? {
        if Instant::now() >= deadline {
            bail!("{what} did not happen within {} s", patience.as_secs());
        }
        thread::sleep(POLL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_alive_and_known_by_its_command_line() {
        let name = std::env::current_exe().unwrap();
        let name = name.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(is_running_with(std::process::id(), &name));
        assert!(!is_running_with(std::process::id(), "no such word in it"));
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let error = wait_until("the impossible", Duration::ZERO, || Ok(false)).unwrap_err();
        assert_eq!(error.to_string(), "the impossible did not happen within 0 s");
    }
}
