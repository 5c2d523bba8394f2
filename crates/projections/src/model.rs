//! What the two Postgres read models have in common: rows reduced from events, written with their checkpoint.

use std::collections::HashMap;

use polyphony_domain::record::Cursor;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::{ProjectionError, typed::TypedEvent};

/// A read model of rows. `reduce` is pure, so that a query can apply what the table has not seen yet.
pub(crate) trait RowModel: Send + Sync + 'static {
    /// Name of its checkpoint, frozen for ever.
    const NAME: &'static str;
    /// Its table.
    const TABLE: &'static str;
    /// What a row holds.
    type Row: Serialize + DeserializeOwned + Clone + Send + Sync;

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

/// Reduces events over rows that are there or not.
pub(crate) fn reduce_all<M: RowModel>(rows: &mut HashMap<Uuid, M::Row>, events: &[TypedEvent]) -> Vec<Uuid> {
    let mut changed = Vec::new();
    for event in events {
        let Some(id) = M::key(event) else { continue };
        if let Some(row) = M::reduce(rows.remove(&id), event) {
            rows.insert(id, row);
            changed.push(id);
        }
    }
    changed.sort_unstable();
    changed.dedup();
    changed
}

/// Reads rows by id.
pub(crate) async fn load_rows<M: RowModel>(
    connection: &mut PgConnection,
    table: &str,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, M::Row>, ProjectionError> {
    let sql = format!("SELECT id, data FROM {table} WHERE id = ANY($1)");
    let rows = sqlx::query(&sql).bind(ids).fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok((row.try_get(0)?, row.try_get::<sqlx::types::Json<M::Row>, _>(1)?.0))).collect()
}

/// Applies events to a table.
pub(crate) async fn apply<M: RowModel>(
    connection: &mut PgConnection,
    table: &str,
    events: &[TypedEvent],
) -> Result<(), ProjectionError> {
    let mut ids: Vec<Uuid> = events.iter().filter_map(M::key).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(());
    }
    let mut rows = load_rows::<M>(connection, table, &ids).await?;
    let changed = reduce_all::<M>(&mut rows, events);
    let changed: Vec<(Uuid, M::Row)> = changed.into_iter().filter_map(|id| Some((id, rows.remove(&id)?))).collect();
    if changed.is_empty() { Ok(()) } else { M::write(connection, table, &changed).await }
}
