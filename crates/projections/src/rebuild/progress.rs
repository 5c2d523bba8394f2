//! How far a build is, kept with what it has built: one that broke off goes on, one of another program begins again.

use std::{env, fs, sync::OnceLock, time::UNIX_EPOCH};

use sqlx::{PgConnection, Row};

use super::Replay;
use crate::{ProjectionError, checkpoint};

/// What this program is called: another one may make other rows of the same events, and they must not be mixed.
fn build() -> &'static str {
    static BUILD: OnceLock<String> = OnceLock::new();
    BUILD.get_or_init(|| {
        let about = env::current_exe().and_then(fs::metadata);
        let time = about.as_ref().ok().and_then(|about| about.modified().ok()?.duration_since(UNIX_EPOCH).ok());
        let (length, time) = (about.map_or(0, |about| about.len()), time.map_or(0, |time| time.as_nanos()));
        format!("{} {length} {time}", env!("CARGO_PKG_VERSION"))
    })
}

impl Replay<'_> {
    /// What the events are parked under that the table in the making lacks.
    fn parked_as(&self) -> String {
        format!("{} (rebuild)", self.name)
    }

    /// Goes on with a table that this very program has begun, if there is one.
    pub(super) async fn resume(&mut self, table: &str) -> Result<bool, ProjectionError> {
        let row = sqlx::query(
            "SELECT xid::text AS xid_text, position, events FROM read.rebuilds \
             WHERE name = $1 AND build = $2 AND to_regclass($3) IS NOT NULL",
        )
        .bind(self.name)
        .bind(build())
        .bind(table)
        .fetch_optional(self.store.pool())
        .await?;
        let Some(row) = row else { return Ok(false) };
        self.at = checkpoint::cursor(row.try_get(0)?, row.try_get(1)?)?;
        self.read = u64::try_from(row.try_get::<i64, _>(2)?).unwrap_or(0);
        self.resumed_at = self.read;
        self.bar.println(format!("{}: going on after {} events", self.name, self.read));
        Ok(true)
    }

    /// Makes an empty table like the live one, in place of whatever an earlier build has left.
    pub(super) async fn begin_table(&self, table: &str, like: &str) -> Result<(), ProjectionError> {
        let mut transaction = self.store.begin().await?;
        for statement in
            [format!("DROP TABLE IF EXISTS {table}"), format!("CREATE TABLE {table} (LIKE {like} INCLUDING ALL)")]
        {
            sqlx::query(&statement).execute(&mut *transaction).await?;
        }
        sqlx::query("DELETE FROM read.parked_events WHERE projection = $1")
            .bind(self.parked_as())
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO read.rebuilds (name, build) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE \
             SET build = excluded.build, xid = '0', position = 0, events = 0, begun_at = now()",
        )
        .bind(self.name)
        .bind(build())
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Keeps how far the table is, in the transaction that brought it there.
    pub(super) async fn keep(&mut self, connection: &mut PgConnection) -> Result<(), ProjectionError> {
        checkpoint::park(connection, &self.parked_as(), &self.poison).await?;
        self.poison.clear();
        let done = sqlx::query("UPDATE read.rebuilds SET xid = $2::xid8, position = $3, events = $4 WHERE name = $1")
            .bind(self.name)
            .bind(self.at.xid.to_string())
            .bind(self.at.position)
            .bind(i64::try_from(self.read).unwrap_or(i64::MAX))
            .execute(connection)
            .await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(ProjectionError::Busy(self.name.to_owned())) }
    }

    /// Parks what could not be understood, in place of what an earlier build had parked, and forgets the way here.
    pub(super) async fn finish(&self, connection: &mut PgConnection) -> Result<(), ProjectionError> {
        for statement in [
            "DELETE FROM read.parked_events WHERE projection = $1",
            "UPDATE read.parked_events SET projection = $1 WHERE projection = $1 || ' (rebuild)'",
            "DELETE FROM read.rebuilds WHERE name = $1",
        ] {
            sqlx::query(statement).bind(self.name).execute(&mut *connection).await?;
        }
        checkpoint::park(connection, self.name, &self.poison).await
    }
}
