//! The body of a message. What isn't known is left alone: SDKs are newer than their servers.

use polyphony_domain::{
    content::{Conversation, Media, Message, Part, Role, ToolCall, ToolChoice},
    turn::{Params, ResponseFormat},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::thoughts;
use crate::{
    error::ApiError,
    routes::v1::{
        call::{self, Call},
        content,
    },
};

const FIELD: &str = "messages";

/// A conversation, and how it is to be answered.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"model": "demo/demo", "max_tokens": 1000, "messages": [{"role": "user", "content": "Hello!"}]}))]
pub struct MessagesRequest {
    /// `provider/name`, a name or an id.
    #[schema(example = "demo/demo")]
    model: String,
    /// Needed, except for counting.
    #[schema(example = 1000)]
    max_tokens: Option<u32>,
    messages: Vec<Turn>,
    system: Option<Blocks>,
    stream: Option<bool>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    stop_sequences: Option<Vec<String>>,
    tools: Option<Vec<MessageTool>>,
    tool_choice: Option<Choice>,
    thinking: Option<Thinking>,
    output_config: Option<OutputConfig>,
    metadata: Option<Metadata>,
    /// Not offered.
    mcp_servers: Option<Value>,
}

/// A message.
#[derive(Deserialize, ToSchema)]
#[schema(as = AnthropicTurn)]
struct Turn {
    role: TurnRole,
    content: Blocks,
}

/// Who speaks.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AnthropicRole)]
enum TurnRole {
    User,
    Assistant,
    System,
}

/// Text, or blocks.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = AnthropicContent)]
enum Blocks {
    Text(String),
    Blocks(Vec<Block>),
}

/// A block of a message.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = AnthropicGivenBlock)]
enum Block {
    Text {
        text: String,
    },
    Image {
        source: Source,
    },
    Document {
        source: Source,
        title: Option<String>,
    },
    Thinking {
        thinking: String,
        signature: Option<String>,
    },
    RedactedThinking {
        data: String,
    },
    ToolUse {
        id: String,
        name: String,
        input: Value,
    },
    ToolResult {
        tool_use_id: String,
        #[schema(no_recursion)]
        content: Option<Blocks>,
        is_error: Option<bool>,
    },
}

/// Where a picture or document is.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = AnthropicSource)]
enum Source {
    Base64 { media_type: String, data: String },
    Url { url: String },
    Text { data: String },
}

/// A tool of the caller's; those that a provider runs itself are not offered.
#[derive(Deserialize, ToSchema)]
#[schema(as = AnthropicTool)]
struct MessageTool {
    name: String,
    description: Option<String>,
    /// Needed: a tool without one is the provider's own.
    input_schema: Option<Value>,
}

/// `auto`, `any`, `none`, or `tool` with its name.
#[derive(Deserialize, ToSchema)]
#[schema(as = AnthropicToolChoice)]
struct Choice {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

/// `enabled` with a budget, `adaptive`, `between_tools`, or `disabled`.
#[derive(Deserialize, ToSchema)]
#[schema(as = AnthropicThinking)]
struct Thinking {
    #[serde(rename = "type")]
    kind: String,
    budget_tokens: Option<u32>,
}

/// How hard to think, and the shape that the answer must have.
#[derive(Deserialize, ToSchema)]
#[schema(as = AnthropicOutputConfig)]
struct OutputConfig {
    effort: Option<String>,
    format: Option<Format>,
}

/// Shape that the answer must have.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = AnthropicFormat)]
enum Format {
    JsonSchema { schema: Value },
}

/// Whom the caller asks for: each user has a session of one's own for each day.
#[derive(Deserialize, ToSchema)]
#[schema(as = AnthropicMetadata)]
struct Metadata {
    user_id: Option<String>,
}

impl Thinking {
    /// The effort that is the nearest to what is asked; none where it isn't to think.
    fn effort(self, asked: Option<String>) -> Option<String> {
        let word = match (self.kind.as_str(), self.budget_tokens.unwrap_or_default()) {
            ("adaptive" | "between_tools", _) => {
                return Some(asked.map_or_else(|| "high".to_owned(), call::effort));
            }
            ("enabled", 0..4_096) => "low",
            ("enabled", 4_096..16_384) => "medium",
            ("enabled", _) => "high",
            _ => return None,
        };
        Some(word.to_owned())
    }
}

impl Source {
    fn media(self) -> Result<Media, ApiError> {
        match self {
            Self::Base64 { media_type, data } => content::inline(FIELD, &media_type, data),
            Self::Url { url } => content::address(FIELD, url),
            Self::Text { .. } => Err(ApiError::invalid(FIELD, "a picture can't be a text")),
        }
    }
}

impl Blocks {
    fn blocks(self) -> Vec<Block> {
        match self {
            Self::Text(text) => vec![Block::Text { text }],
            Self::Blocks(blocks) => blocks,
        }
    }

    /// The text of a tool's result, and the pictures and documents beside it.
    fn result(self) -> Result<(String, Vec<Part>), ApiError> {
        let (mut texts, mut beside) = (vec![], vec![]);
        for block in self.blocks() {
            match block {
                Block::Text { text } => texts.push(text),
                Block::Image { .. } | Block::Document { .. } => beside.extend(parts(&Conversation::default(), block)?),
                _ => {
                    return Err(ApiError::invalid(FIELD, "the result of a tool may hold text, pictures and documents"));
                }
            }
        }
        Ok((texts.join("\n"), beside))
    }

    /// The texts of blocks that may only be texts.
    fn text(self, whose: &str) -> Result<String, ApiError> {
        let texts = self.blocks().into_iter().map(|block| match block {
            Block::Text { text } => Ok(text),
            _ => Err(ApiError::invalid(FIELD, format!("{whose} may only hold text"))),
        });
        Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
    }
}

/// Whose the thoughts of a message are.
fn origin(block: &Block) -> Option<&str> {
    match block {
        Block::Thinking { signature: Some(signature), .. } => thoughts::origin(signature),
        Block::RedactedThinking { .. } => Some(thoughts::FAMILY),
        _ => None,
    }
}

/// The parts of a block: none of an empty text, several of a result with pictures.
fn parts(conversation: &Conversation, block: Block) -> Result<Vec<Part>, ApiError> {
    Ok(vec![match block {
        Block::Text { text } if text.is_empty() => return Ok(vec![]),
        Block::Text { text } => Part::text(text),
        Block::Image { source } => content::picture(FIELD, source.media()?)?,
        Block::Document { source: Source::Text { data }, .. } => Part::text(data),
        Block::Document { source, title } => {
            Part::File { name: title.unwrap_or_else(|| "document".to_owned()).into(), media: source.media()? }
        }
        Block::Thinking { thinking, signature } => thoughts::taken(thinking, signature.as_deref().unwrap_or_default()),
        Block::RedactedThinking { data } => thoughts::redacted(&data),
        Block::ToolUse { id, name, input } => {
            Part::ToolCall(ToolCall { call_id: id, name, arguments: input.to_string().into(), opaque: None })
        }
        Block::ToolResult { tool_use_id, content, is_error } => {
            let (text, beside) = content.map(Blocks::result).transpose()?.unwrap_or_default();
            let result = call::tool_result(conversation, tool_use_id, text, is_error == Some(true));
            return Ok([result].into_iter().chain(beside).collect());
        }
    }])
}

impl MessagesRequest {
    pub fn is_streamed(&self) -> bool {
        self.stream == Some(true)
    }

    /// Counting needs no bound, asking does.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` without one.
    pub fn check_most(&self) -> Result<(), ApiError> {
        if self.max_tokens.is_some() { Ok(()) } else { Err(ApiError::invalid("max_tokens", "is needed")) }
    }

    /// The call in nobody's words.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` for what can't be offered or understood.
    pub fn into_call(self) -> Result<Call, ApiError> {
        call::refuse(&[("mcp_servers", call::is_given(self.mcp_servers.as_ref()))])?;
        let mut conversation = Conversation::default();
        if let Some(system) = self.system {
            conversation.system = Some(system.text("system")?).filter(|text| !text.is_empty()).map(Into::into);
        }
        for Turn { role, content } in self.messages {
            let role = match role {
                TurnRole::User => Role::User,
                TurnRole::Assistant => Role::Assistant,
                TurnRole::System => {
                    let text = content.text("an instruction")?;
                    conversation.messages.push(Message::text(Role::System, text));
                    continue;
                }
            };
            let blocks = content.blocks();
            let provider = blocks.iter().find_map(origin).map(str::to_owned);
            let parts = blocks.into_iter().map(|block| parts(&conversation, block));
            let parts: Vec<Part> = parts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
            if !parts.is_empty() {
                conversation.messages.push(Message { role, parts, message_id: None, provider });
            }
        }
        let choice = self.tool_choice;
        let is_single = choice.as_ref().is_some_and(|choice| choice.disable_parallel_tool_use == Some(true));
        let tool_choice = match choice {
            None => None,
            Some(Choice { kind, name: Some(name), .. }) if kind == "tool" => Some(ToolChoice::Named(name)),
            Some(Choice { kind, .. }) => Some(call::tool_choice(&kind)?),
        };
        let (asked, format) = self.output_config.map(|config| (config.effort, config.format)).unwrap_or_default();
        let effort = self.thinking.and_then(|thinking| thinking.effort(asked));
        let response_format = format.map(|Format::JsonSchema { schema }| ResponseFormat::JsonSchema {
            name: "answer".to_owned(),
            schema: schema.to_string().into(),
            strict: Some(true),
        });
        let params = Params {
            temperature: self.temperature,
            top_p: self.top_p,
            max_tokens: self.max_tokens,
            stop: self.stop_sequences.unwrap_or_default(),
            reasoning_effort: effort,
            response_format,
            parallel_tool_calls: is_single.then_some(false),
            ..Params::default()
        };
        let tool = |tool: MessageTool| {
            let own =
                || ApiError::invalid("tools", "a tool needs its input_schema: those of providers are not offered");
            Ok(call::tool(tool.name, tool.description, Some(tool.input_schema.ok_or_else(own)?), None))
        };
        let tools = self.tools.into_iter().flatten().map(tool).collect::<Result<_, ApiError>>()?;
        let user = self.metadata.and_then(|metadata| metadata.user_id);
        Ok(Call { model: self.model, conversation, params, tools, tool_choice, user, follows: None })
    }
}
