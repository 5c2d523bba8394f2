//! What the chain keeps of each event: its place, its id, its leaf.

use polyphony_audit_verify::tree::Hash;
use polyphony_domain::record::Cursor;
use uuid::Uuid;

/// Bytes of an entry.
pub(super) const LENGTH: usize = 64;

/// One leaf with what it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) cursor: Cursor,
    pub(super) event_id: Uuid,
    pub(super) leaf: Hash,
}

impl Entry {
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        into.extend(self.cursor.xid.to_be_bytes());
        into.extend(self.cursor.position.to_be_bytes());
        into.extend(self.event_id.as_bytes());
        into.extend(self.leaf);
    }

    fn read(bytes: &[u8; LENGTH]) -> Option<Self> {
        let (xid, rest) = bytes.split_first_chunk()?;
        let (position, rest) = rest.split_first_chunk()?;
        let (event_id, leaf) = rest.split_first_chunk()?;
        let cursor = Cursor { xid: u64::from_be_bytes(*xid), position: i64::from_be_bytes(*position) };
        Some(Self { cursor, event_id: Uuid::from_bytes(*event_id), leaf: leaf.try_into().ok()? })
    }

    /// The entries of a batch. The table's own check sees to their length.
    pub(super) fn all(bytes: &[u8]) -> Vec<Self> {
        bytes.as_chunks().0.iter().filter_map(Self::read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let entry = |n: u8| Entry {
            cursor: Cursor { xid: u64::MAX - u64::from(n), position: i64::from(n) },
            event_id: Uuid::from_bytes([n; 16]),
            leaf: [n; 32],
        };
        let mut bytes = vec![];
        for n in 1..4 {
            entry(n).write(&mut bytes);
        }
        assert_eq!(bytes.len(), 3 * LENGTH);
        assert_eq!(Entry::all(&bytes), [entry(1), entry(2), entry(3)]);
    }
}
