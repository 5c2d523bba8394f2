//! Limits of the doors: registering, signing in, refreshing. Per node and in memory.
//!
//! A rate limit counts every request; [`attempts`] counts failures. What a limit allowed is told in the answer's
//! `RateLimit` headers, and a refusal is a 429 with `Retry-After`.

mod attempts;
mod rate;

use std::{net::IpAddr, time::Duration};

use polyphony_domain::ids::AccountId;

pub use self::{
    attempts::Attempts,
    rate::{ALLOWANCE, Limit},
};

/// Who is counted when signing in fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guesser {
    /// Everybody who isn't known to the account with this blind index of its address.
    Account([u8; 32]),
    /// A browser that has signed in to this account before.
    Device([u8; 32]),
    /// Everybody in a network.
    Network(Option<IpAddr>),
}

/// All limits.
pub struct Limits {
    /// Registering, signing in and refreshing, by network.
    pub door: Limit<Option<IpAddr>>,
    /// The same, by account or refresh token.
    pub account: Limit<[u8; 32]>,
    /// Trying keys at their providers, by account.
    pub key_checks: Limit<AccountId>,
    /// Failures to sign in, by account or device.
    pub guesses: Attempts<Guesser>,
    /// Failures to sign in, by network. People share networks, so it takes more.
    pub strangers: Attempts<Guesser>,
}

impl Limits {
    pub fn new(relaxed: bool) -> Self {
        Self {
            door: Limit::new("door", 100, Duration::from_millis(500), relaxed),
            account: Limit::new("account", 30, Duration::from_secs(2), relaxed),
            key_checks: Limit::new("key-checks", 20, Duration::from_secs(6), relaxed),
            guesses: Attempts::new(10, relaxed),
            strangers: Attempts::new(60, relaxed),
        }
    }
}

/// The network of an address: an IPv6 user owns a /64, so single addresses mean nothing.
pub fn network(ip: Option<IpAddr>) -> Option<IpAddr> {
    ip.map(|ip| match ip {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
        ip => ip,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_a_64() {
        let network_of = |text: &str| network(Some(text.parse().unwrap()));
        assert_eq!(network_of("2001:db8::1"), network_of("2001:db8::ffff:1"));
        assert_ne!(network_of("2001:db8::1"), network_of("2001:db8:0:1::1"));
        assert_ne!(network_of("192.0.2.1"), network_of("192.0.2.2"));
    }
}
