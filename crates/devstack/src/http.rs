//! A few lines of HTTP client, enough to ask a server on loopback whether it is ready, or to run a statement there.

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

/// The status and the body that `POST {url}` with this body is answered with. Only `http://host:port` without user.
///
/// # Errors
/// When nothing listens there or the answer isn't HTTP.
pub fn post(url: &str, body: &str) -> Result<(u16, String)> {
    let host = url.strip_prefix("http://").context("not an http URL")?.trim_end_matches('/');
    let mut stream = TcpStream::connect(host).with_context(|| format!("connecting to {host}"))?;
    stream.set_read_timeout(Some(PATIENCE * 6))?;
    let length = body.len();
    write!(stream, "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.get(9..12).context("not an HTTP answer")?.parse()?;
    let body = answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned());
    Ok((status, body))
}
