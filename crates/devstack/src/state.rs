//! Small files of a state folder: passwords and notes about what runs.

use std::{
    fs::{self, File, Permissions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::{Context as _, Result};

/// Writes a file that only we can read, all of it or nothing.
///
/// # Errors
/// When the folder can't be written.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    let write = || -> std::io::Result<()> {
        let mut file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// The content of a private file; made by `make` when it isn't there.
///
/// # Errors
/// When it can neither be read nor made.
pub fn private_or(path: &Path, make: impl FnOnce() -> Result<String>) -> Result<String> {
    if let Ok(text) = fs::read_to_string(path) {
        return Ok(text);
    }
    let text = make()?;
    write_private(path, &text)?;
    Ok(text)
}
