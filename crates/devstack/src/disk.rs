//! A small disk for a server alone, which a test can fill up. Linux only; nobody has to be root for it.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use rustix::process::{getegid, geteuid};

use crate::guard::Spec;

const SCRIPT: &str = include_str!("disk.sh");
/// What is written at a time; the last of it fits into a page.
const PIECES: [usize; 2] = [1 << 20, 1 << 12];

/// Whether this machine lets a program have a disk of its own: some refuse namespaces to everybody but root, or to all.
#[must_use]
pub fn has_small_disks() -> bool {
    let probe = ["--user", "--map-root-user", "--mount", "/bin/sh", "-c", "mount -t tmpfs tmpfs /tmp"];
    Command::new("unshare").args(probe).output().is_ok_and(|output| output.status.success())
}

/// Where a server's small disk is, as the server sees it.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    ballast: PathBuf,
}

impl Disk {
    /// Has the program find `folder`, with what is in it now, on a disk of so many megabytes whenever it starts.
    pub(crate) fn under(spec: &mut Spec, folder: &Path, megabytes: u32) -> Self {
        let (uid, gid) = match spec.account {
            Some(account) => (account.uid, account.gid),
            None => (geteuid().as_raw(), getegid().as_raw()),
        };
        let mut args: Vec<_> = ["--user", "--map-root-user", "--mount", "/bin/sh", "-c", SCRIPT, "polyphony-disk"]
            .into_iter()
            .map(Into::into)
            .collect();
        args.push(folder.into());
        args.extend([megabytes, uid, gid].map(|number| number.to_string().into()));
        args.push(std::mem::replace(&mut spec.program, "unshare".into()).into());
        args.append(&mut spec.args);
        spec.args = args;
        let mut name = folder.as_os_str().to_owned();
        name.push(".disk/ballast");
        Self { ballast: name.into() }
    }

    /// The ballast, as this process reaches it.
    fn ballast(&self, pid: u32) -> PathBuf {
        let inside = self.ballast.strip_prefix("/").unwrap_or(&self.ballast);
        Path::new("/proc").join(pid.to_string()).join("root").join(inside)
    }

    /// Leaves no free byte on the disk of a running program.
    pub(crate) fn fill(&self, pid: u32) -> Result<()> {
        let path = self.ballast(pid);
        let mut file =
            File::options().append(true).open(&path).with_context(|| format!("opening {}", path.display()))?;
        for piece in PIECES {
            let zeros = vec![0; piece];
            loop {
                match file.write(&zeros) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("filling a disk"),
                }
            }
        }
        Ok(())
    }

    /// Makes room again.
    pub(crate) fn free(&self, pid: u32) -> Result<()> {
        let path = self.ballast(pid);
        fs::File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_len(0))
            .with_context(|| format!("emptying {}", path.display()))
    }
}
