//! An event as the log stores it, and the bytes that its leaf is made of.

use serde::{Deserialize, Serialize};

use crate::tree::{self, Hash};

/// Names the encoding; it changes when anything below does.
const FORMAT: &str = "polyphony-event-1";

/// One row of the log, every column as text exactly as stored. Personal texts inside are sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedEvent {
    /// The event's id, lower-case and hyphenated, as all ids here.
    pub event_id: String,
    /// Transaction id: the first half of its place in commit order.
    pub xid: u64,
    /// Position: the second half.
    pub position: i64,
    /// Kind of the aggregate.
    pub aggregate_type: String,
    /// Id of the aggregate.
    pub aggregate_id: String,
    /// Sequence within the aggregate.
    pub sequence: i64,
    /// Stored type.
    pub event_type: String,
    /// Version of the payload's shape.
    pub event_version: String,
    /// Session or account whose data key seals the personal texts.
    pub root_id: String,
    /// Account that it belongs to.
    pub owner_id: String,
    /// Time of the transaction: RFC 3339, UTC, six decimals.
    pub recorded_at: String,
    /// The payload's JSON, byte for byte.
    pub payload: String,
    /// The metadata's JSON, byte for byte.
    pub metadata: String,
}

impl LoggedEvent {
    /// What the leaf is the hash of: the format's name and every column in order, each after its length (four bytes,
    /// big-endian), so that no two rows have the same bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let (xid, position, sequence) = (self.xid.to_string(), self.position.to_string(), self.sequence.to_string());
        let fields = [
            FORMAT,
            &self.event_id,
            &xid,
            &position,
            &self.aggregate_type,
            &self.aggregate_id,
            &sequence,
            &self.event_type,
            &self.event_version,
            &self.root_id,
            &self.owner_id,
            &self.recorded_at,
            &self.payload,
            &self.metadata,
        ];
        let mut bytes = Vec::with_capacity(fields.iter().map(|field| field.len() + 4).sum());
        for field in fields {
            bytes.extend(u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend(field.as_bytes());
        }
        bytes
    }

    /// Its leaf in the tree.
    pub fn leaf(&self) -> Hash {
        tree::leaf(&self.bytes())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An event for tests; `n` tells it from others.
    pub(crate) fn event(n: i64) -> LoggedEvent {
        LoggedEvent {
            event_id: format!("00000000-0000-0000-0000-{n:012}"),
            xid: 700,
            position: n,
            aggregate_type: "session".into(),
            aggregate_id: "00000000-0000-0000-0000-00000000000a".into(),
            sequence: n,
            event_type: "session_renamed".into(),
            event_version: "1".into(),
            root_id: "00000000-0000-0000-0000-00000000000a".into(),
            owner_id: "00000000-0000-0000-0000-00000000000b".into(),
            recorded_at: "2026-11-24T00:00:00.000000Z".into(),
            payload: r#"{"session_renamed":{"title":{"$sealed":"AAAA"}}}"#.into(),
            metadata: r#"{"actor":"user"}"#.into(),
        }
    }

    #[test]
    fn the_leaf_of_an_event_never_changes() {
        assert_eq!(hex::encode(event(1).leaf()), "ce79117ee33acd57e68f0d0bba94e77744cc0c05ccdea77f9b809388da90d3fe");
    }

    #[test]
    fn every_column_counts_and_none_can_be_shifted_into_another() {
        let one = event(1);
        let mut others = vec![event(2)];
        let texts: [fn(&mut LoggedEvent) -> &mut String; 10] = [
            |event| &mut event.event_id,
            |event| &mut event.aggregate_type,
            |event| &mut event.aggregate_id,
            |event| &mut event.event_type,
            |event| &mut event.event_version,
            |event| &mut event.root_id,
            |event| &mut event.owner_id,
            |event| &mut event.recorded_at,
            |event| &mut event.payload,
            |event| &mut event.metadata,
        ];
        for text in texts {
            let mut other = one.clone();
            text(&mut other).push(' ');
            others.push(other);
        }
        others.push(LoggedEvent { xid: 701, ..one.clone() });
        others.push(LoggedEvent { position: 11, ..one.clone() });
        others.push(LoggedEvent { sequence: 11, ..one.clone() });
        others.push(LoggedEvent { event_type: "session".into(), event_version: "_renamed1".into(), ..one.clone() });
        for other in others {
            assert_ne!(one.leaf(), other.leaf(), "{other:?}");
        }
    }
}
