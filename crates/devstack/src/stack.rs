//! The three servers together, under one folder.

use std::{
    env,
    fs::{self, DirBuilder, File},
    io::Write as _,
    os::unix::{fs::DirBuilderExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::{
    deps::Deps,
    guard::Guarded,
    part::Part,
    ports::{self, Port},
    process, random,
    servers::{self, new_password},
    state, user,
};

const JANITOR: &str = include_str!("janitor.sh");

/// Where the three servers listen. Not `Debug`: the URLs hold passwords.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Endpoints<T = String> {
    /// `DATABASE_URL`
    pub database_url: T,
    /// `NATS_URL`
    pub nats_url: T,
    /// `CLICKHOUSE_URL`
    pub clickhouse_url: T,
}

impl Endpoints<Option<String>> {
    /// Those that the environment gives.
    pub fn from_env() -> Self {
        let get = |name| env::var(name).ok().filter(|value| !value.is_empty());
        Self { database_url: get("DATABASE_URL"), nats_url: get("NATS_URL"), clickhouse_url: get("CLICKHOUSE_URL") }
    }
}

/// Port numbers; free ones when not given.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Ports {
    /// Postgres.
    pub postgres: Option<u16>,
    /// NATS clients.
    pub nats: Option<u16>,
    /// NATS health and statistics.
    pub nats_monitor: Option<u16>,
    /// The ClickHouse HTTP interface.
    pub clickhouse: Option<u16>,
}

/// What to start, and where.
pub struct StackOptions {
    /// The folder of everything.
    pub folder: PathBuf,
    /// For tests: the data needn't survive a power cut, and the folder goes when the owner ends.
    pub temporary: bool,
    /// For tests, on Linux: the servers' data is on disks of so many megabytes, see [`Part::fill_disk`]. Of Postgres
    /// only the tables are: its log must have room, or it ends.
    pub small_disk: Option<u32>,
    /// Servers that run already and aren't started.
    pub external: Endpoints<Option<String>>,
    /// Fixed ports.
    pub ports: Ports,
    /// The program `chdb-server`; without it, no ClickHouse engine is started.
    pub chdb_server: Option<PathBuf>,
}

impl StackOptions {
    /// A stack whose data stays in `folder`. What `DATABASE_URL`, `NATS_URL` and `CLICKHOUSE_URL` name isn't started.
    pub fn lasting(folder: &Path, chdb_server: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            temporary: false,
            small_disk: None,
            external: Endpoints::from_env(),
            ports: Ports::default(),
            chdb_server: Some(chdb_server.to_owned()),
        }
    }

    /// A stack in a new folder that goes with its owner, and starts everything itself.
    ///
    /// # Errors
    /// When the system has no randomness to name it.
    pub fn temporary(chdb_server: &Path) -> Result<Self> {
        Ok(Self {
            folder: temporary_folder()?,
            temporary: true,
            small_disk: None,
            external: Endpoints::default(),
            ports: Ports::default(),
            chdb_server: Some(chdb_server.to_owned()),
        })
    }
}

/// The name of a new folder for tests; as root, one that the account Postgres drops to can enter.
fn temporary_folder() -> Result<PathBuf> {
    let parent = if user::is_root() { PathBuf::from("/var/tmp") } else { env::temp_dir() };
    Ok(parent.join(format!("polyphony-test-{}", random::hex(6)?)))
}

fn mode() -> u32 {
    if user::is_root() { 0o711 } else { 0o700 }
}

/// Running servers. Dropping it stops them in order.
pub struct Stack {
    folder: PathBuf,
    endpoints: Endpoints,
    postgres: Option<Part>,
    nats: Option<Part>,
    clickhouse: Option<Part>,
    janitor: Option<Arc<Janitor>>,
    _lock: File,
}

impl Stack {
    /// Starts what isn't external, in parallel, and waits until all of it is ready.
    ///
    /// # Errors
    /// When the folder is in use, or a server doesn't start: with the tail of its log.
    pub fn start(deps: &Deps, options: StackOptions) -> Result<Self> {
        let StackOptions { folder, temporary, small_disk, external, ports, chdb_server } = options;
        if temporary || !folder.exists() {
            DirBuilder::new()
                .recursive(!temporary)
                .mode(mode())
                .create(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
        }
        let folder = fs::canonicalize(&folder)?;
        let lock = lock(&folder)?;
        let janitor = if temporary { Some(Arc::new(Janitor::start(&folder)?)) } else { None };
        wait_for_predecessor(&folder)?;
        let ports = choose_ports(&folder, ports, &external)?;
        let durable = !temporary;

        let watch = |mut part: Part, name: &'static str| -> Part {
            let (record, janitor) = (folder.join(name).with_extension("pid"), janitor.clone());
            part.watcher = Some(Box::new(move |guarded| {
                state::write_private(&record, &format!("{}\n{}\n", guarded.guard_pid(), guarded.pid()))?;
                janitor.as_ref().map_or(Ok(()), |janitor| janitor.watch(guarded))
            }));
            part
        };
        let start = |mut part: Part, name: &'static str, inner: &str| {
            if let Some(megabytes) = small_disk {
                part.confine(inner, megabytes);
            }
            let part = watch(part, name);
            part.start().map(|()| part)
        };
        let (postgres, nats, clickhouse) = thread::scope(|scope| {
            let postgres = scope.spawn(|| {
                let Some(port) = ports.postgres else { return Ok(None) };
                let password = state::private_or(&folder.join("postgres.password"), new_password)?;
                let part = servers::postgres(deps, &folder.join("postgres"), port, &password, durable)?;
                start(part, "postgres", "base").map(Some)
            });
            let nats = scope.spawn(|| {
                let Some(ports) = ports.nats else { return Ok(None) };
                let password = state::private_or(&folder.join("nats.password"), new_password)?;
                start(servers::nats_server(deps, &folder.join("nats"), ports, &password)?, "nats", "").map(Some)
            });
            let clickhouse = scope.spawn(|| {
                let (Some(port), Some(front)) = (ports.clickhouse, &chdb_server) else { return Ok(None) };
                start(servers::clickhouse(deps, &folder.join("clickhouse"), port, front)?, "clickhouse", "").map(Some)
            });
            (joined(postgres), joined(nats), joined(clickhouse))
        });
        let (postgres, nats, clickhouse) = (postgres?, nats?, clickhouse?);
        let url = |part: &Option<Part>, given: Option<String>| {
            given.or_else(|| part.as_ref().map(|part| part.url().to_owned())).unwrap_or_default()
        };
        let endpoints = Endpoints {
            database_url: url(&postgres, external.database_url),
            nats_url: url(&nats, external.nats_url),
            clickhouse_url: url(&clickhouse, external.clickhouse_url),
        };
        Ok(Self { folder, endpoints, postgres, nats, clickhouse, janitor, _lock: lock })
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where all three listen, external ones included.
    pub const fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Postgres, when it is ours.
    pub const fn postgres(&self) -> Option<&Part> {
        self.postgres.as_ref()
    }

    /// NATS, when it is ours.
    pub const fn nats(&self) -> Option<&Part> {
        self.nats.as_ref()
    }

    /// The ClickHouse engine, when it is ours.
    pub const fn clickhouse(&self) -> Option<&Part> {
        self.clickhouse.as_ref()
    }

    /// Stops the servers, what depends on others first, and removes a temporary folder.
    ///
    /// # Errors
    /// The first problem; the rest is stopped all the same.
    pub fn stop(&mut self) -> Result<()> {
        let mut result = Ok(());
        for (part, name) in
            [(self.clickhouse.take(), "clickhouse"), (self.nats.take(), "nats"), (self.postgres.take(), "postgres")]
        {
            if let Some(part) = part {
                result = result.and(part.stop());
                let _ = fs::remove_file(self.folder.join(name).with_extension("pid"));
            }
        }
        if let Some(janitor) = self.janitor.take().and_then(Arc::into_inner) {
            result = result.and(janitor.finish());
        }
        result
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn joined(handle: thread::ScopedJoinHandle<'_, Result<Option<Part>>>) -> Result<Option<Part>> {
    handle.join().map_err(|_| anyhow!("a thread that started a server panicked"))?
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    if file.try_lock().is_err() {
        let owner = fs::read_to_string(&path).unwrap_or_default();
        bail!("{} is in use by process {}", folder.display(), owner.trim());
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// When the last owner was killed, its guards may still be stopping the servers.
fn wait_for_predecessor(folder: &Path) -> Result<()> {
    let word = folder.display().to_string();
    for name in ["clickhouse", "nats", "postgres"] {
        let record = folder.join(name).with_extension("pid");
        let Ok(text) = fs::read_to_string(&record) else { continue };
        for pid in text.lines().filter_map(|line| line.parse().ok()) {
            process::wait_until(
                &format!("the end of the last {name}, process {pid},"),
                Duration::from_secs(60),
                || Ok(!process::is_running_with(pid, &word)),
            )?;
        }
        fs::remove_file(&record)?;
    }
    Ok(())
}

struct ChosenPorts {
    postgres: Option<Port>,
    nats: Option<[Port; 2]>,
    clickhouse: Option<Port>,
}

/// The given ports; else those of the last run, when still free; else free ones.
fn choose_ports(folder: &Path, wanted: Ports, external: &Endpoints<Option<String>>) -> Result<ChosenPorts> {
    let path = folder.join("ports.json");
    let last: Ports =
        fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let choose = |wanted: Option<u16>, last: Option<u16>| match (wanted, last) {
        (Some(port), _) => Ok(Port::fixed(port)),
        (None, Some(port)) if ports::is_free(port) => Ok(Port::fixed(port)),
        _ => Port::free(),
    };
    let postgres = choose(wanted.postgres, last.postgres)?;
    let nats = [choose(wanted.nats, last.nats)?, choose(wanted.nats_monitor, last.nats_monitor)?];
    let clickhouse = choose(wanted.clickhouse, last.clickhouse)?;
    let chosen = Ports {
        postgres: Some(postgres.number()),
        nats: Some(nats[0].number()),
        nats_monitor: Some(nats[1].number()),
        clickhouse: Some(clickhouse.number()),
    };
    state::write_private(&path, &serde_json::to_string(&chosen)?)?;
    Ok(ChosenPorts {
        postgres: external.database_url.is_none().then_some(postgres),
        nats: external.nats_url.is_none().then_some(nats),
        clickhouse: external.clickhouse_url.is_none().then_some(clickhouse),
    })
}

/// A shell that removes the folder when we are gone and the servers have stopped.
struct Janitor(Mutex<Child>);

impl Janitor {
    fn start(folder: &Path) -> Result<Self> {
        let child = Command::new("/bin/sh")
            .args(["-c", JANITOR, "polyphony-janitor"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting the janitor")?;
        Ok(Self(Mutex::new(child)))
    }

    fn watch(&self, guarded: &Guarded) -> Result<()> {
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stdin = child.stdin.as_mut().context("the janitor is gone")?;
        writeln!(stdin, "{}\n{}", guarded.guard_pid(), guarded.pid()).context("telling the janitor")
    }

    fn finish(self) -> Result<()> {
        let mut child = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        drop(child.stdin.take());
        child.wait().context("waiting for the janitor")?;
        Ok(())
    }
}
