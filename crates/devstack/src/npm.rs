//! Packages from npm, by a lock file with their integrity.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use crate::{
    deps::run_visibly,
    pins::{CHDB, Pins},
    progress,
};

/// A package. What it depends on has to be named beside it: nothing else is fetched.
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// Its exact version.
    pub version: &'static str,
    /// Its integrity; where none was recorded, npm checks what the registry publishes.
    pub integrity: Option<&'static str>,
}

/// Installs the ClickHouse engine under `folder`.
pub fn install(pins: &Pins, folder: &Path) -> Result<()> {
    let package = Package { name: pins.chdb_package, version: CHDB, integrity: pins.chdb_integrity };
    let what = "the ClickHouse engine 26.7 from npm (178 MB)";
    ci(&[package], folder, what).context("fetching the ClickHouse engine; or set CLICKHOUSE_URL")
}

/// Installs exactly these packages under `folder/node`.
pub fn ci(packages: &[Package], folder: &Path, what: &str) -> Result<()> {
    if Command::new("npm").arg("--version").output().is_err() {
        bail!(
            "npm is not installed (it comes with Node.js; on Debian: apt install npm); it is only needed once, to fetch {what}"
        );
    }
    for package in packages.iter().filter(|package| package.integrity.is_none()) {
        progress(format!("no integrity of {} was recorded; npm checks the registry's", package.name));
    }
    let project = folder.join("node");
    fs::create_dir_all(&project)?;
    fs::write(project.join("package.json"), manifest(packages).to_string())?;
    fs::write(project.join("package-lock.json"), lock(packages).to_string())?;
    let mut command = Command::new("npm");
    command
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", "--loglevel=error"])
        // Some packages ask for a newer Node than they need.
        .arg("--engine-strict=false")
        .current_dir(&project);
    run_visibly(command, "npm", what)
}

fn manifest(packages: &[Package]) -> Value {
    json!({ "name": "polyphony-deps", "private": true, "dependencies": dependencies(packages) })
}

fn dependencies(packages: &[Package]) -> Map<String, Value> {
    packages.iter().map(|package| (package.name.to_owned(), json!(package.version))).collect()
}

fn lock(packages: &[Package]) -> Value {
    let mut all = json!({ "": { "name": "polyphony-deps", "dependencies": dependencies(packages) } });
    for package in packages {
        let mut locked = json!({ "version": package.version });
        if let Some(integrity) = package.integrity {
            locked["integrity"] = json!(integrity);
        }
        all[format!("node_modules/{}", package.name)] = locked;
    }
    json!({ "name": "polyphony-deps", "lockfileVersion": 3, "requires": true, "packages": all })
}
