//! The messages of a session: a prompt is a user's message, an answer an assistant's.

mod branch;
pub(crate) mod query;

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use polyphony_domain::{
    ids::{AccountId, AnswerId, SessionId},
    money::NanoUsd,
    personal::Personal,
    record::{Cursor, StoredEvent},
    turn::{AnswerStatus, ErrorRecord, ModelRef, Turn, TurnEvent},
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    ProjectionError,
    model::{RowModel, has_seen, texts},
    typed::{Payload, TypedEvent, is_erasure, is_of_sessions},
};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageRole {
    /// The person.
    User,
    /// A model.
    Assistant,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageRow {
    /// Id of the turn for a prompt, of the answer for an answer.
    pub id: Uuid,
    /// Whose.
    pub owner_id: AccountId,
    /// Its session.
    pub session_id: SessionId,
    /// The message that it hangs from.
    pub parent_id: Option<Uuid>,
    /// Who speaks.
    pub role: MessageRole,
    /// The text.
    pub content: String,
    /// The reasoning.
    pub reasoning: Option<String>,
    /// Model; none for a prompt.
    pub model: Option<ModelRef>,
    /// Where it stands; prompts are complete.
    pub status: AnswerStatus,
    /// How it ended.
    pub finish_reason: Option<String>,
    /// Why it failed.
    pub error: Option<ErrorRecord>,
    /// Tokens of the request.
    pub tokens_input: u64,
    /// Tokens of the answer.
    pub tokens_output: u64,
    /// Cached tokens of the request.
    pub tokens_cached: u64,
    /// Cost.
    pub cost: NanoUsd,
    /// Place among its siblings, from 1.
    pub version: u32,
    /// Newest attempt.
    pub attempt: u32,
    /// Answers that it is made from.
    pub derived_from: Vec<AnswerId>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// Place of its first event, which orders the messages of a session.
    pub first: Cursor,
    /// Newest event that it has seen.
    pub last: Cursor,
}

impl MessageRow {
    /// Whether it is an answer with something to go on from; the rule of `Answer::has_usable_text`.
    pub fn is_usable(&self) -> bool {
        self.role == MessageRole::Assistant && self.status.is_final() && !self.content.is_empty()
    }
}

/// Some messages of a session.
#[derive(Clone, Debug)]
pub struct MessagePage {
    /// Oldest first, each with the number of its versions.
    pub messages: Vec<(MessageRow, u32)>,
    /// Where the page before this one ends; none at the beginning.
    pub next_before: Option<Uuid>,
}

/// The read model.
pub(crate) struct MessageThread;

fn answer_of(event: &TurnEvent) -> Option<AnswerId> {
    match event {
        TurnEvent::PromptPosted(_) => None,
        TurnEvent::AnswerRequested { answer_id, .. }
        | TurnEvent::AttemptStarted { answer_id, .. }
        | TurnEvent::AttemptFailed { answer_id, .. }
        | TurnEvent::StopRequested { answer_id }
        | TurnEvent::AnswerCompleted { answer_id, .. }
        | TurnEvent::AnswerFailed { answer_id, .. }
        | TurnEvent::AnswerStopped { answer_id, .. }
        | TurnEvent::AnswerInterrupted { answer_id, .. } => Some(*answer_id),
    }
}

fn begin(event: &TypedEvent, turn: &TurnEvent) -> Option<MessageRow> {
    let empty = MessageRow {
        id: event.aggregate_id,
        owner_id: event.owner_id,
        session_id: SessionId::new(event.root_id),
        parent_id: None,
        role: MessageRole::User,
        content: String::new(),
        reasoning: None,
        model: None,
        status: AnswerStatus::Complete,
        finish_reason: None,
        error: None,
        tokens_input: 0,
        tokens_output: 0,
        tokens_cached: 0,
        cost: NanoUsd::default(),
        version: 1,
        attempt: 0,
        derived_from: vec![],
        created_at: event.at,
        completed_at: None,
        first: event.cursor,
        last: event.cursor,
    };
    match turn {
        TurnEvent::PromptPosted(prompt) => Some(MessageRow {
            parent_id: prompt.parent.map(|parent| parent.as_uuid()),
            content: prompt.content.as_str().to_owned(),
            completed_at: Some(event.at),
            ..empty
        }),
        TurnEvent::AnswerRequested { answer_id, version, request } => Some(MessageRow {
            id: answer_id.as_uuid(),
            parent_id: Some(event.aggregate_id),
            role: MessageRole::Assistant,
            model: Some(request.model.clone()),
            status: AnswerStatus::Queued,
            version: *version,
            derived_from: request.derived_from.clone(),
            ..empty
        }),
        _ => None,
    }
}

impl RowModel for MessageThread {
    const NAME: &'static str = "message_thread_v1";
    const TABLE: &'static str = "read.messages";
    const SESSION: &'static str = "session_id";
    type Row = MessageRow;

    fn wants(event: &StoredEvent) -> bool {
        event.aggregate_type == Turn::TYPE && is_of_sessions(event, &["stop_requested"]) || is_erasure(event)
    }

    fn key(event: &TypedEvent) -> Option<Uuid> {
        let Payload::Turn(turn) = &event.payload else { return None };
        Some(answer_of(turn).map_or(event.aggregate_id, |answer| answer.as_uuid()))
    }

    fn reduce(row: Option<MessageRow>, event: &TypedEvent) -> Option<MessageRow> {
        let Payload::Turn(turn) = &event.payload else { return row };
        let Some(mut row) = row else { return begin(event, turn) };
        if has_seen(row.last, event) {
            return Some(row);
        }
        row.last = event.cursor;
        if let TurnEvent::AttemptStarted { attempt, .. } = &**turn {
            row.attempt = *attempt;
            row.status = AnswerStatus::Streaming;
        }
        if let Some((_, record)) = turn.end() {
            row.content = record.text.as_str().to_owned();
            row.reasoning = record.reasoning.clone().map(Personal::into_string);
            row.model = Some(record.model.clone());
            row.tokens_input = record.usage.input;
            row.tokens_output = record.usage.output;
            row.tokens_cached = record.usage.cached_input;
            row.cost = record.cost;
            row.attempt = record.attempt;
            row.completed_at = Some(event.at);
        }
        match &**turn {
            TurnEvent::AnswerCompleted { finish, .. } => {
                row.status = AnswerStatus::Complete;
                row.finish_reason = Some(finish.reason.clone());
            }
            TurnEvent::AnswerStopped { .. } => {
                row.status = AnswerStatus::Stopped;
                row.finish_reason = Some("stopped".to_owned());
            }
            TurnEvent::AnswerFailed { error, .. } => {
                row.status = AnswerStatus::Failed;
                row.error = Some(error.clone());
            }
            TurnEvent::AnswerInterrupted { error, .. } => {
                row.status = AnswerStatus::Interrupted;
                row.finish_reason = Some("interrupted".to_owned());
                row.error = Some(error.clone());
            }
            _ => {}
        }
        Some(row)
    }

    async fn write(
        connection: &mut PgConnection,
        table: &str,
        rows: &[(Uuid, MessageRow)],
    ) -> Result<(), ProjectionError> {
        let sql = format!(
            "INSERT INTO {table} \
             (id, owner_id, session_id, parent_id, is_answer, is_usable, first_xid, first_position, data) \
             SELECT id, owner_id, session_id, parent_id, is_answer, is_usable, xid::xid8, position, data::json \
             FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::boolean[], $6::boolean[], $7::text[], \
                         $8::bigint[], $9::text[]) \
                  AS row (id, owner_id, session_id, parent_id, is_answer, is_usable, xid, position, data) \
             ON CONFLICT (id) DO UPDATE SET is_usable = excluded.is_usable, data = excluded.data"
        );
        sqlx::query(&sql)
            .bind(rows.iter().map(|(id, _)| *id).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.owner_id.as_uuid()).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.session_id.as_uuid()).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.parent_id).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.role == MessageRole::Assistant).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.is_usable()).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.first.xid.to_string()).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.first.position).collect::<Vec<_>>())
            .bind(texts(rows)?)
            .execute(connection)
            .await?;
        Ok(())
    }
}
