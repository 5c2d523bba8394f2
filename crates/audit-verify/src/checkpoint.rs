//! Signed checkpoints: a root over so many events, at a time, by a key.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Flaw, tree::Hash};

/// Names what is signed, so that no other signature passes for one.
const FORMAT: &str = "polyphony-audit-checkpoint-1";

/// A root that was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Events under the root.
    pub size: u64,
    /// The root, hex.
    pub root: String,
    /// When it was signed: RFC 3339, by the signer's clock.
    pub at: String,
    /// Fingerprint of the key.
    pub key: String,
    /// Ed25519 signature, hex.
    pub signature: String,
}

/// A key that checkpoints are signed with.
pub struct Signing(SigningKey);

/// A key that checkpoints are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl Signing {
    /// The key of a seed.
    pub fn new(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a root.
    pub fn sign(&self, size: u64, root: &Hash, at: String) -> Checkpoint {
        let mut checkpoint = Checkpoint {
            size,
            root: hex::encode(root),
            at,
            key: self.public().fingerprint(),
            signature: String::new(),
        };
        checkpoint.signature = hex::encode(self.0.sign(checkpoint.message().as_bytes()).to_bytes());
        checkpoint
    }
}

impl PublicKey {
    /// Reads the hex form.
    ///
    /// # Errors
    /// [`Flaw::Malformed`] when it is no key.
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        let bytes = hex::decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let key = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
        key.map(Self).ok_or_else(|| Flaw::Malformed("a public key is 64 hex digits".to_owned()))
    }

    /// The hex form.
    pub fn text(&self) -> String {
        hex::encode(self.0.as_bytes())
    }

    /// What checkpoints call it: the beginning of its hash.
    pub fn fingerprint(&self) -> String {
        hex::encode(&Sha256::digest(self.0.as_bytes())[..8])
    }
}

impl Checkpoint {
    fn message(&self) -> String {
        format!("{FORMAT}\n{}\n{}\n{}\n", self.size, self.root, self.at)
    }

    /// The root's bytes.
    ///
    /// # Errors
    /// [`Flaw::Malformed`].
    pub fn root(&self) -> Result<Hash, Flaw> {
        let bytes = hex::decode(&self.root).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| Flaw::Malformed("a root is 64 hex digits".to_owned()))
    }

    /// Checks the signature against the trusted keys.
    ///
    /// # Errors
    /// [`Flaw::Key`] for a key that isn't trusted, [`Flaw::Signature`] when it doesn't fit.
    pub fn verify(&self, keys: &[PublicKey]) -> Result<(), Flaw> {
        let size = self.size;
        let key = keys.iter().find(|key| key.fingerprint() == self.key);
        let key = key.ok_or_else(|| Flaw::Key { size, key: self.key.clone() })?;
        let signature = hex::decode(&self.signature).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
        let signature = signature.ok_or(Flaw::Signature { size })?;
        key.0.verify_strict(self.message().as_bytes(), &signature).map_err(|_| Flaw::Signature { size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_by_a_trusted_key_counts() {
        let (key, other) = (Signing::new(&[1; 32]), Signing::new(&[2; 32]));
        let checkpoint = key.sign(7, &[3; 32], "2026-11-24T00:00:00Z".into());
        let keys = [other.public(), key.public()];
        assert_eq!(checkpoint.verify(&keys), Ok(()));
        assert_eq!(PublicKey::parse(&key.public().text()), Ok(key.public()));
        assert!(matches!(checkpoint.verify(&keys[..1]), Err(Flaw::Key { size: 7, .. })));
        let wrong = Err(Flaw::Signature { size: 7 });
        assert_eq!(Checkpoint { root: hex::encode([4; 32]), ..checkpoint.clone() }.verify(&keys), wrong);
        assert_eq!(Checkpoint { at: String::new(), ..checkpoint.clone() }.verify(&keys), wrong);
        assert_eq!(Checkpoint { signature: "00".repeat(64), ..checkpoint.clone() }.verify(&keys), wrong);
        assert_eq!(Checkpoint { key: other.public().fingerprint(), ..checkpoint }.verify(&keys), wrong);
    }
}
