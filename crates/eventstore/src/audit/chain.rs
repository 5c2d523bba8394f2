//! Adding to the chain, as the relay's leader does with each batch.

use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use polyphony_audit_verify::{
    checkpoint::Checkpoint,
    event::LoggedEvent,
    tree::{Frontier, Hash, Subtree},
};
use polyphony_domain::record::Cursor;
use uuid::Uuid;

use super::{
    AuditKeys,
    entry::{Entry, LENGTH},
    rows::{STRIDE, signed},
};
use crate::{Store, StoreError, relay_state::Leadership};

/// Events that are chained at a time where the chain is behind.
const CATCH_UP: u32 = 512;

/// The chain in the leader's hands.
pub struct Chain {
    keys: Arc<AuditKeys>,
    frontier: Frontier,
    to: Cursor,
}

/// What a batch adds to the chain.
struct Addition {
    frontier: Frontier,
    to: Cursor,
    entries: Vec<u8>,
    nodes: Vec<(Subtree, Hash)>,
    checkpoint: Checkpoint,
}

impl Chain {
    /// Takes the chain up where it ends, and brings it level with the relay's checkpoint: a log that is older than its
    /// chain is chained from its beginning. `None` when another leader has taken over meanwhile.
    ///
    /// # Errors
    /// [`StoreError::AuditChain`] when what is stored isn't what was signed last: nothing may be added to that.
    pub async fn take_up(
        store: &Store,
        leadership: &mut Leadership,
        relay: Cursor,
        keys: Arc<AuditKeys>,
    ) -> Result<Option<Self>, StoreError> {
        let mut chain = match store.last_batch().await? {
            None => Self { keys, frontier: Frontier::default(), to: Cursor::default() },
            Some(last) => {
                let frontier = store.frontier(last.checkpoint.size).await?;
                let is_signed = last.checkpoint.verify(&keys.public()).is_ok();
                if !is_signed || last.checkpoint.root() != Ok(frontier.root()) {
                    return Err(StoreError::AuditChain);
                }
                Self { keys, frontier, to: last.to }
            }
        };
        while chain.to < relay {
            let mut events = store.read_logged_after(chain.to, CATCH_UP).await?;
            events.retain(|event| place(event) <= relay);
            if events.is_empty() {
                return Err(StoreError::AuditChain);
            }
            if !chain.advance(leadership, relay, relay, &events).await? {
                return Ok(None);
            }
        }
        Ok(Some(chain))
    }

    /// Moves the relay's checkpoint and chains the events that follow the chain; `false` when another leader has taken
    /// over, and this one must stop.
    ///
    /// # Errors
    /// [`StoreError::Database`]: the connection is gone, and the leadership with it.
    pub async fn advance(
        &mut self,
        leadership: &mut Leadership,
        from: Cursor,
        to: Cursor,
        events: &[LoggedEvent],
    ) -> Result<bool, StoreError> {
        let addition = self.addition(events)?;
        let nodes = &addition.nodes;
        let levels: Vec<i16> = nodes.iter().map(|(at, _)| i16::try_from(at.level).unwrap_or(i16::MAX)).collect();
        let indexes: Vec<i64> = nodes.iter().map(|(at, _)| signed(at.index)).collect();
        let hashes: Vec<&[u8]> = nodes.iter().map(|(_, hash)| &hash[..]).collect();
        let checkpoint = &addition.checkpoint;
        let root = checkpoint.root().map_err(|_| StoreError::AuditChain)?;
        let signature = hex::decode(&checkpoint.signature).map_err(|_| StoreError::AuditChain)?;
        let done = sqlx::query(
            "WITH moved AS (UPDATE ops.relay SET xid = $1::xid8, position = $2 \
                            WHERE epoch = $3 AND xid = $4::xid8 AND position = $5 RETURNING epoch), \
                  noded AS (INSERT INTO ops.audit_nodes (level, index, hash) \
                            SELECT node.* FROM moved, unnest($6::smallint[], $7::bigint[], $8::bytea[]) AS node) \
             INSERT INTO ops.audit_chain \
                 (first, entries, xid, position, size, root, signed_at, key, signature, epoch) \
             SELECT $9, $10, $11::xid8, $12, $13, $14, $15, $16, $17, epoch FROM moved",
        )
        .bind(to.xid.to_string())
        .bind(to.position)
        .bind(leadership.epoch)
        .bind(from.xid.to_string())
        .bind(from.position)
        .bind(levels)
        .bind(indexes)
        .bind(hashes)
        .bind(signed(self.frontier.size()))
        .bind(&addition.entries)
        .bind(addition.to.xid.to_string())
        .bind(addition.to.position)
        .bind(signed(checkpoint.size))
        .bind(&root[..])
        .bind(&checkpoint.at)
        .bind(&checkpoint.key)
        .bind(signature)
        .execute(&mut leadership.connection)
        .await?;
        self.frontier = addition.frontier;
        self.to = addition.to;
        Ok(done.rows_affected() == 1)
    }

    fn addition(&self, events: &[LoggedEvent]) -> Result<Addition, StoreError> {
        let mut frontier = self.frontier.clone();
        let (mut entries, mut nodes) = (Vec::with_capacity(events.len() * LENGTH), Vec::new());
        let mut to = self.to;
        for event in events {
            let event_id: Uuid = event.event_id.parse().map_err(|_| StoreError::AuditChain)?;
            let entry = Entry { cursor: place(event), event_id, leaf: event.leaf() };
            entry.write(&mut entries);
            to = entry.cursor;
            frontier.push(entry.leaf, |subtree, hash| {
                if subtree.level % STRIDE == 0 {
                    nodes.push((subtree, hash));
                }
            });
        }
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let checkpoint = self.keys.signing.sign(frontier.size(), &frontier.root(), at);
        Ok(Addition { frontier, to, entries, nodes, checkpoint })
    }
}

/// Where an event is.
pub(super) const fn place(event: &LoggedEvent) -> Cursor {
    Cursor { xid: event.xid, position: event.position }
}
