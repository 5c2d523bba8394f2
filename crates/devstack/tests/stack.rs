//! Postgres and NATS for real: started, stopped, killed, and gone with their owner.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use polyphony_devstack::{Deps, Stack, StackOptions, is_root, process, random};

fn options() -> StackOptions {
    let mut options = StackOptions::temporary(Path::new("")).unwrap();
    options.chdb_server = None;
    options
}

fn psql(deps: &Deps, stack: &Stack, sql: &str) -> String {
    let output = Command::new(deps.postgres("psql"))
        .args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-d", &stack.endpoints().database_url, "-c", sql])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn killed_postgres_comes_back_on_its_port_with_its_data() {
    let deps = Deps::install().unwrap();
    let stack = Stack::start(&deps, options()).unwrap();
    psql(&deps, &stack, "CREATE TABLE kept AS SELECT 'here' AS what");
    let postgres = stack.postgres().unwrap();
    let pid = postgres.pid().unwrap();
    postgres.kill().unwrap();
    assert!(!process::is_alive(pid));
    postgres.start().unwrap();
    assert_ne!(postgres.pid(), Some(pid));
    assert_eq!(psql(&deps, &stack, "SELECT what FROM kept"), "here");
}

#[test]
fn nats_starts_again_after_losing_its_store() {
    let deps = Deps::install().unwrap();
    let stack = Stack::start(&deps, options()).unwrap();
    let nats = stack.nats().unwrap();
    assert!(nats.delete_data().is_err(), "its data is in use");
    nats.stop().unwrap();
    assert!(nats.data().exists());
    nats.delete_data().unwrap();
    assert!(!nats.data().exists());
    nats.start().unwrap();
    assert!(nats.is_running().unwrap());
}

#[test]
fn temporary_folder_goes_with_the_stack() {
    let deps = Deps::install().unwrap();
    let mut stack = Stack::start(&deps, options()).unwrap();
    let folder = stack.folder().to_owned();
    assert!(folder.join("postgres/data").exists());
    stack.stop().unwrap();
    assert!(!folder.exists());
}

#[test]
fn lasting_stack_keeps_its_data_and_ports_and_refuses_a_second_owner() {
    let deps = Deps::install().unwrap();
    let parent = if is_root() { "/var/tmp".into() } else { std::env::temp_dir() };
    let folder = parent.join(format!("polyphony-lasting-{}", random::hex(6).unwrap()));
    let lasting = || StackOptions { folder: folder.clone(), temporary: false, ..options() };

    let mut first = Stack::start(&deps, lasting()).unwrap();
    psql(&deps, &first, "CREATE TABLE kept AS SELECT 'here' AS what");
    let url = first.endpoints().database_url.clone();
    let refused = Stack::start(&deps, lasting()).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("is in use by process"), "{refused}");
    first.stop().unwrap();
    drop(first);

    // As after a crash of the machine: a pid file whose process is somebody else now.
    std::fs::write(folder.join("postgres/data/postmaster.pid"), format!("{}\n", std::process::id())).unwrap();
    let second = Stack::start(&deps, lasting()).unwrap();
    assert_eq!(second.endpoints().database_url, url);
    assert_eq!(psql(&deps, &second, "SELECT what FROM kept"), "here");
    drop(second);
    std::fs::remove_dir_all(folder).unwrap();
}

/// The test below starts this one in a process of its own and kills it.
#[test]
#[ignore = "a part of killed_owner_leaves_nothing_behind"]
fn owner_that_waits_to_be_killed() {
    let deps = Deps::install().unwrap();
    let stack = Stack::start(&deps, options()).unwrap();
    let pids = [stack.postgres().unwrap().pid().unwrap(), stack.nats().unwrap().pid().unwrap()];
    let report = std::env::var("POLYPHONY_REPORT").unwrap();
    std::fs::write(&report, format!("{}\n{}\n{}\n", stack.folder().display(), pids[0], pids[1])).unwrap();
    std::fs::rename(&report, format!("{report}.done")).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn killed_owner_leaves_nothing_behind() {
    let report = std::env::temp_dir().join(format!("polyphony-report-{}", random::hex(6).unwrap()));
    let done = std::path::PathBuf::from(format!("{}.done", report.display()));
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["owner_that_waits_to_be_killed", "--exact", "--ignored"])
        .env("POLYPHONY_REPORT", &report)
        .spawn()
        .unwrap();
    process::wait_until("the owner's report", Duration::from_secs(120), || {
        assert!(owner.try_wait()?.is_none(), "the owner ended by itself");
        Ok(done.exists())
    })
    .unwrap();
    let text = std::fs::read_to_string(&done).unwrap();
    std::fs::remove_file(done).unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    let killed = Instant::now();
    let mut lines = text.lines();
    let folder = Path::new(lines.next().unwrap());
    process::wait_until("the folder's removal", Duration::from_secs(30), || Ok(!folder.exists())).unwrap();
    for pid in lines {
        assert!(!process::is_alive(pid.parse().unwrap()));
    }
    assert!(killed.elapsed() < Duration::from_secs(10), "took {:?}", killed.elapsed());
}
