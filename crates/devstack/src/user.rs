//! Who runs the servers: Postgres refuses to run as root, so that it drops to `nobody` there.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::geteuid;

/// The account that a server runs under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Whether this process is root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// The account to drop to: `nobody` when root, else none.
pub fn unprivileged() -> Result<Option<Account>> {
    if !is_root() {
        return Ok(None);
    }
    let text = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    // Postgres looks its own uid up there, so that an entry must exist.
    let account = find(&text, "nobody").context("running as root, and /etc/passwd has no `nobody` to drop to")?;
    Ok(Some(account))
}

fn find(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let uid = fields.nth(1)?.parse::<i64>().ok()?;
        let gid = fields.next()?.parse::<i64>().ok()?;
        // macOS writes nobody as -2.
        let wrap = |id: i64| u32::try_from(id & i64::from(u32::MAX)).ok();
        Some(Account { uid: wrap(uid)?, gid: wrap(gid)? })
    })
}

/// Gives a file or folder to the account that will use it.
pub fn give(path: &Path, account: Option<Account>) -> Result<()> {
    if let Some(Account { uid, gid }) = account {
        chown(path, Some(uid), Some(gid)).with_context(|| format!("giving {} to uid {uid}", path.display()))?;
    }
    Ok(())
}

/// Checks that another account can walk to `path`.
pub fn check_traversable(path: &Path, account: Option<Account>) -> Result<()> {
    let Some(account) = account else { return Ok(()) };
    for folder in path.ancestors() {
        let meta = fs::metadata(folder).with_context(|| format!("looking at {}", folder.display()))?;
        let mode = meta.permissions().mode();
        let bit = match (meta.uid() == account.uid, meta.gid() == account.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        if mode & bit == 0 {
            bail!(
                "as root, Postgres runs as uid {}, which can't enter {}: choose a state folder whose parents everybody \
                 may enter (POLYPHONY_STATE_DIR=/var/tmp/polyphony-state)",
                account.uid,
                folder.display()
            );
        }
    }
    Ok(())
}

/// Refuses a folder that somebody else could have filled: what is in it gets executed.
pub fn check_ours(path: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    let ours = meta.is_dir() && meta.uid() == geteuid().as_raw() && meta.permissions().mode() & 0o022 == 0;
    if !ours {
        bail!("{} belongs to somebody else or others may write to it; remove it and try again", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin\n";

    #[test]
    fn nobody_is_found_with_its_group() {
        assert_eq!(find(PASSWD, "nobody"), Some(Account { uid: 65534, gid: 65533 }));
        assert_eq!(find(PASSWD, "postgres"), None);
    }

    #[test]
    fn negative_ids_of_macos_are_understood() {
        let account = find("nobody:*:-2:-2:Unprivileged User:/var/empty:/usr/bin/false", "nobody").unwrap();
        assert_eq!(account.uid, u32::MAX - 1);
    }
}
