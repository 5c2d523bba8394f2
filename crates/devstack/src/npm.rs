//! The ClickHouse engine from npm, by a lock file with its integrity.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use crate::{
    deps::run_visibly,
    pins::{CHDB, Pins},
    progress,
};

/// Installs the package under `folder`.
pub fn install(pins: &Pins, folder: &Path) -> Result<()> {
    if Command::new("npm").arg("--version").output().is_err() {
        bail!(
            "npm is not installed (it comes with Node.js; on Debian: apt install npm); it is only needed once, to fetch the \
             ClickHouse engine. Or set CLICKHOUSE_URL"
        );
    }
    if pins.chdb_integrity.is_none() {
        progress(format!("no integrity of {} was recorded; npm checks the registry's", pins.chdb_package));
    }
    let project = folder.join("node");
    fs::create_dir_all(&project)?;
    fs::write(project.join("package.json"), manifest(pins).to_string())?;
    fs::write(project.join("package-lock.json"), lock(pins).to_string())?;
    let mut command = Command::new("npm");
    command
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", "--loglevel=error"])
        .current_dir(&project);
    run_visibly(command, "npm", "the ClickHouse engine 26.7 from npm (178 MB)")
}

fn manifest(pins: &Pins) -> Value {
    json!({ "name": "polyphony-deps", "private": true, "dependencies": dependencies(pins) })
}

fn dependencies(pins: &Pins) -> Map<String, Value> {
    Map::from_iter([(pins.chdb_package.to_owned(), json!(CHDB))])
}

fn lock(pins: &Pins) -> Value {
    let mut package = json!({ "version": CHDB });
    if let Some(integrity) = pins.chdb_integrity {
        package["integrity"] = json!(integrity);
    }
    let mut packages = json!({ "": { "name": "polyphony-deps", "dependencies": dependencies(pins) } });
    packages[format!("node_modules/{}", pins.chdb_package)] = package;
    json!({ "name": "polyphony-deps", "lockfileVersion": 3, "requires": true, "packages": packages })
}
