//! The messages of a session: a prompt is a user's message, an answer an assistant's.

pub(crate) mod query;
mod row;

use cqrs_es::Aggregate;
use polyphony_domain::{
    ids::AnswerId,
    record::StoredEvent,
    session::{Session, SessionEvent},
    turn::TurnEvent,
};
use sqlx::PgConnection;
use uuid::Uuid;

pub use self::row::{Attachment, CalledTool, MessageRole, MessageRow};
use crate::{
    ProjectionError,
    model::{RowModel, has_seen, texts},
    typed::{Payload, TypedEvent, is_erasure, is_of_sessions},
};

/// A message with its place among its versions.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The message.
    pub row: MessageRow,
    /// Its place among them, from 1; deleted ones keep theirs.
    pub version: u32,
    /// How many there are.
    pub versions: u32,
}

/// Some messages of a session.
#[derive(Clone, Debug)]
pub struct MessagePage {
    /// Oldest first.
    pub messages: Vec<Placed>,
    /// Where the page before this one ends; none at the beginning.
    pub next_before: Option<Uuid>,
}

/// The read model.
pub(crate) struct MessageThread;

fn answer_of(event: &TurnEvent) -> Option<AnswerId> {
    match event {
        TurnEvent::PromptPosted(_) | TurnEvent::DiscussionClosed { .. } => None,
        TurnEvent::AnswerRequested { answer_id, .. }
        | TurnEvent::AttemptStarted { answer_id, .. }
        | TurnEvent::AttemptFailed { answer_id, .. }
        | TurnEvent::StopRequested { answer_id }
        | TurnEvent::AnswerCompleted { answer_id, .. }
        | TurnEvent::AnswerFailed { answer_id, .. }
        | TurnEvent::AnswerStopped { answer_id, .. }
        | TurnEvent::AnswerInterrupted { answer_id, .. }
        | TurnEvent::FeedbackGiven { answer_id, .. }
        | TurnEvent::FeedbackWithdrawn { answer_id } => Some(*answer_id),
    }
}

impl RowModel for MessageThread {
    const NAME: &'static str = "message_thread_v1";
    const TABLE: &'static str = "read.messages";
    const SESSION: &'static str = "session_id";
    type Row = MessageRow;

    fn wants(event: &StoredEvent) -> bool {
        let of_a_message = ["branch_activated", "message_pinned", "message_unpinned", "message_deleted"];
        match event.aggregate_type.as_str() {
            Session::TYPE => of_a_message.contains(&event.event_type.as_str()) || is_erasure(event),
            _ => is_of_sessions(event, &["stop_requested", "discussion_closed"]) || is_erasure(event),
        }
    }

    fn key(event: &TypedEvent) -> Option<Uuid> {
        match &event.payload {
            Payload::Turn(turn) => Some(answer_of(turn).map_or(event.aggregate_id, |answer| answer.as_uuid())),
            Payload::Session(
                SessionEvent::BranchActivated { message_id }
                | SessionEvent::MessagePinned { message_id }
                | SessionEvent::MessageUnpinned { message_id }
                | SessionEvent::MessageDeleted { message_id, .. },
            ) => Some(*message_id),
            Payload::Session(_) | Payload::AccountErased | Payload::Other => None,
        }
    }

    fn reduce(row: Option<MessageRow>, event: &TypedEvent) -> Option<MessageRow> {
        let Some(mut row) = row else { return MessageRow::begin(event) };
        if has_seen(row.last, event) {
            return Some(row);
        }
        row.last = event.cursor;
        match &event.payload {
            Payload::Turn(turn) => row.apply_turn(turn, event.at),
            Payload::Session(session) => row.apply_session(session, event),
            Payload::AccountErased | Payload::Other => {}
        }
        Some(row)
    }

    async fn write(
        connection: &mut PgConnection,
        table: &str,
        rows: &[(Uuid, MessageRow)],
    ) -> Result<(), ProjectionError> {
        let sql = format!(
            "INSERT INTO {table} (id, owner_id, session_id, parent_id, is_answer, standing, is_deleted, is_hidden, \
             first_xid, first_position, chosen_xid, chosen_position, data) \
             SELECT id, owner_id, session_id, parent_id, is_answer, standing, is_deleted, is_hidden, \
             xid::xid8, position, chosen_xid::xid8, chosen_position, data::json \
             FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::boolean[], $6::smallint[], $7::boolean[], \
                         $8::boolean[], $9::text[], $10::bigint[], $11::text[], $12::bigint[], $13::text[]) \
                  AS row (id, owner_id, session_id, parent_id, is_answer, standing, is_deleted, is_hidden, xid, position, \
                          chosen_xid, chosen_position, data) \
             ON CONFLICT (id) DO UPDATE SET standing = excluded.standing, is_deleted = excluded.is_deleted, \
             chosen_xid = excluded.chosen_xid, chosen_position = excluded.chosen_position, data = excluded.data"
        );
        sqlx::query(&sql)
            .bind(rows.iter().map(|(id, _)| *id).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.owner_id.as_uuid()).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.session_id.as_uuid()).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.parent_id).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.role == MessageRole::Assistant).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.standing().map(query::number)).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.is_deleted).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.is_hidden).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.first.xid.to_string()).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.first.position).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.chosen.map(|at| at.xid.to_string())).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.chosen.map(|at| at.position)).collect::<Vec<_>>())
            .bind(texts(rows)?)
            .execute(connection)
            .await?;
        Ok(())
    }
}
