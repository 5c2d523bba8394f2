//! Configuration: the documented default file, then a file, then the environment. One struct per section.

use std::{collections::BTreeMap, env, net::SocketAddr};

use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

/// The default file, which is also its documentation.
pub const DEFAULT: &str = include_str!("../../../config/default.toml");

/// The configuration can't be used.
#[derive(Debug, Error)]
#[error("the configuration can't be used: {0}")]
pub struct ConfigError(String);

/// Everything that can be configured.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Listeners.
    pub http: HttpConfig,
    /// Postgres.
    pub database: DatabaseConfig,
    /// NATS.
    pub nats: NatsConfig,
    /// ClickHouse.
    pub clickhouse: ClickhouseConfig,
    /// Completion worker.
    pub worker: WorkerConfig,
    /// Projector.
    pub projector: ProjectorConfig,
    /// Relay.
    pub relay: RelayConfig,
    /// Tokens.
    pub auth: AuthConfig,
    /// Streams to clients.
    pub stream: StreamConfig,
    /// Logs.
    pub log: LogConfig,
    /// Mail.
    pub mail: MailConfig,
    /// Outbound calls.
    pub egress: EgressConfig,
    /// Administrator.
    pub admin: AdminConfig,
    /// Limits.
    pub limits: LimitsConfig,
    /// What a start refuses.
    pub safety: SafetyConfig,
    /// Providers by name.
    #[serde(default)]
    pub providers: BTreeMap<String, ProviderConfig>,
}

/// Listeners.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Main listener.
    pub addr: SocketAddr,
    /// Listener of `/metrics`.
    pub metrics_addr: SocketAddr,
    /// Base of every link that leaves the product.
    pub public_url: Url,
    /// Most bytes of a JSON body.
    pub body_limit_bytes: usize,
    /// Most bytes of one message.
    pub message_limit_bytes: usize,
    /// How long open requests may finish after the first signal.
    pub drain_seconds: u32,
}

/// Postgres.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Connection URL.
    pub url: String,
    /// Most connections of this process.
    pub max_connections: u32,
    /// Longest wait for a connection.
    pub acquire_timeout_ms: u64,
    /// Longest run of a statement.
    pub statement_timeout_ms: u64,
}

/// NATS.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsConfig {
    /// Server URL, or a comma list of them.
    pub url: String,
}

/// ClickHouse.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClickhouseConfig {
    /// HTTP interface; user, password and `?database=` may stand in it.
    pub url: Url,
    /// Database.
    pub database: String,
}

/// Completion worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    /// Answers in the making at a time.
    pub slots: u32,
    /// Length of a lease.
    pub lease_seconds: u32,
    /// Time between renewals.
    pub heartbeat_seconds: u32,
    /// How long running answers may finish after the first signal.
    pub drain_seconds: u32,
    /// JetStream delivers a job again after this silence.
    pub ack_wait_seconds: u32,
    /// Deliveries of one job message.
    pub max_deliver: u32,
}

/// Projector.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectorConfig {
    /// Most events in one transaction.
    pub batch: u32,
    /// Time between looks into the log when no message comes.
    pub poll_ms: u64,
}

/// Relay.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayConfig {
    /// Most events published before the checkpoint moves.
    pub batch: u32,
    /// Time between looks into the log when nobody pokes.
    pub poll_ms: u64,
    /// How long a deleted session can be restored.
    pub undo_seconds: u64,
    /// Time after a poke in which more events may come before they are published together.
    pub gather_ms: u64,
}

/// Tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// Life of an access token.
    pub access_minutes: u32,
    /// Life of a family of refresh tokens.
    pub refresh_days: u32,
}

/// Streams to clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    /// Time between comment lines.
    pub heartbeat_seconds: u32,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// Logs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// Filter in the syntax of `tracing`'s `EnvFilter`.
    pub filter: String,
}

/// Mail.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailConfig {
    /// `smtp://…` or `file:///dir`; empty for none.
    pub url: String,
}

/// Outbound calls.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressConfig {
    /// Comma list of `host:port`.
    pub allow: String,
    /// Whether a model server on this very machine (Ollama, llama.cpp) is looked for at the start, and served.
    pub discover_local: bool,
}

/// Administrator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// This account becomes admin when it registers; empty for none.
    pub email: String,
}

/// Limits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Lifts rate limits, quotas and seats.
    pub relaxed: bool,
    /// Answers of one account that may be in the making at a time.
    pub in_flight: u32,
    /// Answers of one account that may wait for that.
    pub waiting: u32,
    /// Jobs of all accounts that no worker has begun.
    pub unstarted: u32,
}

/// What a start refuses.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SafetyConfig {
    /// Starts also on a database that may lose what it has committed.
    pub allow_volatile: bool,
}

/// A provider.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderConfig {
    /// `compatible` for a host that no preset knows.
    pub kind: Option<String>,
    /// Base URL.
    pub base_url: Option<Url>,
    /// Comma list of model names.
    pub models: String,
    /// Those of them that see pictures. Where it isn't said, pictures are sent, and the host may refuse them.
    pub vision: Option<String>,
    /// The operator's own key.
    #[serde(skip_serializing)]
    pub api_key: Option<String>,
}

impl std::fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.api_key.as_ref().map(|_| "…");
        f.debug_struct("ProviderConfig")
            .field("kind", &self.kind)
            .field("base_url", &self.base_url.as_ref().map(Url::as_str))
            .field("models", &self.models)
            .field("vision", &self.vision)
            .field("api_key", &key)
            .finish()
    }
}

/// The items of a comma list, trimmed, without empty ones.
pub fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Variables of the contract that don't follow `SECTION__NAME`.
const FLAT: [(&str, &str); 6] = [
    ("DATABASE_URL", "database.url"),
    ("NATS_URL", "nats.url"),
    ("CLICKHOUSE_URL", "clickhouse.url"),
    ("POLYPHONY_HTTP_ADDR", "http.addr"),
    ("POLYPHONY_METRICS_ADDR", "http.metrics_addr"),
    ("POLYPHONY_PUBLIC_URL", "http.public_url"),
];

/// Variables with our prefix that are no configuration.
const OTHERS: [&str; 7] = ["config", "secrets", "secrets_file", "state_dir", "failpoints", "mutation", "durations"];

impl Config {
    /// Reads the default file, the file that `POLYPHONY_CONFIG` names, and the environment.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting and where it came from.
    pub fn load() -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULT));
        if let Ok(path) = env::var("POLYPHONY_CONFIG") {
            figment = figment.merge(Toml::file_exact(path));
        }
        let nested = Env::prefixed("POLYPHONY_").split("__").lowercase(true).filter(|name| {
            let name = name.as_str().to_ascii_lowercase();
            !OTHERS.contains(&name.as_str())
                && !FLAT.iter().any(|(flat, _)| flat.strip_prefix("POLYPHONY_").is_some_and(|flat| name == flat.to_lowercase()))
                // Sign-in by OpenID Connect is named in the contract and not built yet: its settings are no mistake.
                && !name.starts_with("oauth__")
                // The test kit's own variables.
                && !name.starts_with("test_")
        });
        figment = figment.merge(nested);
        for (variable, key) in FLAT {
            if let Ok(value) = env::var(variable) {
                figment = figment.merge(Serialized::default(key, value));
            }
        }
        let mut config: Self = figment.extract().map_err(|error| ConfigError(error.to_string()))?;
        let database = config.clickhouse.url.query_pairs().find(|(key, _)| key == "database");
        if let Some(database) = database.map(|(_, value)| value.into_owned()) {
            config.clickhouse.database = database;
            config.clickhouse.url.set_query(None);
        }
        Ok(config)
    }

    /// The configuration without anything secret, for people.
    ///
    /// # Errors
    /// [`ConfigError`] when it can't be written as JSON, which a test rules out.
    pub fn redacted(&self) -> Result<String, ConfigError> {
        let mut copy = self.clone();
        if let Ok(mut url) = Url::parse(&copy.database.url) {
            let _ = url.set_password(url.password().map(|_| "…"));
            copy.database.url = url.to_string();
        }
        if let Ok(mut url) = Url::parse(&copy.nats.url) {
            let _ = url.set_password(url.password().map(|_| "…"));
            copy.nats.url = url.to_string();
        }
        let password = copy.clickhouse.url.password().map(|_| "…");
        let _ = copy.clickhouse.url.set_password(password);
        serde_json::to_string_pretty(&copy).map_err(|error| ConfigError(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_file_is_a_whole_configuration() {
        let config: Config = Figment::from(Toml::string(DEFAULT)).extract().unwrap();
        assert_eq!(config.http.addr.port(), 8080);
        assert!(config.redacted().unwrap().contains("max_connections"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut config: Config = Figment::from(Toml::string(DEFAULT)).extract().unwrap();
        config.database.url = "postgres://user:hunter2@db/x".into();
        let provider = ProviderConfig { api_key: Some("sk-hunter2".into()), ..ProviderConfig::default() };
        config.providers.insert("lab".into(), provider.clone());
        assert!(!config.redacted().unwrap().contains("hunter2"));
        assert!(!format!("{provider:?}").contains("hunter2"));
    }

    #[test]
    fn unknown_settings_are_refused() {
        let figment = Figment::from(Toml::string(DEFAULT)).merge(Toml::string("[worker]\nslotz = 1"));
        assert!(figment.extract::<Config>().unwrap_err().to_string().contains("slotz"));
    }
}
