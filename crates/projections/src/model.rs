//! What the two Postgres read models have in common: rows reduced from events, written with their checkpoint.

use std::collections::HashMap;

use polyphony_domain::record::{Cursor, StoredEvent};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{PgConnection, PgExecutor, Row, types::Json};
use uuid::Uuid;

use crate::{
    ProjectionError,
    typed::{Purge, TypedEvent},
};

/// A read model of rows. `reduce` is pure, so that a query can apply what the table has not seen yet.
pub(crate) trait RowModel: Send + Sync + 'static {
    /// Name of its checkpoint, frozen for ever.
    const NAME: &'static str;
    /// Its table.
    const TABLE: &'static str;
    /// Its column with the id of the session.
    const SESSION: &'static str;
    /// What a row holds.
    type Row: Serialize + DeserializeOwned + Clone + Send + Sync;

    /// Whether an event can change a row, as far as its type says.
    fn wants(event: &StoredEvent) -> bool;

    /// Id of the row that an event changes.
    fn key(event: &TypedEvent) -> Option<Uuid>;

    /// The row after the event; an event that it has seen changes nothing.
    fn reduce(row: Option<Self::Row>, event: &TypedEvent) -> Option<Self::Row>;

    /// Writes rows into `table` with one statement.
    fn write(
        connection: &mut PgConnection,
        table: &str,
        rows: &[(Uuid, Self::Row)],
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;
}

/// Whether a row has seen an event.
pub(crate) fn has_seen(last: Cursor, event: &TypedEvent) -> bool {
    event.cursor <= last
}

/// Ids of the rows that events change, each once.
pub(crate) fn keys<M: RowModel>(events: &[TypedEvent]) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = events.iter().filter(|event| !event.is_erased).filter_map(M::key).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Reduces events over rows that are there or not. What has been erased makes none: the rows that were made before go
/// with the event that says so.
pub(crate) fn reduce_all<M: RowModel>(rows: &mut HashMap<Uuid, M::Row>, events: &[TypedEvent]) {
    for event in events.iter().filter(|event| !event.is_erased) {
        let Some(id) = M::key(event) else { continue };
        if let Some(row) = M::reduce(rows.remove(&id), event) {
            rows.insert(id, row);
        }
    }
}

/// Reads rows by id.
pub(crate) async fn load_rows<M: RowModel>(
    executor: impl PgExecutor<'_>,
    table: &str,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, M::Row>, ProjectionError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = format!("SELECT id, data FROM {table} WHERE id = ANY($1)");
    let rows = sqlx::query(&sql).bind(ids).fetch_all(executor).await?;
    rows.into_iter().map(|row| Ok((row.try_get(0)?, row.try_get::<Json<M::Row>, _>(1)?.0))).collect()
}

/// Rows as JSON texts, to be written.
pub(crate) fn texts<R: Serialize>(rows: &[(Uuid, R)]) -> Result<Vec<String>, ProjectionError> {
    let texts = rows.iter().map(|(_, row)| serde_json::to_string(row)).collect::<Result<_, _>>();
    Ok(texts.map_err(polyphony_eventstore::StoreError::from)?)
}

/// Applies events to a table: loads the rows that they change, reduces, writes them back.
pub(crate) async fn apply<M: RowModel>(
    connection: &mut PgConnection,
    table: &str,
    events: &[TypedEvent],
) -> Result<(), ProjectionError> {
    let mut rows = load_rows::<M>(&mut *connection, table, &keys::<M>(events)).await?;
    reduce_all::<M>(&mut rows, events);
    let mut rows: Vec<(Uuid, M::Row)> = rows.into_iter().collect();
    // Always in the same order, as every statement that locks several rows should.
    rows.sort_unstable_by_key(|(id, _)| *id);
    if !rows.is_empty() {
        M::write(&mut *connection, table, &rows).await?;
    }
    // Last: whatever came before them, nothing of these stays.
    for purge in events.iter().filter_map(TypedEvent::purge) {
        delete::<M>(&mut *connection, table, purge).await?;
    }
    Ok(())
}

/// Deletes the rows of an erased session or account, and what was parked of it: an error may quote it.
async fn delete<M: RowModel>(connection: &mut PgConnection, table: &str, purge: Purge) -> Result<(), ProjectionError> {
    let (id, roots) = match purge {
        Purge::Session(session) => (session, "SELECT $1::uuid"),
        // Its sessions by their keys, of which a row stays, since messages have no index by owner.
        Purge::Owner(owner) => (owner.as_uuid(), "SELECT root_id FROM ops.data_keys WHERE owner_id = $1"),
    };
    let rows = format!("DELETE FROM {table} WHERE {} IN ({roots})", M::SESSION);
    let parked = format!(
        "DELETE FROM read.parked_events AS parked USING events AS event \
         WHERE event.root_id IN ({roots}) AND parked.event_id = event.event_id AND parked.projection = '{}'",
        M::NAME
    );
    for sql in [rows, parked] {
        sqlx::query(&sql).bind(id).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The rows that events change, as they will be once the table has seen them.
pub(crate) async fn reduced<M: RowModel>(
    executor: impl PgExecutor<'_>,
    missing: &[TypedEvent],
) -> Result<HashMap<Uuid, M::Row>, ProjectionError> {
    let mut rows = load_rows::<M>(executor, M::TABLE, &keys::<M>(missing)).await?;
    reduce_all::<M>(&mut rows, missing);
    Ok(rows)
}
