//! The log beside its chain, line by line: to be checked at once, or written down and checked elsewhere.

use chrono::{DateTime, Utc};
use polyphony_audit_verify::{
    checkpoint::Checkpoint,
    event::LoggedEvent,
    export::{FORMAT, Line},
};
use polyphony_domain::record::Cursor;

use super::{chain::place, entry::Entry, rows::Batch};
use crate::{Store, StoreError};

/// Batches that are read at a time.
const BATCHES: i64 = 64;
/// Events that are read beyond those of a batch: enough to see that some were inserted.
const SURPLUS: usize = 64;

/// Which part of the log; whole batches, so it may be a little more.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditRange {
    /// From the batch that was signed at this time or after it.
    pub since: Option<DateTime<Utc>>,
    /// Up to the batch that was signed at this time or after it.
    pub until: Option<DateTime<Utc>>,
    /// From the batch that reaches this position.
    pub from: Option<i64>,
    /// Up to the batch that reaches this position.
    pub to: Option<i64>,
}

/// How far the chain is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The newest signed root; none before the first event.
    pub checkpoint: Option<Checkpoint>,
    /// Place of the last event under it.
    pub at: Cursor,
    /// Where the relay is: the same place, unless the chain is older than itself.
    pub relay: Cursor,
}

impl AuditRange {
    const fn is_whole(&self) -> bool {
        self.since.is_none() && self.until.is_none() && self.from.is_none() && self.to.is_none()
    }
}

impl Store {
    /// How far the chain is.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn chain_head(&self) -> Result<ChainHead, StoreError> {
        let relay = self.relay_cursor().await?;
        let last = self.last_batch().await?;
        let at = last.as_ref().map_or_else(Cursor::default, |last| last.to);
        Ok(ChainHead { checkpoint: last.map(|last| last.checkpoint), at, relay })
    }

    /// The checkpoint over so many events, as it is stored.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn checkpoint_over(&self, size: u64) -> Result<Option<Checkpoint>, StoreError> {
        let batch = self.one_batch("size = $1", super::rows::signed(size)).await?;
        Ok(batch.map(|batch| batch.checkpoint))
    }

    /// Walks along the log and its chain, in order, and hands over each line; up to an error of `take`.
    ///
    /// # Errors
    /// What `take` says, or [`StoreError`].
    pub async fn audit_lines<E: From<StoreError>>(
        &self,
        range: AuditRange,
        mut take: impl FnMut(Line) -> Result<(), E>,
    ) -> Result<(), E> {
        // What the relay has passed must be in the chain; it is asked first, since both go on.
        let relay = self.relay_cursor().await?;
        let (begin, end) = (self.beginning(&range).await?, self.end_of(&range).await?);
        let (mut size, mut at) = begin.as_ref().map_or((0, Cursor::default()), |(size, at, _)| (*size, *at));
        let peaks = if size == 0 { vec![] } else { self.frontier(size).await?.peaks().to_vec() };
        let peaks = peaks.into_iter().map(hex::encode).collect();
        let checkpoint = begin.map(|(_, _, checkpoint)| checkpoint);
        take(Line::Begin { format: FORMAT.to_owned(), size, peaks, checkpoint })?;
        'walk: loop {
            let batches = self.batches_from(size, BATCHES).await?;
            if batches.is_empty() {
                break;
            }
            for batch in batches {
                if batch.first != size {
                    take(Line::Gap {})?;
                }
                let events = self.read_logged_between(at, batch.to, batch.entries.len() + SURPLUS).await?;
                beside(&batch.entries, events, &mut take)?;
                (size, at) = (batch.checkpoint.size, batch.to);
                take(Line::Checkpoint(batch.checkpoint))?;
                if end.is_some_and(|end| size >= end) {
                    break 'walk;
                }
            }
        }
        if range.is_whole() && at < relay {
            take(Line::Gap {})?;
        }
        take(Line::End { size })
    }

    /// Events before a range, the place of the last one and the signed root over them; none for the beginning.
    async fn beginning(&self, range: &AuditRange) -> Result<Option<(u64, Cursor, Checkpoint)>, StoreError> {
        let Some(first) = self.bound(range.since, range.from).await? else { return Ok(None) };
        let before = self.one_batch("size = $1", super::rows::signed(first.first)).await?;
        Ok(before.map(|before| (before.checkpoint.size, before.to, before.checkpoint)))
    }

    async fn end_of(&self, range: &AuditRange) -> Result<Option<u64>, StoreError> {
        Ok(self.bound(range.until, range.to).await?.map(|last| last.checkpoint.size))
    }

    async fn bound(&self, time: Option<DateTime<Utc>>, position: Option<i64>) -> Result<Option<Batch>, StoreError> {
        match (time, position) {
            (Some(time), _) => self.batch_since(time).await,
            (None, Some(position)) => self.one_batch("position >= $1 ORDER BY first", position).await,
            (None, None) => Ok(None),
        }
    }
}

/// Entries beside events, both in commit order.
fn beside<E>(
    entries: &[Entry],
    events: Vec<LoggedEvent>,
    take: &mut impl FnMut(Line) -> Result<(), E>,
) -> Result<(), E> {
    let (mut entries, mut events) = (entries.iter().peekable(), events.into_iter().peekable());
    loop {
        let line = match (entries.peek(), events.peek()) {
            (None, None) => return Ok(()),
            (Some(entry), event) if event.is_none_or(|event| entry.cursor < place(event)) => {
                let line = Line::Removed { position: entry.cursor.position, event_id: entry.event_id.to_string() };
                entries.next();
                line
            }
            (entry, Some(event)) if entry.is_none_or(|entry| entry.cursor > place(event)) => {
                let line = Line::Inserted { position: event.position, event_id: event.event_id.clone() };
                events.next();
                line
            }
            _ => match (entries.next(), events.next()) {
                (Some(entry), Some(event)) => {
                    Line::Event { event, chained: entry.event_id.to_string(), leaf: hex::encode(entry.leaf) }
                }
                _ => return Ok(()),
            },
        };
        take(line)?;
    }
}
