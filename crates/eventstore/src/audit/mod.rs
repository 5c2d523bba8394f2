//! The tamper-evident chain over the log: made by the relay's leader, checked and proven by whoever wants to.
//!
//! What a leaf, a root and a signature are is in `polyphony-audit-verify`, which knows no database; here is where
//! they are kept. A batch of leaves goes in with the statement that moves the relay's checkpoint, so two relays can't
//! fork the chain, and a crash between publishing and chaining only publishes again.

mod chain;
mod entry;
mod lines;
mod prove;
mod rows;

use polyphony_audit_verify::checkpoint::{PublicKey, Signing};
use polyphony_platform::secrets::AuditRing;

pub use self::{
    chain::Chain,
    lines::{AuditRange, ChainHead},
    prove::ProofError,
};

/// The keys of the chain: one signs, all verify.
pub struct AuditKeys {
    signing: Signing,
    public: Vec<PublicKey>,
}

impl AuditKeys {
    /// The keys of a ring.
    pub fn new(ring: &AuditRing) -> Self {
        let signing = Signing::new(ring.signing());
        Self { public: ring.seeds().map(|seed| Signing::new(seed).public()).collect(), signing }
    }

    /// The keys that checkpoints may be signed by, the one that signs now first.
    pub fn public(&self) -> Vec<PublicKey> {
        let now = self.signing.public();
        let others = self.public.iter().filter(|key| **key != now).cloned();
        std::iter::once(now.clone()).chain(others).collect()
    }
}
