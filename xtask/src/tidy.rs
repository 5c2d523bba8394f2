//! `cargo xtask tidy`: the repository's rules, checked as an ordinary test.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;

/// Most lines of a production file, its tests not counted.
const LONGEST_FILE: usize = 450;
/// Our crates by layer: each may depend on layers before its own.
const LAYERS: [&[&str]; 4] = [
    &["polyphony-domain", "polyphony-audit-verify"],
    &["polyphony-platform"],
    &["polyphony-eventstore", "polyphony-bus", "polyphony-providers"],
    &["polyphony-api", "polyphony-workers", "polyphony-projections"],
];
/// The one dependency within a layer: queries are served from the read models.
const WITHIN: (&str, &str) = ("polyphony-api", "polyphony-projections");
/// What the domain must not know.
const IMPURE: [&str; 6] = ["tokio", "sqlx", "async-nats", "reqwest", "axum", "clickhouse"];
/// Folders that may hold SQL.
const SQL: [&str; 4] = ["crates/eventstore/", "crates/projections/", "crates/testkit/", "tests/"];

/// Checks every rule and lists what breaks them.
///
/// # Errors
/// A rule is broken.
pub fn run() -> Result<()> {
    let mut broken = Vec::new();
    dependencies(&mut broken)?;
    sources(&mut broken)?;
    compose(&mut broken)?;
    lock(&mut broken)?;
    if broken.is_empty() { Ok(()) } else { bail!("the repository is untidy:\n  {}", broken.join("\n  ")) }
}

fn dependencies(broken: &mut Vec<String>) -> Result<()> {
    let args = ["metadata", "--format-version", "1", "--no-deps", "--offline"].map(str::to_owned);
    let output = cargo::command(&args).output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata can't be read")?;
    let layer: BTreeMap<&str, usize> =
        LAYERS.iter().enumerate().flat_map(|(layer, names)| names.iter().map(move |name| (*name, layer))).collect();
    for package in metadata["packages"].as_array().context("no packages")? {
        let name = package["name"].as_str().unwrap_or_default();
        let normal =
            package["dependencies"].as_array().into_iter().flatten().filter(|dependency| dependency["kind"].is_null());
        for dependency in normal.filter_map(|dependency| dependency["name"].as_str()) {
            if name == "polyphony-domain" && IMPURE.contains(&dependency) {
                broken.push(format!("{name} must stay pure, but depends on {dependency}"));
            }
            if let (Some(own), Some(other)) = (layer.get(name), layer.get(dependency))
                && other >= own
                && (name, dependency) != WITHIN
            {
                broken.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    Ok(())
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

fn sources(broken: &mut Vec<String>) -> Result<()> {
    let root = cargo::root().canonicalize()?;
    let mut files = Vec::new();
    for folder in ["crates", "xtask", "tests", "bench"] {
        rust_files(&root.join(folder), &mut files)?;
    }
    for file in files {
        let name = file.strip_prefix(&root)?.display().to_string();
        let text = fs::read_to_string(&file)?;
        let is_test = name.contains("/tests/") || name.ends_with("tests.rs") || name.starts_with("tests/");
        if !text.starts_with("//!") {
            broken.push(format!("{name} does not begin by saying what lives in it (//!)"));
        }
        let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        if !is_test && production.lines().count() > LONGEST_FILE {
            broken.push(format!("{name} has more than {LONGEST_FILE} lines: which second idea can move out?"));
        }
        let begins =
            [concat!("pool", ".begin()"), concat!("pool()", ".begin()")].iter().any(|begin| production.contains(begin));
        if begins && !is_test && name != "crates/eventstore/src/store.rs" {
            broken.push(format!(
                "{name} begins a transaction that a cancelled caller leaves open: use Store::begin (ADR 41)"
            ));
        }
        // Written in two parts, so that this file doesn't find itself.
        if !is_test
            && production.contains(concat!("sqlx::", "query"))
            && !SQL.iter().any(|folder| name.starts_with(folder))
        {
            broken.push(format!("{name} holds SQL, which belongs in the event store or the projections"));
        }
    }
    Ok(())
}

/// What `deny.toml` forbids must not be in the lock file, and everything in it comes from the registry.
fn lock(broken: &mut Vec<String>) -> Result<()> {
    let rules = fs::read_to_string(cargo::root().join("deny.toml")).context("deny.toml is missing")?;
    let lock = fs::read_to_string(cargo::root().join("Cargo.lock")).context("Cargo.lock is missing")?;
    for line in rules.lines().filter_map(|line| line.trim().strip_prefix("{ crate = \"")) {
        let name = line.split('"').next().unwrap_or_default();
        if lock.contains(&format!("name = \"{name}\"\n")) {
            broken.push(format!("{name} is in the dependency tree, which deny.toml forbids"));
        }
    }
    for source in lock.lines().filter_map(|line| line.strip_prefix("source = ")) {
        if source != "\"registry+https://github.com/rust-lang/crates.io-index\"" {
            broken.push(format!("a dependency comes from {source}"));
        }
    }
    Ok(())
}

fn compose(broken: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(cargo::root().join("docker-compose.yml")).context("docker-compose.yml is missing")?;
    for image in ["image: postgres:18", "image: nats:2", "image: clickhouse/clickhouse-server:"] {
        if !text.contains(image) {
            broken.push(format!("docker-compose.yml has no `{image}`"));
        }
    }
    if text.contains('\t') {
        broken.push("docker-compose.yml holds a tab".to_owned());
    }
    for line in text.lines().map(str::trim) {
        let secret = ["PASSWORD", "SECRET"].iter().any(|word| line.to_ascii_uppercase().contains(word));
        // `${NAME:?message}` refuses to start without a value; anything else would be a default.
        if secret && line.contains(':') && !line.starts_with('#') && line.contains("${") && !line.contains(":?") {
            broken.push(format!("docker-compose.yml has a default for a secret: {line}"));
        }
        if secret && line.contains("PASSWORD:") && !line.contains("${") {
            broken.push(format!("docker-compose.yml has a literal secret: {line}"));
        }
    }
    let services =
        text.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ") && line.ends_with(':')).count();
    if text.matches("healthcheck:").count() < 3 || services < 3 {
        broken.push("docker-compose.yml lacks health checks".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_keeps_its_rules() {
        super::run().unwrap();
    }
}
