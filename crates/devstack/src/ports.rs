//! Free ports that stay ours, also while their server is down.
//!
//! They lie below the range from which systems take the local ports of outgoing connections: a client that reconnects
//! in a loop to a stopped server on such a port may otherwise connect to itself and keep the server from coming back.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
};

use anyhow::{Context as _, Result, bail};

use crate::random;

const FIRST: u16 = 15_000;
const LAST: u16 = 32_000;
const TRIES: u32 = 2_000;

/// A port on 127.0.0.1 that no other process using this crate is given while this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _reserved: Option<File>,
}

impl Port {
    /// Takes any free port.
    ///
    /// # Errors
    /// When none is found, or the folder of reservations can't be written.
    pub fn free() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("polyphony-ports-{}", rustix::process::geteuid().as_raw()));
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let width = u32::from(LAST - FIRST);
        let start = random::number()? % width;
        for offset in 0..TRIES.min(width) {
            let number = FIRST + u16::try_from((start + offset) % width)?;
            let path = folder.join(number.to_string());
            let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
            if file.try_lock().is_ok() && is_free(number) {
                return Ok(Self { number, _reserved: Some(file) });
            }
        }
        bail!("no free port between {FIRST} and {LAST}");
    }

    /// A port that the caller chose; nothing is reserved.
    pub const fn fixed(number: u16) -> Self {
        Self { number, _reserved: None }
    }

    /// Its number.
    pub const fn number(&self) -> u16 {
        self.number
    }
}

/// Whether something could listen on this loopback port now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ports_differ_and_can_be_listened_on() {
        let one = Port::free().unwrap();
        let two = Port::free().unwrap();
        assert_ne!(one.number(), two.number());
        assert!(is_free(one.number()) && is_free(two.number()));
    }

    #[test]
    fn taken_port_is_not_free() {
        let port = Port::free().unwrap();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).unwrap();
        assert!(!is_free(port.number()));
    }
}
