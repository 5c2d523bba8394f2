//! Where a projection stands, and what it has put aside.

use polyphony_domain::record::Cursor;
use sqlx::{PgConnection, PgExecutor, Row};

use crate::{ProjectionError, typed::Poison};

/// A projection's place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) cursor: Cursor,
    /// How often the projection has been built anew.
    pub(crate) epoch: i64,
}

pub(crate) async fn load(executor: impl PgExecutor<'_>, name: &str) -> Result<Checkpoint, ProjectionError> {
    read(executor, "SELECT xid::text AS xid_text, position, epoch FROM read.checkpoints WHERE name = $1", name).await
}

/// Loads it and keeps every other process from moving it until the transaction ends.
pub(crate) async fn lock(connection: &mut PgConnection, name: &str) -> Result<Checkpoint, ProjectionError> {
    let sql = "SELECT xid::text AS xid_text, position, epoch FROM read.checkpoints WHERE name = $1 FOR UPDATE";
    read(connection, sql, name).await
}

async fn read(executor: impl PgExecutor<'_>, sql: &str, name: &str) -> Result<Checkpoint, ProjectionError> {
    let row = sqlx::query(sql).bind(name).fetch_optional(executor).await?;
    let row = row.ok_or_else(|| ProjectionError::Unknown(name.to_owned()))?;
    Ok(Checkpoint { cursor: cursor(row.try_get(0)?, row.try_get(1)?)?, epoch: row.try_get(2)? })
}

/// A cursor from its columns; sqlx has no codec for `xid8`, so it comes as text.
pub(crate) fn cursor(xid: String, position: i64) -> Result<Cursor, sqlx::Error> {
    Ok(Cursor { xid: xid.parse().map_err(|_| sqlx::Error::Decode("xid".into()))?, position })
}

/// Moves the checkpoint if nobody else has. As the first statement of a transaction it also makes whoever comes
/// second wait, and then go away.
pub(crate) async fn advance(
    connection: &mut PgConnection,
    name: &str,
    from: Checkpoint,
    to: Cursor,
) -> Result<(), ProjectionError> {
    move_to(connection, name, from, Checkpoint { cursor: to, epoch: from.epoch }).await
}

/// Sets the checkpoint of a model that has been built anew.
pub(crate) async fn begin_epoch(
    connection: &mut PgConnection,
    name: &str,
    from: Checkpoint,
    at: Cursor,
) -> Result<(), ProjectionError> {
    move_to(connection, name, from, Checkpoint { cursor: at, epoch: from.epoch + 1 }).await
}

async fn move_to(
    connection: &mut PgConnection,
    name: &str,
    from: Checkpoint,
    to: Checkpoint,
) -> Result<(), ProjectionError> {
    let done = sqlx::query(
        "UPDATE read.checkpoints SET xid = $1::xid8, position = $2, epoch = $3 \
         WHERE name = $4 AND xid = $5::xid8 AND position = $6 AND epoch = $7",
    )
    .bind(to.cursor.xid.to_string())
    .bind(to.cursor.position)
    .bind(to.epoch)
    .bind(name)
    .bind(from.cursor.xid.to_string())
    .bind(from.cursor.position)
    .bind(from.epoch)
    .execute(connection)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(ProjectionError::Fenced) }
}

/// Puts events aside that could not be applied.
pub(crate) async fn park(connection: &mut PgConnection, name: &str, events: &[Poison]) -> Result<(), ProjectionError> {
    for event in events {
        tracing::error!(
            projection = name,
            position = event.cursor.position,
            error = event.error,
            "an event was parked"
        );
        metrics::counter!("polyphony_projection_parked_total", "projection" => name.to_owned()).increment(1);
        sqlx::query(
            "INSERT INTO read.parked_events (projection, xid, position, event_id, error) \
             VALUES ($1, $2::xid8, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(name)
        .bind(event.cursor.xid.to_string())
        .bind(event.cursor.position)
        .bind(event.event_id.as_uuid())
        .bind(&event.error)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
