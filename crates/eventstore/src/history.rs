//! The log for people: what happened, in order, with who did it and when.

use chrono::{DateTime, Utc};
use polyphony_domain::{
    ids::AccountId,
    personal::{CLEAR, ERASED, TOMBSTONE},
    record::{Cursor, StoredEvent},
};
use serde::Serialize;
use serde_json::Value;
use sqlx::Row;
use uuid::Uuid;

use crate::{Store, StoreError, frame};

/// An event as a person sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Happening {
    /// Value of the log's global sequence.
    pub position: i64,
    /// The event.
    pub event_id: Uuid,
    /// Stored type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Version of the payload's shape.
    pub version: String,
    /// Kind of the aggregate.
    pub aggregate: String,
    /// Id of the aggregate.
    pub aggregate_id: Uuid,
    /// `user`, or a role of ours.
    pub actor: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The caller's address; none when it isn't known or has been erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The caller's user agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// What the event says, personal fields as plain texts.
    pub data: Value,
}

impl From<StoredEvent> for Happening {
    /// Takes an opened event.
    fn from(event: StoredEvent) -> Self {
        let said = |field: &str| event.metadata.get(field).and_then(Value::as_str).map(str::to_owned);
        // Payloads are tagged by the variant's name, which the type says already.
        let data = match &event.payload {
            Value::Object(tagged) if tagged.len() == 1 => tagged.get(&event.event_type).unwrap_or(&event.payload),
            payload => payload,
        };
        Self {
            position: event.cursor.position,
            event_id: event.event_id.as_uuid(),
            version: event.event_version.clone(),
            aggregate: event.aggregate_type.clone(),
            aggregate_id: event.aggregate_id,
            actor: said("actor").unwrap_or_default(),
            at: event.recorded_at,
            ip: said("ip"),
            user_agent: said("user_agent"),
            data: plain(data.clone()),
            kind: event.event_type,
        }
    }
}

/// Which part of an account's trail.
#[derive(Clone, Debug, Default)]
pub struct TrailQuery {
    /// Stored types; none for what belongs in every trail: all but what is said in conversations.
    pub types: Option<Vec<String>>,
    /// Only this aggregate.
    pub aggregate_id: Option<Uuid>,
    /// Only what came before this event.
    pub before: Option<Uuid>,
    /// At most this many.
    pub limit: u32,
}

/// Personal fields as the texts that they hold.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(mut fields) => {
            if fields.contains_key(ERASED) {
                return TOMBSTONE.into();
            }
            if let Some(text) = fields.remove(CLEAR) {
                return text;
            }
            fields.into_iter().map(|(name, value)| (name, plain(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => other,
    }
}

impl Store {
    /// Every committed event under a session or account, in commit order, sealed as they stand.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn events_of_root(&self, root: Uuid) -> Result<Vec<StoredEvent>, StoreError> {
        self.select("root_id = $1 ORDER BY xid, position", root).await
    }

    /// The life of a session: every event under it, in commit order, tombstones where it has been erased.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when an event was changed.
    pub async fn life_of(&self, root: Uuid) -> Result<Vec<Happening>, StoreError> {
        Ok(self.open(self.events_of_root(root).await?).await?.into_iter().map(Happening::from).collect())
    }

    /// An account's trail, newest first. `None` when `before` is none of its events.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when an event was changed.
    pub async fn trail(&self, owner: AccountId, query: TrailQuery) -> Result<Option<Vec<Happening>>, StoreError> {
        let mut before = Cursor { xid: u64::MAX, position: i64::MAX };
        if let Some(id) = query.before {
            let sql = "SELECT xid::text AS xid_text, position FROM events WHERE owner_id = $1 AND event_id = $2";
            let row = sqlx::query(sql).bind(owner.as_uuid()).bind(id).fetch_optional(&self.pool).await?;
            let Some(row) = row else { return Ok(None) };
            let xid: String = row.try_get(0)?;
            let xid = xid.parse().map_err(|_| sqlx::Error::Decode("xid".into()))?;
            before = Cursor { xid, position: row.try_get(1)? };
        }
        let sql = format!(
            "SELECT {} FROM events WHERE owner_id = $1 AND (xid, position) < ($2::xid8, $3) \
             AND CASE WHEN $4::text[] IS NULL THEN aggregate_type <> 'turn' ELSE event_type = ANY($4) END \
             AND ($5::text IS NULL OR aggregate_id = $5) ORDER BY xid DESC, position DESC LIMIT $6",
            frame::COLUMNS
        );
        let rows = sqlx::query(&sql)
            .bind(owner.as_uuid())
            .bind(before.xid.to_string())
            .bind(before.position)
            .bind(query.types)
            .bind(query.aggregate_id.map(|id| id.to_string()))
            .bind(i64::from(query.limit))
            .fetch_all(&self.pool)
            .await?;
        Ok(Some(self.open(frame::stored(rows)?).await?.into_iter().map(Happening::from).collect()))
    }

    /// The session that a message belongs to, and whose it is: a prompt by its turn, or an answer.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn place_of_message(&self, message: Uuid) -> Result<Option<(Uuid, AccountId)>, StoreError> {
        if let Some(place) = self.answer(message.into()).await? {
            return Ok(Some((place.session_id.as_uuid(), place.owner_id)));
        }
        let first = "aggregate_type = 'turn' AND aggregate_id = $1 AND sequence = 1";
        let found = self.select(first, message.to_string()).await?.pop();
        Ok(found.map(|event| (event.root_id, event.owner_id)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn personal_fields_are_shown_as_texts_and_tombstones() {
        let stored = json!({"a": {"$personal": "x"}, "b": [{"$erased": true}], "c": {"d": null}});
        assert_eq!(plain(stored), json!({"a": "x", "b": ["[erased]"], "c": {"d": null}}));
    }
}
