//! What is asked in a turn: the prompt, and how each answer to it is to be made.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    content::{Part, Tool, ToolChoice},
    ids::{AnswerId, KeyId, ModelId, SessionId, TurnId},
    money::NanoUsd,
    personal::Personal,
};

/// A model as the log names it: the names stay readable when the catalogue has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelRef {
    /// Id in the catalogue.
    pub id: ModelId,
    /// Provider, for example `openai`.
    pub provider: String,
    /// The provider's name of the model, for example `gpt-4o`.
    pub name: String,
}

/// Sampling parameters of an answer; what is absent is the provider's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Most tokens of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Texts that end the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    /// For answers that can be had again, where the provider offers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// `none`, `minimal`, `low`, `medium` or `high`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// Shape that the answer must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat>,
    /// Whether several tools may be called at once; none leaves the provider's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
}

/// Shape that an answer must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Any JSON object.
    JsonObject,
    /// JSON of a schema.
    JsonSchema {
        /// Name of the schema.
        name: String,
        /// The schema, as JSON text.
        schema: Personal,
        /// Whether the provider is to enforce it; none leaves the provider's default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
}

/// What a turn is for. Turns that are not of the conversation are hidden from it, but kept and billed like any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TurnPurpose {
    /// A person asks.
    #[default]
    Conversation,
    /// A model summarises the turns from `first` to `last` of a branch, for the context of later ones.
    Summary {
        /// First turn that the summary stands for.
        first: TurnId,
        /// Last turn that it stands for.
        last: TurnId,
        /// Whether a person asked for it: it then stands for its turns even where they would fit.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_request: bool,
    },
    /// A model finds a title for the session.
    Title,
}

impl TurnPurpose {
    /// Whether a person sees the turn in the conversation.
    pub fn is_conversation(&self) -> bool {
        *self == Self::Conversation
    }
}

/// A prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// Session that it was asked in.
    pub session_id: SessionId,
    /// Answer that it replies to.
    pub parent: Option<AnswerId>,
    /// The text.
    pub content: Personal,
    /// What belongs to it besides the text: pictures, documents, tool results.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// What the turn is for.
    #[serde(default, skip_serializing_if = "TurnPurpose::is_conversation")]
    pub purpose: TurnPurpose,
    /// Message that it quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<Uuid>,
    /// Turn whose prompt it is an edited form of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_from: Option<TurnId>,
    /// The conversation before it as the client gave it, instead of the session's own; JSON text of a
    /// [`crate::content::Conversation`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Personal>,
    /// How the models are to discuss it; none where each of them simply answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discussion: Option<Box<Discussion>>,
}

/// The plan of a discussion: its members are the models that are asked with the prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Discussion {
    /// Rounds of comments after the answers.
    pub rounds: u32,
    /// How the chair is asked for the verdict.
    pub chair: AnswerRequest,
    /// No further round begins once this much has been spent; the verdict is asked for all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<NanoUsd>,
}

/// What an answer is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AnswerPurpose {
    /// It answers the prompt.
    #[default]
    Reply,
    /// It makes one answer of several.
    Synthesis,
    /// It comments on the other models' answers.
    Comment {
        /// Round of the discussion, from 1.
        round: u32,
    },
    /// It closes a discussion.
    Verdict,
}

impl AnswerPurpose {
    /// Whether it simply answers the prompt.
    pub fn is_reply(&self) -> bool {
        *self == Self::Reply
    }
}

/// How an answer is to be made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnswerRequest {
    /// Model to ask.
    pub model: ModelRef,
    /// Sampling parameters.
    pub params: Params,
    /// Stored key to use first; none for a provider that needs none.
    pub key_id: Option<KeyId>,
    /// Answers that this one is made from.
    pub derived_from: Vec<AnswerId>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "AnswerPurpose::is_reply")]
    pub purpose: AnswerPurpose,
    /// Models to turn to, in this order, when the model can't answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<ModelRef>,
    /// Tools that the model may call; the client runs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// Whether it has to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    /// What the model is told first where the session says nothing: the person's own setting for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<Personal>,
    /// What the person wants besides, where the purpose is more than a reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<Personal>,
}
