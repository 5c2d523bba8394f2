//! Canonical content: typed parts in no provider's dialect. It is what the log stores and what adapters render.
//!
//! Everything that a person or a model said is [`Personal`]; names, ids and kinds stay readable after an erasure.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::personal::Personal;

/// A conversation in no provider's dialect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// What the model is told first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<Personal>,
    /// The messages, oldest first.
    pub messages: Vec<Message>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub parts: Vec<Part>,
    /// The stored message that it comes from; none for one that was made for the model, or that a client brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Uuid>,
    /// Provider of the model that said it: reasoning and opaque data go back to that provider only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

impl Message {
    /// A message of text alone.
    pub fn text(role: Role, text: impl Into<Personal>) -> Self {
        Self { role, parts: vec![Part::text(text)], message_id: None, provider: None }
    }

    /// Its texts, one for each part that is text.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| if let Part::Text { text } = part { Some(text.as_str()) } else { None })
    }
}

/// Who speaks. Tool results are the user's side of the conversation, as in most dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The person, or what answers a tool call.
    User,
    /// A model.
    Assistant,
    /// An instruction in mid-conversation.
    System,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Part {
    /// Text.
    Text {
        /// The text.
        text: Personal,
    },
    /// A picture.
    Image {
        /// The bytes, or where they are.
        media: Media,
    },
    /// A document.
    File {
        /// Its name.
        name: Personal,
        /// The bytes, or where they are.
        media: Media,
    },
    /// What a model thought.
    Reasoning {
        /// The text; empty where the provider shows none.
        text: Personal,
        /// The provider's signature or encrypted reasoning, to be echoed to the very same provider.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        opaque: Option<Personal>,
    },
    /// A model calls a tool.
    ToolCall(ToolCall),
    /// What a tool answered.
    ToolResult(ToolResult),
    /// A model refuses.
    Refusal {
        /// Its words.
        text: Personal,
    },
    /// A source that a model names.
    Citation(Citation),
}

impl Part {
    /// A part of text.
    pub fn text(text: impl Into<Personal>) -> Self {
        Self::Text { text: text.into() }
    }
}

/// A call of a tool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Id that its result refers to. Unique within a conversation: adapters replace ids that are empty or repeat.
    pub call_id: String,
    /// Tool.
    pub name: String,
    /// JSON text; `{}` where the model gave nothing.
    pub arguments: Personal,
    /// The provider's signature, to be echoed to the very same provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<Personal>,
}

/// The answer to a call of a tool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The call.
    pub call_id: String,
    /// Tool.
    pub name: String,
    /// Text that the model is given.
    pub content: Personal,
    /// Whether the tool failed.
    #[serde(default)]
    pub is_error: bool,
}

/// A source that a model names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Citation {
    /// Where it is; empty for a document of the conversation.
    pub url: Personal,
    /// Its title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Personal>,
}

/// Bytes of a picture or document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Media {
    /// For example `image/png`.
    pub media_type: String,
    /// The bytes, or where they are.
    pub source: MediaSource,
}

/// Where bytes are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaSource {
    /// Here, in base64.
    Inline(Personal),
    /// At an address that the provider fetches itself.
    Url(Personal),
    /// In the file store. Must be replaced by the bytes before an adapter renders it.
    Stored(Uuid),
}

/// A tool that a model may call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Name.
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Personal>,
    /// JSON schema of its arguments, as JSON text.
    pub parameters: Personal,
    /// Whether the provider is to enforce the schema; none leaves the provider's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

/// Whether a model has to call a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As it likes.
    Auto,
    /// It must not.
    None,
    /// It must call one.
    Required,
    /// It must call this one.
    Named(String),
}
