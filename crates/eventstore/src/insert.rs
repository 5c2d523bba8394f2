//! Putting the events of a command into the log.

use polyphony_domain::record::Cursor;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::{StoreError, tree::Beside};

/// Events of one aggregate, column by column.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) aggregate_type: &'static str,
    pub(crate) aggregate_id: Uuid,
    pub(crate) root_id: Uuid,
    pub(crate) owner_id: Uuid,
    pub(crate) sequences: Vec<i64>,
    pub(crate) types: Vec<String>,
    pub(crate) versions: Vec<String>,
    pub(crate) payloads: Vec<String>,
    pub(crate) metadata: Vec<String>,
    pub(crate) event_ids: Vec<Uuid>,
}

/// The statement that inserts events, behind the door that it has to pass first.
macro_rules! insertion {
    ($door:literal, $from:literal) => {
        concat!(
            $door,
            "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, \
                                 event_id, root_id, owner_id) \
             SELECT $1, $2, e.sequence, e.type, e.version, e.payload::json, e.metadata::json, e.id, $3::uuid, $4 \
             FROM unnest($5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[], $10::uuid[]) \
                  AS e (sequence, type, version, payload, metadata, id) ",
            $from,
            "ORDER BY e.sequence RETURNING xid::text, position"
        )
    };
}

impl Batch {
    /// One statement for all events of the command.
    pub(crate) async fn insert(&self, connection: &mut PgConnection, beside: Beside) -> Result<Cursor, StoreError> {
        let sql = match beside {
            Beside::Anybody => insertion!("", ""),
            Beside::Others => insertion!(
                "WITH door AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(hashtextextended($3::uuid::text, 0))) ",
                ", door "
            ),
            Beside::Nobody => insertion!(
                "WITH door AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtextextended($3::uuid::text, 0))) ",
                ", door "
            ),
        };
        let rows = sqlx::query(sql)
            .bind(self.aggregate_type)
            .bind(self.aggregate_id.to_string())
            .bind(self.root_id)
            .bind(self.owner_id)
            .bind(&self.sequences)
            .bind(&self.types)
            .bind(&self.versions)
            .bind(&self.payloads)
            .bind(&self.metadata)
            .bind(&self.event_ids)
            .fetch_all(connection)
            .await?;
        let mut last = Cursor::default();
        for row in rows {
            let xid: String = row.try_get(0)?;
            let xid = xid.parse().map_err(|_| sqlx::Error::Decode("xid".into()))?;
            last = last.max(Cursor { xid, position: row.try_get(1)? });
        }
        Ok(last)
    }
}
