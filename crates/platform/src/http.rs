//! Outbound HTTP with a guard against requests to places that a caller should not reach through us.
//!
//! Three checks, since each alone has a hole: the parsed URL (literal addresses never reach a resolver), the
//! resolver's answer at connect time (a name may resolve differently a second later), and no redirects at all.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use url::{Host, Url};

use crate::config::{Config, items};

/// Time to connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Installs ring as the one crypto provider of the process. The first call wins.
pub fn install_crypto_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A URL that must not be called.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EgressError {
    /// Only `https`, and `http` where the operator allows it.
    #[error("only https is allowed here")]
    Scheme,
    /// User and password don't belong into it.
    #[error("a user name or password in the URL is not allowed")]
    UserInfo,
    /// It has no host.
    #[error("the URL has no host")]
    NoHost,
    /// It leads into a private network, or to this machine.
    #[error("the address is not a public one")]
    Private,
    /// Only the standard port, unless the operator allows another.
    #[error("the port is not allowed")]
    Port,
}

/// What outbound calls may reach.
#[derive(Clone, Debug, Default)]
pub struct EgressPolicy {
    allow: HashSet<String>,
    allowed_hosts: HashSet<String>,
}

impl EgressPolicy {
    /// The operator's list, and the hosts of the providers that the operator configured.
    pub fn from_config(config: &Config) -> Self {
        let mut policy = Self::default();
        for entry in items(&config.egress.allow) {
            policy.allow(entry);
        }
        for url in config.providers.values().filter_map(|provider| provider.base_url.as_ref()) {
            policy.allow_url(url);
        }
        policy
    }

    /// Allows the host and port of a URL that the operator trusts.
    pub fn allow_url(&mut self, url: &Url) {
        if let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) {
            self.allow(&format!("{host}:{port}"));
        }
    }

    fn allow(&mut self, entry: &str) {
        let entry = entry.to_ascii_lowercase();
        if let Some((host, _)) = entry.rsplit_once(':') {
            self.allowed_hosts.insert(host.trim_matches(['[', ']']).to_owned());
        }
        self.allow.insert(entry);
    }

    /// Checks a URL before it is called.
    ///
    /// # Errors
    /// [`EgressError`] says what is wrong with it.
    pub fn check_url(&self, url: &Url) -> Result<(), EgressError> {
        let host = url.host().ok_or(EgressError::NoHost)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EgressError::UserInfo);
        }
        let port = url.port_or_known_default().ok_or(EgressError::Port)?;
        if matches!(url.scheme(), "http" | "https") && self.allow.contains(&format!("{host}:{port}")) {
            return Ok(());
        }
        if url.scheme() != "https" {
            return Err(EgressError::Scheme);
        }
        match host {
            Host::Ipv4(address) if !is_public(address.into()) => return Err(EgressError::Private),
            Host::Ipv6(address) if !is_public(address.into()) => return Err(EgressError::Private),
            Host::Domain(name) => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                if name == "localhost" || name.ends_with(".localhost") || !name.contains('.') {
                    return Err(EgressError::Private);
                }
            }
            Host::Ipv4(_) | Host::Ipv6(_) => {}
        }
        if port == 443 { Ok(()) } else { Err(EgressError::Port) }
    }
}

/// Whether an address belongs to the public internet, IPv4 hidden in IPv6 included.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b)) // carrier-grade NAT, RFC 6598
        || (a == 192 && b == 0 && c == 0) // protocol assignments, RFC 6890
        || (a == 192 && b == 88 && c == 99) // 6to4 relay, RFC 7526
        || (a == 198 && (b == 18 || b == 19))) // benchmarks, RFC 2544
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| is_public_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low), // NAT64, RFC 6052
        [0x2002, high, low, ..] => embedded(high, low),               // 6to4, RFC 3056
        [0, 0, 0, 0, 0, 0, _, _] => false,                            // unspecified, loopback, IPv4-compatible
        [0x2001, 0, ..] => false,                                     // Teredo
        [0x2001, 0xdb8, ..] => false,                                 // documentation
        // Only global unicast is public: it excludes unique local, link local, multicast and NAT64's local prefix.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Resolves names and leaves out what is not public, unless the operator allows the host.
struct GuardedResolver(Arc<EgressPolicy>);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_ascii_lowercase();
            let trusted = policy.allowed_hosts.contains(&host);
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| trusted || is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(Box::new(EgressError::Private) as Box<dyn std::error::Error + Send + Sync>);
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// The client for all outbound calls: guarded resolver, no redirects, no proxies, no automatic decompression.
///
/// Callers check literal addresses with [`EgressPolicy::check_url`] before each call to a URL that a user gave.
///
/// # Errors
/// The TLS roots can't be loaded.
pub fn guarded_client(policy: Arc<EgressPolicy>) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .dns_resolver(Arc::new(GuardedResolver(policy)))
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        .pool_max_idle_per_host(256)
        .pool_idle_timeout(Duration::from_secs(60))
        .user_agent(concat!("polyphony/", env!("CARGO_PKG_VERSION")))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &EgressPolicy, url: &str) -> Result<(), EgressError> {
        policy.check_url(&Url::parse(url).unwrap())
    }

    #[test]
    fn private_addresses_are_refused_however_they_are_written() {
        let policy = EgressPolicy::default();
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "0",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "169.254.169.254",
            "[fd00:ec2::254]",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.0.1",
            "[fe80::1]",
            "localhost",
            "localhost.",
            "intranet",
            "a.localhost",
            "255.255.255.255",
            "224.0.0.1",
            "[ff02::1]",
        ] {
            assert_eq!(check(&policy, &format!("https://{host}/v1")), Err(EgressError::Private), "{host}");
        }
    }

    #[test]
    fn only_https_on_its_port_and_without_credentials() {
        let policy = EgressPolicy::default();
        assert_eq!(check(&policy, "https://api.openai.com/v1"), Ok(()));
        assert_eq!(check(&policy, "https://1.1.1.1/"), Ok(()));
        assert_eq!(check(&policy, "http://api.openai.com/v1"), Err(EgressError::Scheme));
        assert_eq!(check(&policy, "https://a:b@api.openai.com/"), Err(EgressError::UserInfo));
        for port in [22, 25, 4222, 5432, 6379, 8123] {
            assert_eq!(check(&policy, &format!("https://api.openai.com:{port}/")), Err(EgressError::Port));
        }
        // The same parsed URL is judged and dialled, so a trick in the text changes nothing.
        assert_eq!(check(&policy, "https://allowed.example\\@127.0.0.1/"), Ok(()));
        assert_eq!(Url::parse("https://allowed.example\\@127.0.0.1/").unwrap().host_str(), Some("allowed.example"));
        assert_eq!(check(&policy, "https://１２７.0.0.1/"), Err(EgressError::Private));
    }

    #[test]
    fn the_operator_can_allow_a_private_host() {
        let mut policy = EgressPolicy::default();
        policy.allow("127.0.0.1:11434");
        policy.allow_url(&Url::parse("http://ollama:11434/v1").unwrap());
        assert_eq!(check(&policy, "http://127.0.0.1:11434/v1"), Ok(()));
        assert_eq!(check(&policy, "http://ollama:11434/"), Ok(()));
        assert_eq!(check(&policy, "http://127.0.0.1:11435/"), Err(EgressError::Scheme));
    }
}
