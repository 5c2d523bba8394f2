//! The audit chain: what an event's leaf is, the tree over all leaves, signed checkpoints, proofs and exports.
//!
//! All events of the log, in commit order, are the leaves of one Merkle tree as RFC 6962 defines it. The service signs
//! the tree's root with every batch that it adds. Whoever has the public key can check a proof or an export with this
//! crate alone: no database, no secret, no network lives here. Leaves are made of the log as it is stored, where personal
//! texts are sealed, so erasing a person changes none of them.

pub mod checkpoint;
pub mod event;
pub mod export;
pub mod proof;
pub mod tree;

use thiserror::Error;

/// What is wrong with a log, a proof or an export; the first thing that is.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Flaw {
    /// An event is not what it was when it was chained.
    #[error("the event at position {position} ({event_id}) was changed")]
    Changed {
        /// Where.
        position: i64,
        /// Which.
        event_id: String,
    },
    /// An event that was chained is gone.
    #[error("the event at position {position} ({event_id}) was removed")]
    Removed {
        /// Where it was.
        position: i64,
        /// Which.
        event_id: String,
    },
    /// An event stands where none was chained.
    #[error("the event at position {position} ({event_id}) was inserted")]
    Inserted {
        /// Where.
        position: i64,
        /// Which.
        event_id: String,
    },
    /// Another event stands in an event's place.
    #[error("the order was changed: at position {position} stands {event_id}, not {expected}")]
    Moved {
        /// Where.
        position: i64,
        /// Which stands there.
        event_id: String,
        /// Which was chained there.
        expected: String,
    },
    /// The chain itself is not what was signed.
    #[error("the chain was changed: its root over {size} events, up to position {position}, is not the signed one")]
    Root {
        /// Events under the root.
        size: u64,
        /// The last one's position.
        position: i64,
    },
    /// A part of the chain is missing.
    #[error("the chain has a gap: after {size} events, up to position {position}, the next part is missing")]
    Gap {
        /// Events before it.
        size: u64,
        /// The last one's position.
        position: i64,
    },
    /// A signature is wrong.
    #[error("the signature of the checkpoint over {size} events is wrong")]
    Signature {
        /// Events under the checkpoint.
        size: u64,
    },
    /// A checkpoint is signed by a key that isn't among the trusted ones.
    #[error("the checkpoint over {size} events is signed by the key {key}, which is not trusted")]
    Key {
        /// Events under the checkpoint.
        size: u64,
        /// The key's fingerprint.
        key: String,
    },
    /// It isn't what a proof or an export looks like.
    #[error("malformed: {0}")]
    Malformed(String),
}
