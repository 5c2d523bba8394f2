//! `cargo xtask faults`: the long run of faults, on a build that can fail on purpose.

use anyhow::{Context, Result, bail};
use polyphony_devstack::progress;

use crate::{cargo, test};

/// Builds, and runs `faults` with these arguments.
///
/// # Errors
/// The build failed, or a promise was broken.
pub fn run(args: &[String]) -> Result<()> {
    progress("building");
    let programs = test::build()?;
    let folder = programs.to_str().context("the folder's name is not UTF-8")?;
    let status = std::process::Command::new(programs.join("faults"))
        .args(args)
        .current_dir(cargo::root())
        .env("POLYPHONY_TEST_BINARIES", folder)
        .status()
        .context("the run can't be started")?;
    if status.success() { Ok(()) } else { bail!("a promise was broken") }
}
