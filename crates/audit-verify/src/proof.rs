//! Proof that an event is in the log: its leaf, the way to a root, and the root's signature.

use serde::{Deserialize, Serialize};

use crate::{
    Flaw,
    checkpoint::{Checkpoint, PublicKey},
    event::LoggedEvent,
    tree::{self, Hash},
};

/// Names the form of a proof.
pub const FORMAT: &str = "polyphony-audit-proof-1";

/// A proof that one event is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// [`FORMAT`].
    pub format: String,
    /// The event, as the log stores it.
    pub event: LoggedEvent,
    /// Place of its leaf.
    pub index: u64,
    /// Hashes from the leaf to the root, hex.
    pub path: Vec<String>,
    /// The signed root.
    pub checkpoint: Checkpoint,
}

/// Reads a hash.
pub(crate) fn hash(text: &str) -> Result<Hash, Flaw> {
    let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Flaw::Malformed("a hash is 64 hex digits".to_owned()))
}

impl Proof {
    /// Checks it: the event is under a root that a trusted key has signed.
    ///
    /// # Errors
    /// [`Flaw::Changed`] when the event, its place or the path isn't what was signed; see also [`Checkpoint::verify`].
    pub fn verify(&self, keys: &[PublicKey]) -> Result<(), Flaw> {
        if self.format != FORMAT {
            return Err(Flaw::Malformed(format!("the format is not {FORMAT}")));
        }
        self.checkpoint.verify(keys)?;
        let path = self.path.iter().map(|text| hash(text)).collect::<Result<Vec<_>, _>>()?;
        let root = tree::root_of(self.event.leaf(), self.index, self.checkpoint.size, &path);
        if root == Some(self.checkpoint.root()?) {
            return Ok(());
        }
        Err(Flaw::Changed { position: self.event.position, event_id: self.event.event_id.clone() })
    }
}
