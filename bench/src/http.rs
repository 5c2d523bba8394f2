//! A keep-alive HTTP/1.1 connection without anything that costs time.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// One connection, opened again when the other side has closed it.
pub struct Http {
    /// `host:port`.
    host: String,
    token: Option<String>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Http {
    /// A connection to `host:port`, with a bearer token.
    pub const fn new(host: String, token: Option<String>) -> Self {
        Self { host, token, connection: None }
    }

    /// Connects, if it isn't connected.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn connect(&mut self) -> Result<&mut SendRequest<Full<Bytes>>> {
        let usable = match &mut self.connection {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            let stream = TcpStream::connect(&self.host).await?;
            stream.set_nodelay(true)?;
            let (connection, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(driver);
            self.connection = Some(connection);
        }
        self.connection.as_mut().context("just connected")
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// The connection broke, or the status isn't a success.
    pub async fn post(&mut self, path: &str, body: &Value) -> Result<Response<Incoming>> {
        let mut request = Request::post(path)
            .header("host", &self.host)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(serde_json::to_vec(body)?)))?;
        if let Some(token) = &self.token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
        }
        let response = self.connect().await?.send_request(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        bail!("{status}: {}", String::from_utf8_lossy(&body).chars().take(200).collect::<String>())
    }

    /// Posts JSON and reads the answer as JSON.
    ///
    /// # Errors
    /// As [`Self::post`], or the answer is no JSON.
    pub async fn post_json(&mut self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.post(path, body).await?.into_body().collect().await?.to_bytes();
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Forgets the connection: after an error it may still hold the rest of an answer.
    pub fn reset(&mut self) {
        self.connection = None;
    }
}
