//! Packages from npm, by a lock file with their integrity.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use crate::{
    deps::run_visibly,
    pins::{CHDB, Pins},
    progress,
};

/// A package without dependencies.
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
    ci(&package, folder, what).context("fetching the ClickHouse engine; or set CLICKHOUSE_URL")
}

/// Installs a package under `folder/node`.
pub fn ci(package: &Package, folder: &Path, what: &str) -> Result<()> {
    if Command::new("npm").arg("--version").output().is_err() {
        bail!(
            "npm is not installed (it comes with Node.js; on Debian: apt install npm); it is only needed once, to fetch {what}"
        );
    }
    if package.integrity.is_none() {
        progress(format!("no integrity of {} was recorded; npm checks the registry's", package.name));
    }
    let project = folder.join("node");
    fs::create_dir_all(&project)?;
    fs::write(project.join("package.json"), manifest(package).to_string())?;
    fs::write(project.join("package-lock.json"), lock(package).to_string())?;
    let mut command = Command::new("npm");
    command
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", "--loglevel=error"])
        .current_dir(&project);
    run_visibly(command, "npm", what)
}

fn manifest(package: &Package) -> Value {
    json!({ "name": "polyphony-deps", "private": true, "dependencies": dependencies(package) })
}

fn dependencies(package: &Package) -> Map<String, Value> {
    Map::from_iter([(package.name.to_owned(), json!(package.version))])
}

fn lock(package: &Package) -> Value {
    let mut locked = json!({ "version": package.version });
    if let Some(integrity) = package.integrity {
        locked["integrity"] = json!(integrity);
    }
    let mut packages = json!({ "": { "name": "polyphony-deps", "dependencies": dependencies(package) } });
    packages[format!("node_modules/{}", package.name)] = locked;
    json!({ "name": "polyphony-deps", "lockfileVersion": 3, "requires": true, "packages": packages })
}
