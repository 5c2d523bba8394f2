//! The list of a person's sessions.

pub(crate) mod query;

use chrono::{DateTime, Utc};
use polyphony_domain::{
    ids::{AccountId, SessionId},
    money::NanoUsd,
    personal::Personal,
    record::{Cursor, StoredEvent},
    session::SessionEvent,
    turn::TurnEvent,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    ProjectionError,
    model::{RowModel, has_seen, texts},
    typed::{Payload, TypedEvent, is_erasure, is_of_sessions},
};

/// Characters of the first prompt that name a session without a title.
const DERIVED_TITLE: usize = 60;

/// A session as its list shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRow {
    /// The session.
    pub id: SessionId,
    /// Whose.
    pub owner_id: AccountId,
    /// Title that the person gave it, else its first prompt.
    pub title: Option<String>,
    /// Whether the title is the first prompt.
    pub title_is_derived: bool,
    /// Model, `provider/name`.
    pub model: Option<String>,
    /// What every model is told first.
    pub system_prompt: Option<String>,
    /// Free data of the client.
    pub metadata: Value,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// When it changed last.
    pub updated_at: DateTime<Utc>,
    /// When it was archived.
    pub archived_at: Option<DateTime<Utc>>,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
    /// Prompts and answers.
    pub message_count: u64,
    /// When the last message came.
    pub last_message_at: Option<DateTime<Utc>>,
    /// Input tokens of all attempts.
    pub tokens_input: u64,
    /// Output tokens of all attempts.
    pub tokens_output: u64,
    /// Cost of all attempts.
    pub cost: NanoUsd,
    /// Turns that are no conversation: they are billed, and counted nowhere else.
    #[serde(default)]
    pub hidden: Vec<Uuid>,
    /// Newest event that it has seen.
    pub last: Cursor,
}

impl SessionRow {
    /// Whether it is in the archive instead of the list.
    pub const fn is_archived(&self) -> bool {
        self.archived_at.is_some()
    }

    /// Whether it has been deleted and is shown to nobody.
    pub const fn is_deleted(&self) -> bool {
        self.deleted_at.is_some()
    }
}

/// The read model.
pub(crate) struct SessionList;

fn derived(prompt: &str) -> String {
    let line = prompt.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut title: String = line.chars().take(DERIVED_TITLE).collect();
    if title.len() < line.len() {
        title.push('…');
    }
    title
}

impl RowModel for SessionList {
    const NAME: &'static str = "session_list_v1";
    const TABLE: &'static str = "read.sessions";
    const SESSION: &'static str = "id";
    type Row = SessionRow;

    fn wants(event: &StoredEvent) -> bool {
        // Steps on the way to an answer don't move a session in its list.
        let steps = ["attempt_started", "stop_requested", "feedback_given", "feedback_withdrawn", "discussion_closed"];
        is_of_sessions(event, &steps) || is_erasure(event)
    }

    fn key(event: &TypedEvent) -> Option<Uuid> {
        match event.payload {
            Payload::Session(_) | Payload::Turn(_) => Some(event.root_id),
            Payload::AccountErased | Payload::Other => None,
        }
    }

    fn reduce(row: Option<SessionRow>, event: &TypedEvent) -> Option<SessionRow> {
        if let (None, Payload::Session(SessionEvent::SessionOpened { owner_id, title, model, system_prompt })) =
            (&row, &event.payload)
        {
            return Some(SessionRow {
                id: SessionId::new(event.aggregate_id),
                owner_id: *owner_id,
                title: title.clone().map(Personal::into_string),
                title_is_derived: false,
                model: model.clone(),
                system_prompt: system_prompt.clone().map(Personal::into_string),
                metadata: Value::Object(serde_json::Map::new()),
                created_at: event.at,
                updated_at: event.at,
                archived_at: None,
                deleted_at: None,
                message_count: 0,
                last_message_at: None,
                tokens_input: 0,
                tokens_output: 0,
                cost: NanoUsd::default(),
                hidden: vec![],
                last: event.cursor,
            });
        }
        let mut row = row?;
        if has_seen(row.last, event) {
            return Some(row);
        }
        row.last = event.cursor;
        let at = event.at;
        match &event.payload {
            Payload::Session(event) => match event {
                SessionEvent::SessionOpened { .. } => {}
                SessionEvent::SessionRenamed { title } => {
                    row.title = Some(title.as_str().to_owned());
                    row.title_is_derived = false;
                }
                SessionEvent::SystemPromptSet { system_prompt } => {
                    row.system_prompt = Some(system_prompt.as_str().to_owned());
                }
                SessionEvent::SessionAnnotated { metadata } => {
                    row.metadata = serde_json::from_str(metadata.as_str()).unwrap_or_default();
                }
                SessionEvent::ModelSwitched { model } => row.model = Some(model.clone()),
                SessionEvent::SessionArchived {} => row.archived_at = Some(at),
                SessionEvent::SessionUnarchived {} => row.archived_at = None,
                SessionEvent::SessionDeleted {} => row.deleted_at = Some(at),
                SessionEvent::SessionRestored {} => row.deleted_at = None,
                // The row goes with the event.
                SessionEvent::SessionErased {} => return None,
                SessionEvent::MessageDeleted { removed, .. } => {
                    row.message_count = row.message_count.saturating_sub(*removed);
                }
                // Which messages are shown or kept is the thread's matter.
                SessionEvent::BranchActivated { .. }
                | SessionEvent::MessagePinned { .. }
                | SessionEvent::MessageUnpinned { .. }
                | SessionEvent::SummaryDismissed { .. } => return Some(row),
            },
            Payload::Turn(turn) => {
                if let Some((_, record)) = turn.attempt() {
                    row.tokens_input += record.usage.input;
                    row.tokens_output += record.usage.output;
                    row.cost = row.cost + record.cost;
                }
                if matches!(&**turn, TurnEvent::PromptPosted(prompt) if !prompt.purpose.is_conversation()) {
                    row.hidden.push(event.aggregate_id);
                }
                if row.hidden.contains(&event.aggregate_id) {
                    return Some(row);
                }
                match &**turn {
                    TurnEvent::PromptPosted(prompt) => {
                        if row.title.is_none() {
                            row.title = Some(derived(prompt.content.as_str()));
                            row.title_is_derived = true;
                        }
                        row.message_count += 1;
                    }
                    TurnEvent::AnswerRequested { .. } => row.message_count += 1,
                    ended if ended.attempt().is_some() => {}
                    _ => return Some(row),
                }
                if !matches!(&**turn, TurnEvent::AnswerRequested { .. }) {
                    row.last_message_at = Some(event.at);
                }
            }
            Payload::AccountErased | Payload::Other => return Some(row),
        }
        row.updated_at = event.at;
        Some(row)
    }

    async fn write(
        connection: &mut PgConnection,
        table: &str,
        rows: &[(Uuid, SessionRow)],
    ) -> Result<(), ProjectionError> {
        let sql = format!(
            "INSERT INTO {table} (id, owner_id, updated_at, archived, deleted, data) \
             SELECT id, owner_id, updated_at, archived, deleted, data::json \
             FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::boolean[], $5::boolean[], $6::text[]) \
                  AS row (id, owner_id, updated_at, archived, deleted, data) \
             ON CONFLICT (id) DO UPDATE SET updated_at = excluded.updated_at, archived = excluded.archived, \
             deleted = excluded.deleted, data = excluded.data"
        );
        sqlx::query(&sql)
            .bind(rows.iter().map(|(id, _)| *id).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.owner_id.as_uuid()).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.updated_at).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.is_archived()).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.is_deleted()).collect::<Vec<_>>())
            .bind(texts(rows)?)
            .execute(connection)
            .await?;
        Ok(())
    }
}
