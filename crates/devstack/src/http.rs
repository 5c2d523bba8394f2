//! One-line HTTP client, enough to ask a server on loopback whether it is ready.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};

const PATIENCE: Duration = Duration::from_secs(5);

/// The status code of `GET http://127.0.0.1:{port}{path}`.
///
/// # Errors
/// When nothing listens there or the answer isn't HTTP.
pub fn get_status(port: u16, path: &str) -> Result<u16> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let text = str::from_utf8(&head)?;
    let code = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).context("not an HTTP answer")?;
    Ok(code.parse()?)
}
