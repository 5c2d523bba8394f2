//! Calling cargo.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A cargo command in the repository.
pub fn command(args: &[String]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo tells a program that it runs is about that program. Build scripts look at some of it, and would have
    // their crates built again, and all that stand on them.
    let about = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"];
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| about.iter().any(|about| name.starts_with(about))) {
            command.env_remove(name);
        }
    }
    command.args(args).current_dir(root());
    command
}

/// Runs cargo visibly. What it prints goes to standard error, whatever stream it chose.
///
/// # Errors
/// It failed; it has said why.
pub fn run(what: &str, args: &[String], envs: &[(&str, &str)]) -> Result<()> {
    let status = command(args).envs(envs.iter().copied()).status().context("cargo can't be started")?;
    if status.success() { Ok(()) } else { bail!("{what} failed") }
}

/// Builds programs and returns the folder that they are in.
///
/// # Errors
/// The build failed; cargo has said why.
pub fn build(packages: &[&str], release: bool) -> Result<PathBuf> {
    let mut args = vec!["build".to_owned()];
    for package in packages {
        args.extend(["--package".to_owned(), (*package).to_owned()]);
    }
    if release {
        args.push("--release".to_owned());
    }
    run("the build", &args, &[])?;
    programs(release)
}

/// The folder that built programs are in.
///
/// # Errors
/// This program doesn't know where it is itself.
pub fn programs(release: bool) -> Result<PathBuf> {
    // This very program lies in target/<profile>/.
    let program = env::current_exe().context("this program has no path")?;
    let target = program.ancestors().nth(2).context("there is no target folder")?;
    Ok(target.join(if release { "release" } else { "debug" }))
}
