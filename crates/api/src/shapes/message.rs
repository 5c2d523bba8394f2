//! Messages as the contract shows them.

use chrono::{DateTime, Utc};
use polyphony_domain::turn::ErrorRecord;
use polyphony_projections::{
    Placed,
    message_thread::{Attachment, CalledTool},
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

/// Why an answer failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageError {
    pub code: String,
    pub message: String,
}

impl From<ErrorRecord> for MessageError {
    fn from(error: ErrorRecord) -> Self {
        Self { code: error.code, message: error.message }
    }
}

/// A picture or document of a prompt.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttachmentShape {
    pub file_id: Option<Uuid>,
    pub name: Option<String>,
    pub media_type: String,
}

impl From<Attachment> for AttachmentShape {
    fn from(Attachment { file_id, name, media_type }: Attachment) -> Self {
        Self { file_id, name, media_type }
    }
}

/// A call of a tool.
#[derive(Debug, Serialize, ToSchema)]
pub struct ToolCallShape {
    pub call_id: String,
    pub name: String,
    /// JSON text, as the model gave it.
    pub arguments: String,
}

impl From<CalledTool> for ToolCallShape {
    fn from(CalledTool { call_id, name, arguments }: CalledTool) -> Self {
        Self { call_id, name, arguments }
    }
}

/// What a person thinks of an answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct FeedbackShape {
    pub rating: i8,
    pub comment: Option<String>,
}

/// A message.
#[derive(Debug, Serialize, ToSchema)]
pub struct Message {
    pub id: Uuid,
    pub session_id: Uuid,
    pub parent_id: Option<Uuid>,
    pub role: Value,
    pub content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    pub model_id: Option<Uuid>,
    pub model: Option<String>,
    pub provider: Option<String>,
    pub status: &'static str,
    pub finish_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<MessageError>,
    pub tokens_input: u64,
    pub tokens_output: u64,
    pub tokens_cached: u64,
    pub cost_usd: String,
    pub version: u32,
    pub versions: u32,
    pub attempt: u32,
    pub derived_from: Vec<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote_message_id: Option<Uuid>,
    pub attachments: Vec<AttachmentShape>,
    pub tool_calls: Vec<ToolCallShape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feedback: Option<FeedbackShape>,
    /// Whether it stays in every context.
    pub is_pinned: bool,
    pub created_at: DateTime<Utc>,
    pub completed_at: Option<DateTime<Utc>>,
    /// `purpose` of an answer that is more than a reply: `{kind: synthesis | comment | verdict, round?}`; `edited_from`
    /// of a prompt that is an edited form of another.
    pub metadata: Value,
}

impl From<Placed> for Message {
    fn from(Placed { row, version, versions }: Placed) -> Self {
        let mut metadata = Map::new();
        if !row.purpose.is_reply() {
            metadata.insert("purpose".to_owned(), json!(row.purpose));
        }
        if let Some(edited_from) = row.edited_from {
            metadata.insert("edited_from".to_owned(), json!(edited_from));
        }
        Self {
            id: row.id,
            session_id: row.session_id.as_uuid(),
            parent_id: row.parent_id,
            role: json!(row.role),
            content: row.content,
            reasoning: row.reasoning,
            model_id: row.model.as_ref().map(|model| model.id.as_uuid()),
            provider: row.model.as_ref().map(|model| model.provider.clone()),
            model: row.model.map(|model| model.name),
            status: row.status.as_str(),
            finish_reason: row.finish_reason,
            error: row.error.map(MessageError::from),
            tokens_input: row.tokens_input,
            tokens_output: row.tokens_output,
            tokens_cached: row.tokens_cached,
            cost_usd: row.cost.to_string(),
            version,
            versions,
            attempt: row.attempt,
            derived_from: row.derived_from.iter().map(|answer| answer.as_uuid()).collect(),
            quote_message_id: row.quote,
            attachments: row.attachments.into_iter().map(AttachmentShape::from).collect(),
            tool_calls: row.tool_calls.into_iter().map(ToolCallShape::from).collect(),
            feedback: row.feedback.map(|(rating, comment)| FeedbackShape { rating, comment }),
            is_pinned: row.is_pinned,
            created_at: row.created_at,
            completed_at: row.completed_at,
            metadata: Value::Object(metadata),
        }
    }
}
