//! How each of the three servers is configured, locally.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    deps::Deps,
    guard::Spec,
    part::{Part, Probe},
    ports::Port,
    process::{self, Signal},
    random, state, user,
};

const NATS_CONF: &str = include_str!("../../../nats/server.conf");
const ACCOUNT: &str = "polyphony";
const PATIENCE: Duration = Duration::from_secs(60);

/// A new password. It starts with a letter: NATS reads what looks like a number as one.
///
/// # Errors
/// When the system has no randomness.
pub fn new_password() -> Result<String> {
    Ok(format!("p{}", random::hex(20)?))
}

/// Postgres under `folder`. Makes the cluster when there is none.
pub fn postgres(deps: &Deps, folder: &Path, port: Port, password: &str, durable: bool) -> Result<Part> {
    let account = user::unprivileged()?;
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    user::give(folder, account)?;
    let parent = folder.parent().context("a state folder has a parent")?;
    user::check_traversable(parent, account)?;

    let data = folder.join("data");
    if data.exists() {
        remove_stale_pid(deps, &data)?;
    } else {
        init_cluster(deps, folder, &data, password, durable)?;
    }
    let number = port.number();
    let mut settings = vec![
        format!("port={number}"),
        "listen_addresses=127.0.0.1".into(),
        // TCP only: the path of a socket must fit into 107 bytes, and that of a state folder may not.
        "unix_socket_directories=".into(),
        "max_connections=200".into(),
        "shared_buffers=128MB".into(),
        "max_wal_size=2GB".into(),
        "jit=off".into(),
        "idle_in_transaction_session_timeout=30s".into(),
        "timezone=UTC".into(),
        "log_timezone=UTC".into(),
    ];
    if !durable {
        // The data goes with the tests. Commits still reach the operating system, so that a kill loses nothing.
        settings.extend(["fsync=off", "full_page_writes=off", "autovacuum=off"].map(String::from));
    }
    let log = folder.with_extension("log");
    let mut spec = Spec::new("Postgres", &deps.postgres("postgres"), &log);
    spec.args = vec!["-D".into(), data.clone().into()];
    spec.args.extend(settings.into_iter().flat_map(|setting| ["-c".into(), setting.into()]));
    spec.envs.insert("LC_ALL".into(), "C".into());
    spec.folder = Some(folder.to_owned());
    spec.account = account;
    // Fast: ends the sessions and writes a checkpoint. Tests throw the data away.
    spec.stop_signal = if durable { Signal::INT } else { Signal::QUIT };
    spec.grace = Duration::from_secs(30);
    Ok(Part {
        spec,
        url: format!("postgres://{ACCOUNT}:{password}@127.0.0.1:{number}/polyphony"),
        probe: Probe::Postmaster { pid_file: data.join("postmaster.pid") },
        data,
        patience: PATIENCE,
        retry_on: &[
            "pre-existing shared memory block",
            "could not bind",
            "lock file \"postmaster.pid\" already exists",
        ],
        watcher: None,
        disk: None,
        running: Mutex::new(None),
        _ports: vec![port],
    })
}

fn init_cluster(deps: &Deps, folder: &Path, data: &Path, password: &str, durable: bool) -> Result<()> {
    let account = user::unprivileged()?;
    let unfinished = folder.join("data.unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    let password_file = folder.join("initial-password");
    state::write_private(&password_file, password)?;
    user::give(&password_file, account)?;
    let run = |command: &mut Command| -> Result<()> {
        command.current_dir(folder).env("LC_ALL", "C");
        if let Some(account) = account {
            command.uid(account.uid).gid(account.gid);
        }
        let output = command.output().with_context(|| format!("starting {}", command.get_program().display()))?;
        if !output.status.success() {
            bail!("{} failed:\n{}", command.get_program().display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    };
    let mut initdb = Command::new(deps.postgres("initdb"));
    initdb
        .args(["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"])
        .args(["--auth=scram-sha-256", "--username", ACCOUNT])
        .arg("--pwfile")
        .arg(&password_file)
        .arg("-D")
        .arg(&unfinished);
    if !durable {
        initdb.arg("--no-sync");
    }
    let made = run(&mut initdb);
    fs::remove_file(&password_file)?;
    made?;
    // The single-user mode needs no port and no password.
    let sql = folder.join("create-database.sql");
    fs::write(&sql, "CREATE DATABASE polyphony;\n")?;
    let mut single = Command::new(deps.postgres("postgres"));
    single.args(["--single", "-D"]).arg(&unfinished).args(["-c", "fsync=off", "postgres"]).stdin(fs::File::open(&sql)?);
    run(&mut single)?;
    fs::remove_file(&sql)?;
    fs::rename(&unfinished, data)?;
    Ok(())
}

/// After a crash of the machine the pid in the file may belong to anybody, and Postgres would refuse to start.
fn remove_stale_pid(deps: &Deps, data: &Path) -> Result<()> {
    let pid_file = data.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&pid_file) else { return Ok(()) };
    let pid = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok());
    let name = data.display().to_string();
    if pid.is_some_and(|pid| process::is_running_with(pid, &name)) {
        let mut stop = Command::new(deps.postgres("pg_ctl"));
        stop.args(["stop", "-w", "-m", "fast", "-D"]).arg(data);
        if let Some(account) = user::unprivileged()? {
            stop.uid(account.uid).gid(account.gid);
        }
        let output = stop.current_dir("/").output().context("starting pg_ctl")?;
        if !output.status.success() {
            bail!("Postgres still runs on {name}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
    } else {
        fs::remove_file(&pid_file)?;
    }
    Ok(())
}

/// A NATS server under `folder`, from the same configuration file as in production.
///
/// # Errors
/// When the folder can't be written.
pub fn nats_server(deps: &Deps, folder: &Path, ports: [Port; 2], password: &str) -> Result<Part> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let conf = folder.join("server.conf");
    fs::write(&conf, NATS_CONF)?;
    let [port, monitor] = ports.each_ref().map(Port::number);
    let data = folder.join("data");
    let mut spec = Spec::new("NATS", &deps.nats_server(), &folder.with_extension("log"));
    spec.args = vec!["-c".into(), conf.into(), "-a".into(), "127.0.0.1".into()];
    spec.args.extend(["-p".into(), port.to_string().into(), "-m".into(), monitor.to_string().into()]);
    spec.args.extend(["--store_dir".into(), data.clone().into()]);
    spec.envs.insert("NATS_PASSWORD".into(), password.into());
    Ok(Part {
        spec,
        url: format!("nats://{ACCOUNT}:{password}@127.0.0.1:{port}"),
        probe: Probe::Http { port: monitor, path: "/healthz" },
        data,
        patience: PATIENCE,
        retry_on: &["address already in use"],
        watcher: None,
        disk: None,
        running: Mutex::new(None),
        _ports: ports.into(),
    })
}

/// The ClickHouse engine under `folder`, behind our HTTP front.
pub fn clickhouse(deps: &Deps, folder: &Path, port: Port, front: &Path) -> Result<Part> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let number = port.number();
    let data = folder.join("data");
    let mut spec = Spec::new("ClickHouse engine", front, &folder.with_extension("log"));
    spec.args = vec!["--library".into(), deps.chdb_library().into(), "--data-dir".into(), data.clone().into()];
    spec.args.extend(["--listen".into(), format!("127.0.0.1:{number}").into()]);
    // It keeps temporary files beside its data.
    spec.folder = Some(folder.to_owned());
    spec.grace = Duration::from_secs(30);
    Ok(Part {
        spec,
        url: format!("http://127.0.0.1:{number}"),
        probe: Probe::Http { port: number, path: "/ping" },
        data,
        patience: PATIENCE,
        retry_on: &["Address already in use"],
        watcher: None,
        disk: None,
        running: Mutex::new(None),
        _ports: vec![port],
    })
}
