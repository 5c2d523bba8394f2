//! Reading the chain's tables: batches, leaves, subtrees.

use polyphony_audit_verify::{
    checkpoint::Checkpoint,
    tree::{self, Frontier, Hash, Step, Subtree},
};
use polyphony_domain::record::Cursor;
use sqlx::{Row, postgres::PgRow};

use super::entry::Entry;
use crate::{Store, StoreError};

/// Levels between the nodes that are stored.
pub(super) const STRIDE: u32 = 8;

/// One batch of the chain.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) first: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) to: Cursor,
    pub(super) checkpoint: Checkpoint,
}

const COLUMNS: &str = "first, entries, xid::text AS xid_text, position, size, root, signed_at, key, signature";

fn batch(row: &PgRow) -> Result<Batch, StoreError> {
    let number =
        |index: usize| -> Result<u64, StoreError> { Ok(u64::try_from(row.try_get::<i64, _>(index)?).unwrap_or(0)) };
    let xid: String = row.try_get(2)?;
    Ok(Batch {
        first: number(0)?,
        entries: Entry::all(row.try_get(1)?),
        to: Cursor { xid: xid.parse().map_err(|_| sqlx::Error::Decode("xid".into()))?, position: row.try_get(3)? },
        checkpoint: Checkpoint {
            size: number(4)?,
            root: hex::encode(row.try_get::<&[u8], _>(5)?),
            at: row.try_get(6)?,
            key: row.try_get(7)?,
            signature: hex::encode(row.try_get::<&[u8], _>(8)?),
        },
    })
}

impl Store {
    /// The newest batch.
    pub(super) async fn last_batch(&self) -> Result<Option<Batch>, StoreError> {
        self.one_batch("true ORDER BY first DESC", 0).await
    }

    /// The first batch that fits a condition on `$1`, which says the order, too.
    pub(super) async fn one_batch(&self, condition: &str, value: i64) -> Result<Option<Batch>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM ops.audit_chain WHERE $1::bigint IS NOT NULL AND {condition} LIMIT 1");
        let row = sqlx::query(&sql).bind(value).fetch_optional(&self.pool).await?;
        row.as_ref().map(batch).transpose()
    }

    /// The first batch that was signed at a time or after it.
    pub(super) async fn batch_since(&self, time: chrono::DateTime<chrono::Utc>) -> Result<Option<Batch>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM ops.audit_chain WHERE signed_at::timestamptz >= $1 ORDER BY first LIMIT 1");
        let row = sqlx::query(&sql).bind(time).fetch_optional(&self.pool).await?;
        row.as_ref().map(batch).transpose()
    }

    /// The batch that holds a place of the log.
    pub(super) async fn batch_of(&self, place: Cursor) -> Result<Option<Batch>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM ops.audit_chain WHERE (xid, position) >= ($1::xid8, $2) ORDER BY xid, position LIMIT 1"
        );
        let row = sqlx::query(&sql).bind(place.xid.to_string()).bind(place.position).fetch_optional(&self.pool).await?;
        row.as_ref().map(batch).transpose()
    }

    /// The batches from a number of leaves on, in order.
    pub(super) async fn batches_from(&self, first: u64, limit: i64) -> Result<Vec<Batch>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM ops.audit_chain WHERE first >= $1 ORDER BY first LIMIT $2");
        let rows = sqlx::query(&sql).bind(signed(first)).bind(limit).fetch_all(&self.pool).await?;
        rows.iter().map(batch).collect()
    }

    async fn leaves(&self, begin: u64, end: u64) -> Result<Vec<Hash>, StoreError> {
        let sql = "SELECT first, entries FROM ops.audit_chain WHERE size > $1 AND first < $2 ORDER BY first";
        let rows = sqlx::query(sql).bind(signed(begin)).bind(signed(end)).fetch_all(&self.pool).await?;
        let mut leaves = Vec::new();
        for row in rows {
            let first = u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0);
            let entries = Entry::all(row.try_get(1)?);
            leaves.extend(
                entries.iter().zip(first..).filter(|(_, at)| (begin..end).contains(at)).map(|(entry, _)| entry.leaf),
            );
        }
        whole(leaves, end - begin)
    }

    async fn nodes(&self, level: u32, begin: u64, end: u64) -> Result<Vec<Hash>, StoreError> {
        let sql = "SELECT hash FROM ops.audit_nodes WHERE level = $1 AND index >= $2 AND index < $3 ORDER BY index";
        let rows = sqlx::query(sql)
            .bind(i16::try_from(level).unwrap_or(i16::MAX))
            .bind(signed(begin))
            .bind(signed(end))
            .fetch_all(&self.pool)
            .await?;
        let hashes =
            rows.iter().map(|row| row.try_get::<&[u8], _>(0).map(<[u8]>::to_vec)).collect::<Result<Vec<_>, _>>()?;
        whole(hashes.into_iter().filter_map(|hash| hash.try_into().ok()).collect(), end - begin)
    }

    /// The root of a complete subtree.
    pub(super) async fn subtree(&self, subtree: Subtree) -> Result<Hash, StoreError> {
        let base = subtree.level / STRIDE * STRIDE;
        let above = subtree.level - base;
        let (begin, end) = (subtree.index << above, (subtree.index + 1) << above);
        let hashes = if base == 0 { self.leaves(begin, end).await? } else { self.nodes(base, begin, end).await? };
        Ok(tree::complete(hashes))
    }

    /// The roots of some subtrees.
    pub(super) async fn subtrees(&self, step: &Step) -> Result<Vec<Hash>, StoreError> {
        let mut roots = Vec::with_capacity(step.len());
        for subtree in step {
            roots.push(self.subtree(*subtree).await?);
        }
        Ok(roots)
    }

    /// The edge of the tree when it had so many leaves.
    pub(super) async fn frontier(&self, size: u64) -> Result<Frontier, StoreError> {
        let peaks = self.subtrees(&tree::peaks_of(size)).await?;
        Frontier::new(size, peaks).ok_or(StoreError::AuditChain)
    }
}

fn whole(hashes: Vec<Hash>, count: u64) -> Result<Vec<Hash>, StoreError> {
    if hashes.len() as u64 == count { Ok(hashes) } else { Err(StoreError::AuditChain) }
}

/// A number as Postgres has it.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
