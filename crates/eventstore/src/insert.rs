//! Putting the events of a command into the log.

use uuid::Uuid;

use crate::{StoreError, statement::Statement, tree::Beside};

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

impl Batch {
    /// Puts the events into the statement, as `logged`; before them whoever else is at work in the session is looked after.
    pub(crate) fn write(self, statement: &mut Statement, beside: Beside) -> Result<(), StoreError> {
        let root = statement.bind(self.root_id)?;
        let door = beside.write(statement, &root)?;
        let (aggregate_type, aggregate_id) =
            (statement.bind(self.aggregate_type)?, statement.bind(self.aggregate_id.to_string())?);
        let owner = statement.bind(self.owner_id)?;
        let (sequences, types) = (statement.bind(self.sequences)?, statement.bind(self.types)?);
        let (versions, payloads) = (statement.bind(self.versions)?, statement.bind(self.payloads)?);
        let (metadata, event_ids) = (statement.bind(self.metadata)?, statement.bind(self.event_ids)?);
        statement.add(format!(
            "logged AS (INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, \
                                            metadata, event_id, root_id, owner_id) \
             SELECT {aggregate_type}, {aggregate_id}, e.sequence, e.type, e.version, e.payload::json, e.metadata::json, \
                    e.id, {root}, {owner} \
             FROM unnest({sequences}::bigint[], {types}::text[], {versions}::text[], {payloads}::text[], \
                         {metadata}::text[], {event_ids}::uuid[]) \
                  AS e (sequence, type, version, payload, metadata, id) {door} \
             ORDER BY e.sequence RETURNING xid, position)"
        ));
        Ok(())
    }
}
