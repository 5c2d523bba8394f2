//! `cargo xtask codegen`: the generated files, written by the very tests that keep them fresh.

use anyhow::Result;

use crate::cargo;

/// Writes them again.
///
/// # Errors
/// A test failed for another reason.
pub fn run() -> Result<()> {
    for package in ["polyphony-bus", "polyphony-api", "polyphony-domain", "polyphony-providers"] {
        let args = ["test", "--quiet", "--package", package].map(str::to_owned);
        cargo::run("a generator", &args, &[("UPDATE_GENERATED", "1")])?;
    }
    Ok(())
}
