//! Where the relay stands, and who leads it.

use polyphony_domain::record::Cursor;
use sqlx::{Connection, PgConnection, Row};

use crate::{Store, StoreError};

/// Key of the advisory lock that the leader holds: `relay` in ASCII.
const LEADER_LOCK: i64 = 0x72_656c_6179;

/// The leadership of the relay. It ends with its own database connection, whatever becomes of the process.
pub struct Leadership {
    pub(crate) connection: PgConnection,
    pub(crate) epoch: i64,
}

impl Store {
    /// Tries to become the relay's leader; `None` while another process leads.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn lead_relay(&self) -> Result<Option<(Leadership, Cursor)>, StoreError> {
        let mut connection = PgConnection::connect_with(&self.pool.connect_options()).await?;
        let row = sqlx::query("SELECT pg_try_advisory_lock($1)").bind(LEADER_LOCK).fetch_one(&mut connection).await?;
        if !row.try_get::<bool, _>(0)? {
            connection.close().await?;
            return Ok(None);
        }
        let row = sqlx::query("UPDATE ops.relay SET epoch = epoch + 1 RETURNING epoch, xid::text, position")
            .fetch_one(&mut connection)
            .await?;
        let xid: String = row.try_get(1)?;
        let cursor =
            Cursor { xid: xid.parse().map_err(|_| sqlx::Error::Decode("xid".into()))?, position: row.try_get(2)? };
        Ok(Some((Leadership { connection, epoch: row.try_get(0)? }, cursor)))
    }

    /// Makes the partitions of the months to come.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn ensure_partitions(&self) -> Result<i32, StoreError> {
        let row = sqlx::query("SELECT ops.ensure_event_partitions(2)").fetch_one(&self.pool).await?;
        Ok(row.try_get(0)?)
    }

    /// Where the relay stands.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn relay_cursor(&self) -> Result<Cursor, StoreError> {
        let row = sqlx::query("SELECT xid::text AS xid_text, position FROM ops.relay").fetch_one(&self.pool).await?;
        let xid: String = row.try_get(0)?;
        Ok(Cursor { xid: xid.parse().map_err(|_| sqlx::Error::Decode("xid".into()))?, position: row.try_get(1)? })
    }
}

impl Leadership {
    /// Gives the leadership up.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn resign(self) -> Result<(), StoreError> {
        Ok(self.connection.close().await?)
    }
}
