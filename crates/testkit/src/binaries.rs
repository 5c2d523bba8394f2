//! The workspace's programs, built when nobody has.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};

use crate::{BINARIES_VARIABLE, ok};

/// The path of a program of this workspace, such as `polyphony`.
///
/// # Panics
/// When it can't be built.
pub fn binary(name: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(name) {
        return path.clone();
    }
    let path = ok(find_or_build(name));
    built.insert(name.to_owned(), path.clone());
    path
}

fn find_or_build(name: &str) -> Result<PathBuf> {
    if let Some(folder) = env::var_os(BINARIES_VARIABLE) {
        let path = PathBuf::from(folder).join(name);
        if path.exists() {
            return Ok(path);
        }
    }
    // …/target/debug/deps/some_test-0123456789abcdef
    let test = env::current_exe()?;
    let folder = test.ancestors().nth(2).context("a test binary lies in target/<profile>/deps")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()).context("no profile in the path")? {
        "debug" => "dev",
        other => other,
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--package", name, "--bin", name, "--profile", profile, "--target-dir"])
        .arg(folder.parent().context("no target folder")?)
        // What the tests run can be made to fail on purpose.
        .args((name == "polyphony").then_some("--features=failpoints"))
        .current_dir(root)
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        bail!("cargo could not build {name}:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(folder.join(name))
}
