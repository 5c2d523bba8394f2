//! `cargo xtask test`: formatting, lints, then every test against a stack of its own.

use std::{fs, path::PathBuf, process::Stdio};

use anyhow::{Context, Result};
use polyphony_devstack::{Deps, Emulators, Sdks, Stack, StackOptions, progress};

use crate::cargo;

/// What the tests run can be made to fail on purpose. Everything is built with it, so that nothing is built twice.
const FAILPOINTS: &str = "--features=polyphony/failpoints";

fn has(component: &str) -> bool {
    let probe = [component, "--version"].map(str::to_owned);
    cargo::command(&probe).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// Builds everything that is tested or that tests, and returns the folder of the programs.
///
/// # Errors
/// The build failed; cargo has said why.
pub fn build() -> Result<PathBuf> {
    // With the very selection of the tests: another one would give some crates other features, and build them twice.
    cargo::run("the build", &words(&format!("build --workspace --all-targets {FAILPOINTS}")), &[])?;
    cargo::programs(false)
}

/// Runs everything. The stack goes with this process, however it ends.
///
/// # Errors
/// Something failed; it has said what.
pub fn run(args: &[String]) -> Result<()> {
    if has("fmt") {
        cargo::run("cargo fmt --check", &words("fmt --all --check"), &[])?;
    } else {
        progress("rustfmt is not installed: formatting is not checked");
    }
    if has("clippy") {
        cargo::run(
            "clippy",
            &words(&format!("clippy --workspace --all-targets {FAILPOINTS} --quiet -- -D warnings")),
            &[],
        )?;
    } else {
        progress("clippy is not installed: lints are not checked");
    }
    let programs = build()?;
    let deps = Deps::install()?;
    // The tests find them there; a machine that can't have them is told now, and not by a test in the middle.
    Emulators::install()?;
    Sdks::install()?;
    progress("starting a stack for the tests");
    let mut stack = Stack::start(&deps, StackOptions::temporary(&programs.join("chdb-server"))?)?;
    let endpoints = stack.folder().join("endpoints.json");
    fs::write(&endpoints, serde_json::to_string(stack.endpoints())?)?;
    let (endpoints, programs) = (
        endpoints.to_str().context("the folder's name is not UTF-8")?,
        programs.to_str().context("the folder's name is not UTF-8")?,
    );
    let envs = [("POLYPHONY_TEST_STACK", endpoints), ("POLYPHONY_TEST_BINARIES", programs)];
    // All that fails is told at once.
    let all: Vec<String> = words(&format!("test --workspace {FAILPOINTS} --no-fail-fast"))
        .into_iter()
        .chain(args.iter().cloned())
        .collect();
    let tested = cargo::run("a test", &all, &envs);
    stack.stop()?;
    tested
}
