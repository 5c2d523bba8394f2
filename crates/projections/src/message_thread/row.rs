//! One message as its view keeps it, and what each event does to it. Pure.

use chrono::{DateTime, Utc};
use polyphony_domain::{
    branch::Node,
    content::{Media, MediaSource, Part},
    ids::{AccountId, AnswerId, SessionId, TurnId},
    money::NanoUsd,
    personal::Personal,
    record::Cursor,
    session::SessionEvent,
    turn::{AnswerPurpose, AnswerStatus, AttemptRecord, ErrorRecord, ModelRef, Prompt, Standing, TurnEvent},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::typed::{Payload, TypedEvent};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageRole {
    /// The person.
    User,
    /// A model.
    Assistant,
}

/// A picture or document that belongs to a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Where it is in the file store; none for one that came with the prompt itself.
    pub file_id: Option<Uuid>,
    /// Its name; none for a picture.
    pub name: Option<String>,
    /// For example `image/png`.
    pub media_type: String,
}

impl Attachment {
    fn of(part: &Part) -> Option<Self> {
        let of = |name: Option<&Personal>, media: &Media| Self {
            file_id: if let MediaSource::Stored(id) = media.source { Some(id) } else { None },
            name: name.map(|name| name.as_str().to_owned()),
            media_type: media.media_type.clone(),
        };
        match part {
            Part::Image { media } => Some(of(None, media)),
            Part::File { name, media } => Some(of(Some(name), media)),
            _ => None,
        }
    }
}

/// A call of a tool that a model made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalledTool {
    /// Its id within the conversation.
    pub call_id: String,
    /// Tool.
    pub name: String,
    /// JSON text.
    pub arguments: String,
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
    /// Number of an answer among those to its prompt, from 1.
    pub version: u32,
    /// Newest attempt.
    pub attempt: u32,
    /// Answers that it is made from.
    pub derived_from: Vec<AnswerId>,
    /// What an answer is for.
    pub purpose: AnswerPurpose,
    /// Message that a prompt quotes.
    pub quote: Option<Uuid>,
    /// Prompt that it is an edited form of.
    pub edited_from: Option<TurnId>,
    /// What belongs to a prompt besides its text.
    pub attachments: Vec<Attachment>,
    /// The tools that an answer calls.
    pub tool_calls: Vec<CalledTool>,
    /// What the person thinks of it: rating and comment.
    pub feedback: Option<(i8, Option<String>)>,
    /// Whether it stays in every context.
    pub is_pinned: bool,
    /// Whether it was deleted; nothing is left of its text then.
    pub is_deleted: bool,
    /// Whether it is the prompt of a turn that is no conversation.
    pub is_hidden: bool,
    /// Place of the newest event by which a person chose it.
    pub chosen: Option<Cursor>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// Place of its first event, which orders the messages of a session.
    pub first: Cursor,
    /// Newest event that it has seen.
    pub last: Cursor,
}

impl From<&MessageRow> for Node {
    fn from(row: &MessageRow) -> Self {
        Self {
            id: row.id,
            parent: row.parent_id,
            standing: row.standing(),
            first: row.first,
            chosen: row.chosen,
            is_deleted: row.is_deleted,
            is_hidden: row.is_hidden,
        }
    }
}

impl MessageRow {
    /// What it is worth as an answer; none for a prompt.
    pub fn standing(&self) -> Option<Standing> {
        let is_answer = self.role == MessageRole::Assistant;
        is_answer.then(|| Standing::of(self.status, !self.content.is_empty(), self.purpose))
    }

    /// The message that an event begins; none for an event that changes one.
    pub(super) fn begin(event: &TypedEvent) -> Option<Self> {
        let Payload::Turn(turn) = &event.payload else { return None };
        let empty = Self {
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
            purpose: AnswerPurpose::Reply,
            quote: None,
            edited_from: None,
            attachments: vec![],
            tool_calls: vec![],
            feedback: None,
            is_pinned: false,
            is_deleted: false,
            is_hidden: false,
            chosen: None,
            created_at: event.at,
            completed_at: None,
            first: event.cursor,
            last: event.cursor,
        };
        match &**turn {
            TurnEvent::PromptPosted(prompt) => Some(empty.prompt(prompt, event.at)),
            TurnEvent::AnswerRequested { answer_id, version, request } => Some(Self {
                id: answer_id.as_uuid(),
                parent_id: Some(event.aggregate_id),
                role: MessageRole::Assistant,
                model: Some(request.model.clone()),
                status: AnswerStatus::Queued,
                version: *version,
                derived_from: request.derived_from.clone(),
                purpose: request.purpose,
                ..empty
            }),
            _ => None,
        }
    }

    fn prompt(self, prompt: &Prompt, at: DateTime<Utc>) -> Self {
        Self {
            parent_id: prompt.parent.map(|parent| parent.as_uuid()),
            content: prompt.content.as_str().to_owned(),
            quote: prompt.quote,
            edited_from: prompt.edited_from,
            attachments: prompt.parts.iter().filter_map(Attachment::of).collect(),
            is_hidden: !prompt.purpose.is_conversation(),
            completed_at: Some(at),
            ..self
        }
    }

    /// Applies an event of its turn.
    pub(super) fn apply_turn(&mut self, turn: &TurnEvent, at: DateTime<Utc>) {
        if let Some((_, record)) = turn.end() {
            self.end(record, at);
        }
        match turn {
            TurnEvent::AttemptStarted { attempt, .. } => {
                self.attempt = *attempt;
                self.status = AnswerStatus::Streaming;
            }
            TurnEvent::AnswerCompleted { finish, .. } => {
                self.status = AnswerStatus::Complete;
                self.finish_reason = Some(finish.reason.clone());
            }
            TurnEvent::AnswerStopped { .. } => {
                self.status = AnswerStatus::Stopped;
                self.finish_reason = Some("stopped".to_owned());
            }
            TurnEvent::AnswerFailed { error, .. } => {
                self.status = AnswerStatus::Failed;
                self.error = Some(error.clone());
            }
            TurnEvent::AnswerInterrupted { error, .. } => {
                self.status = AnswerStatus::Interrupted;
                self.finish_reason = Some("interrupted".to_owned());
                self.error = Some(error.clone());
            }
            TurnEvent::FeedbackGiven { feedback, .. } => {
                self.feedback = Some((feedback.rating, feedback.comment.clone().map(Personal::into_string)));
            }
            TurnEvent::FeedbackWithdrawn { .. } => self.feedback = None,
            TurnEvent::PromptPosted(_)
            | TurnEvent::AnswerRequested { .. }
            | TurnEvent::AttemptFailed { .. }
            | TurnEvent::StopRequested { .. }
            | TurnEvent::DiscussionClosed { .. } => {}
        }
    }

    fn end(&mut self, record: &AttemptRecord, at: DateTime<Utc>) {
        // An answer may be deleted while it is being made: its text is not to come back.
        if !self.is_deleted {
            record.text.as_str().clone_into(&mut self.content);
            self.reasoning = record.reasoning.clone().map(Personal::into_string);
            self.tool_calls = record.parts.iter().filter_map(called).collect();
        }
        self.model = Some(record.model.clone());
        self.tokens_input = record.usage.input;
        self.tokens_output = record.usage.output;
        self.tokens_cached = record.usage.cached_input;
        self.cost = record.cost;
        self.attempt = record.attempt;
        self.completed_at = Some(at);
    }

    /// Applies what was chosen, kept or deleted in its session.
    pub(super) fn apply_session(&mut self, session: &SessionEvent, event: &TypedEvent) {
        match session {
            SessionEvent::BranchActivated { .. } => self.chosen = Some(event.cursor),
            SessionEvent::MessagePinned { .. } => self.is_pinned = true,
            SessionEvent::MessageUnpinned { .. } => self.is_pinned = false,
            SessionEvent::MessageDeleted { .. } => {
                self.is_deleted = true;
                self.content.clear();
                self.reasoning = None;
                self.attachments.clear();
                self.tool_calls.clear();
                self.feedback = None;
            }
            _ => {}
        }
    }
}

fn called(part: &Part) -> Option<CalledTool> {
    let Part::ToolCall(call) = part else { return None };
    let arguments = call.arguments.as_str().to_owned();
    Some(CalledTool { call_id: call.call_id.clone(), name: call.name.clone(), arguments })
}
