//! Rate limits of the doors: registering, signing in, refreshing. Per node and in memory.

use std::{hash::Hash, net::IpAddr, num::NonZeroU32, time::Duration};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};

use crate::error::ApiError;

/// Keys held before the idle ones are dropped.
const CAPACITY: usize = 100_000;

/// A limit on something that is named by `K`.
pub struct Limit<K: Hash + Eq + Clone>(Option<DefaultKeyedRateLimiter<K>>);

impl<K: Hash + Eq + Clone> Limit<K> {
    /// `burst` at once, then one each `period`; none at all when relaxed.
    fn new(burst: u32, period: Duration, relaxed: bool) -> Self {
        let quota =
            Quota::with_period(period).zip(NonZeroU32::new(burst)).map(|(quota, burst)| quota.allow_burst(burst));
        Self(quota.filter(|_| !relaxed).map(RateLimiter::keyed))
    }

    /// Counts one.
    pub fn check(&self, key: &K) -> Result<(), ApiError> {
        let Some(limiter) = &self.0 else { return Ok(()) };
        if limiter.len() > CAPACITY {
            limiter.retain_recent();
        }
        limiter
            .check_key(key)
            .map_err(|refused| ApiError::rate_limited(refused.wait_time_from(DefaultClock::default().now())))
    }
}

/// All limits.
pub struct Limits {
    /// Registering and signing in, by network.
    pub door: Limit<Option<IpAddr>>,
    /// Signing in, by account.
    pub account: Limit<[u8; 32]>,
}

impl Limits {
    pub fn new(relaxed: bool) -> Self {
        Self {
            door: Limit::new(100, Duration::from_millis(500), relaxed),
            account: Limit::new(10, Duration::from_secs(30), relaxed),
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
