//! What a target could not take: the material of the context receipt.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Something that was left out of a request, or rewritten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// What.
    pub kind: LossKind,
    /// The stored message that it belonged to; none for what belongs to the whole request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Uuid>,
    /// Why, and what became of it; for a person. Never holds what a person wrote.
    pub reason: String,
}

/// What was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// A picture.
    Image,
    /// A document.
    File,
    /// Reasoning, or a provider's signature.
    Reasoning,
    /// A call of a tool.
    ToolCall,
    /// The answer to a call of a tool.
    ToolResult,
    /// A tool that was offered.
    Tool,
    /// A refusal.
    Refusal,
    /// A source.
    Citation,
    /// An instruction in mid-conversation.
    System,
    /// A message as a whole, or its text.
    Message,
    /// A parameter.
    Parameter,
}

impl LossKind {
    /// Its word in receipts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::File => "file",
            Self::Reasoning => "reasoning",
            Self::ToolCall => "tool_call",
            Self::ToolResult => "tool_result",
            Self::Tool => "tool",
            Self::Refusal => "refusal",
            Self::Citation => "citation",
            Self::System => "system",
            Self::Message => "message",
            Self::Parameter => "parameter",
        }
    }
}

impl Loss {
    /// The loss of something that belongs to the whole request.
    pub fn of(kind: LossKind, reason: impl Into<String>) -> Self {
        Self { kind, message_id: None, reason: reason.into() }
    }

    /// The loss of a part of a message.
    pub fn within(message_id: Option<Uuid>, kind: LossKind, reason: impl Into<String>) -> Self {
        Self { kind, message_id, reason: reason.into() }
    }

    /// A parameter that was not sent.
    pub(crate) fn parameter(name: &str, reason: &str) -> Self {
        Self::of(LossKind::Parameter, format!("{name}: {reason}"))
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
