//! The connection to a provider: where it is, how long to wait, how a key is shown.

mod limits;
mod reading;

use std::time::Duration;

use bytes::Bytes;
use polyphony_platform::patience;
use reqwest::{Client, Method, Response, header};
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

use crate::{AdapterStream, ErrorKind, ModelInfo, ProviderError, ProviderKey, Rendered, answer::Converter};

/// Most bytes of an error body that are read.
const LONGEST_ERROR: usize = 64 * 1024;
/// Most bytes of the answer to a short question, such as a list of models.
const LONGEST_REPLY: usize = 8 << 20;

/// How long to wait. There is no limit on a whole answer: a healthy one may take many minutes.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the request to the head of the answer.
    pub head: Duration,
    /// Between two reads of any bytes.
    pub idle: Duration,
    /// Between two pieces of content: comments and pings alone don't keep an answer alive.
    pub content: Duration,
    /// From the finish reason to the end marker.
    pub trailer: Duration,
    /// From the end marker to the end of the body. A body read to its end leaves a connection that can be used again.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: patience!("provider.head", Duration::from_secs(90)),
            idle: patience!("provider.idle", Duration::from_secs(60)),
            content: patience!("provider.content", Duration::from_secs(180)),
            trailer: patience!("provider.trailer", Duration::from_secs(10)),
            drain: Duration::from_millis(250),
        }
    }
}

/// How a key is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyHeader {
    pub(crate) name: &'static str,
    pub(crate) prefix: &'static str,
}

impl KeyHeader {
    pub(crate) const BEARER: Self = Self { name: "authorization", prefix: "Bearer " };
}

/// One host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) base_url: Url,
    pub(crate) client: Client,
    pub(crate) timeouts: Timeouts,
    pub(crate) key_header: KeyHeader,
    /// Headers that every request carries.
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

impl Host {
    pub(crate) fn new(base_url: &Url, key_header: KeyHeader, client: Client) -> Self {
        Self { base_url: base_url.clone(), client, timeouts: Timeouts::default(), key_header, headers: &[] }
    }

    /// The URL of an endpoint; a query of the base URL (an API version) stays.
    fn url(&self, endpoint: &str) -> Url {
        let (path, query) = endpoint.split_once('?').unwrap_or((endpoint, ""));
        let mut url = self.base_url.clone();
        let base = self.base_url.path().trim_end_matches('/');
        // A base URL that has the version already, although the provider's own SDK takes it without.
        let version = path.split_once('/').map(|(version, _)| version);
        let base = version.and_then(|version| base.strip_suffix(version)?.strip_suffix('/')).unwrap_or(base);
        url.set_path(&format!("{base}/{path}"));
        if !query.is_empty() {
            let query = [self.base_url.query().unwrap_or_default(), query].join("&");
            url.set_query(Some(query.trim_start_matches('&')));
        }
        url
    }

    /// Sends a request and waits for the head of a good answer.
    async fn send(
        &self,
        method: Method,
        endpoint: &str,
        body: Option<(Bytes, &str)>,
        key: Option<&ProviderKey>,
    ) -> Result<Response, ProviderError> {
        let mut request = self.client.request(method, self.url(endpoint));
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        if let Some((body, accept)) = body {
            request =
                request.header(header::CONTENT_TYPE, "application/json").header(header::ACCEPT, accept).body(body);
        }
        if let Some(key) = key {
            let value = key.header(self.key_header.prefix).ok_or_else(|| {
                ProviderError::new(ErrorKind::InvalidKey, "the key has characters that no key can have")
            })?;
            request = request.header(self.key_header.name, value);
        }
        let response = timeout(self.timeouts.head, request.send())
            .await
            .map_err(|_| ProviderError::of(ErrorKind::Timeout))?
            .map_err(|error| ProviderError::transport(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let headers = response.headers().clone();
        // The status says most already, so an error body that breaks off or is too long is left.
        let body = bounded(response, LONGEST_ERROR, self.timeouts.idle).await.unwrap_or_default();
        Err(ProviderError::http(status, &headers, &body))
    }

    /// Asks for an answer.
    pub(crate) async fn stream(
        &self,
        rendered: Rendered,
        key: Option<&ProviderKey>,
        converter: Converter,
    ) -> Result<AdapterStream, ProviderError> {
        let body = Some((rendered.body, "text/event-stream"));
        let response = self.send(Method::POST, &rendered.endpoint, body, key).await?;
        Ok(reading::read(response, converter, self.timeouts))
    }

    /// Asks a short question.
    pub(crate) async fn get(&self, endpoint: &str, key: Option<&ProviderKey>) -> Result<Vec<u8>, ProviderError> {
        let response = self.send(Method::GET, endpoint, None, key).await?;
        bounded(response, LONGEST_REPLY, self.timeouts.idle).await
    }

    /// Asks a short question that has a body.
    pub(crate) async fn post(
        &self,
        endpoint: &str,
        body: &Value,
        key: Option<&ProviderKey>,
    ) -> Result<Value, ProviderError> {
        let body = Some((Bytes::from(body.to_string()), "application/json"));
        let response = self.send(Method::POST, endpoint, body, key).await?;
        let reply = bounded(response, LONGEST_REPLY, self.timeouts.idle).await?;
        serde_json::from_slice(&reply).map_err(|_| ProviderError::of(ErrorKind::Protocol))
    }

    /// Asks for the models.
    pub(crate) async fn models(
        &self,
        endpoint: &str,
        key: Option<&ProviderKey>,
    ) -> Result<Vec<ModelInfo>, ProviderError> {
        crate::listing::models(&self.get(endpoint, key).await?).ok_or_else(|| ProviderError::of(ErrorKind::Protocol))
    }
}

/// Reads a body up to `limit` bytes, in `wait` at most.
async fn bounded(mut response: Response, limit: usize, wait: Duration) -> Result<Vec<u8>, ProviderError> {
    let read = async {
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(|error| ProviderError::transport(&error))? {
            body.extend_from_slice(&bytes);
            if body.len() > limit {
                return Err(ProviderError::of(ErrorKind::ResponseTooLarge));
            }
        }
        Ok(body)
    };
    timeout(wait, read).await.unwrap_or_else(|_| Err(ProviderError::of(ErrorKind::Timeout)))
}
