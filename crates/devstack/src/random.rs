//! Random words for passwords, names and ports.

use std::{fs::File, io::Read as _};

use anyhow::{Context as _, Result};

/// `bytes` random bytes of the operating system as hex digits.
///
/// # Errors
/// When `/dev/urandom` can't be read.
pub fn hex(bytes: usize) -> Result<String> {
    let mut buffer = vec![0; bytes];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut buffer)).context("reading /dev/urandom")?;
    Ok(hex::encode(buffer))
}

/// A random number.
///
/// # Errors
/// When `/dev/urandom` can't be read.
pub fn number() -> Result<u32> {
    let mut buffer = [0; 4];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut buffer)).context("reading /dev/urandom")?;
    Ok(u32::from_ne_bytes(buffer))
}
