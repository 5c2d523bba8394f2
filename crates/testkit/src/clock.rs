//! A wall clock that is wrong, and may step, for single processes. Linux only: a few lines of C are preloaded into them,
//! which every machine that links Rust can compile.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::{binary, ok, unique};

const SOURCE: &str = include_str!("clock.c");

/// The clock of all processes that were started with its [`Clock::envs`].
#[derive(Debug)]
pub struct Clock {
    file: File,
    path: PathBuf,
}

impl Clock {
    /// A clock that is before the machine's by so many seconds, or behind it.
    ///
    /// # Panics
    /// When there is no C compiler, or no room for a file.
    pub fn shifted(seconds: i64) -> Self {
        let path = std::env::temp_dir().join(unique("polyphony_clock"));
        let file = ok(File::create(&path).with_context(|| format!("creating {}", path.display())));
        let clock = Self { file, path };
        clock.shift(seconds);
        clock
    }

    /// Has it step.
    ///
    /// # Panics
    /// When its file can't be written.
    pub fn shift(&self, seconds: i64) {
        ok(self.file.write_all_at(&seconds.to_ne_bytes(), 0).context("shifting a clock"));
    }

    /// The environment of a process that goes by it.
    ///
    /// # Panics
    /// When there is no C compiler.
    pub fn envs(&self) -> [(&str, &str); 2] {
        let text = |path: &'static PathBuf| path.to_str().unwrap_or_default();
        [("LD_PRELOAD", text(library())), ("CLOCK_SHIFT_FILE", self.path.to_str().unwrap_or_default())]
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        // Who has it open keeps it.
        let _ = fs::remove_file(&self.path);
    }
}

fn library() -> &'static PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| ok(compile()))
}

/// Compiled once, beside the programs that it is preloaded into.
fn compile() -> Result<PathBuf> {
    let name = format!("clock-{}", &hex::encode(Sha256::digest(SOURCE))[..12]);
    let library = binary("polyphony").with_file_name(format!("{name}.so"));
    if library.exists() {
        return Ok(library);
    }
    let [source, unfinished] = ["c", "so"].map(|kind| library.with_file_name(format!("{}.{kind}", unique(&name))));
    fs::write(&source, SOURCE)?;
    let output = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&unfinished).arg(&source).output();
    let output = output.context("starting the C compiler")?;
    fs::remove_file(&source)?;
    if !output.status.success() {
        bail!("the C compiler failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    fs::rename(&unfinished, &library)?;
    Ok(library)
}
