//! The body of a chat completion. What isn't known is left alone: SDKs are newer than their servers.

use polyphony_domain::{
    content::{Conversation, Message, Part, Role, Tool, ToolCall, ToolChoice},
    turn::{Params, ResponseFormat},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    routes::v1::{
        call::{self, Call},
        content,
    },
};

/// A conversation, and how it is to be answered.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"model": "demo/demo", "messages": [{"role": "user", "content": "Hello!"}]}))]
pub struct ChatRequest {
    /// `provider/name`, a name or an id.
    #[schema(example = "demo/demo")]
    model: String,
    messages: Vec<ChatMessage>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    stop: Option<Stop>,
    seed: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    /// `none`, `minimal`, `low`, `medium` or `high`; `xhigh` and `max` are taken as `high`.
    reasoning_effort: Option<String>,
    /// The same, as some clients write it.
    reasoning: Option<Reasoning>,
    response_format: Option<Format>,
    tools: Option<Vec<ChatTool>>,
    tool_choice: Option<Choice>,
    parallel_tool_calls: Option<bool>,
    /// 1 is all that there is.
    n: Option<u32>,
    /// Whom the caller asks for: each user has a session of one's own for each day.
    user: Option<ChatUser>,
    /// The same, by its newer name.
    safety_identifier: Option<String>,
    /// Not offered; nor are the next three.
    logprobs: Option<bool>,
    functions: Option<Value>,
    audio: Option<Value>,
    web_search_options: Option<Value>,
}

/// A user, by an id or with one.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
enum ChatUser {
    Id(String),
    Person { id: String },
}

/// How hard to think.
#[derive(Deserialize, ToSchema)]
#[schema(as = ChatReasoning)]
struct Reasoning {
    effort: Option<String>,
}

/// What comes with a stream.
#[derive(Deserialize, ToSchema)]
#[schema(as = ChatStreamOptions)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// Texts that end the answer.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ChatStop)]
enum Stop {
    One(String),
    Many(Vec<String>),
}

/// Shape that the answer must have.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = ChatFormat)]
enum Format {
    Text,
    JsonObject,
    JsonSchema { json_schema: Schema },
}

/// A JSON schema.
#[derive(Deserialize, ToSchema)]
#[schema(as = ChatJsonSchema)]
struct Schema {
    name: String,
    schema: Option<Value>,
    strict: Option<bool>,
}

/// A tool.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ChatTool {
    Function { function: Function },
}

/// A function that the model may call.
#[derive(Deserialize, ToSchema)]
#[schema(as = ChatFunction)]
struct Function {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
    strict: Option<bool>,
}

/// `auto`, `none`, `required`, or a function.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ChatToolChoice)]
enum Choice {
    Word(String),
    Named { function: Named },
}

/// A function by its name.
#[derive(Deserialize, ToSchema)]
#[schema(as = ChatNamedFunction)]
struct Named {
    name: String,
}

/// A message. Instructions may stand anywhere; a tool's message names the call that it answers.
#[derive(Deserialize, ToSchema)]
struct ChatMessage {
    role: ChatRole,
    content: Option<Content>,
    tool_calls: Option<Vec<ChatCall>>,
    tool_call_id: Option<String>,
    refusal: Option<String>,
    /// What the model thought: it goes back to providers that want it beside its calls of tools.
    reasoning_content: Option<String>,
}

/// Who speaks.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ChatRole {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

/// Text, or parts.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ChatContent)]
enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

/// A part of a message; only the user's may hold pictures and files.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = ChatContentPart)]
enum ContentPart {
    Text { text: String },
    ImageUrl { image_url: Address },
    File { file: FilePart },
    Refusal { refusal: String },
}

/// Where a picture is: `data:<type>;base64,<data>` or an address.
#[derive(Deserialize, ToSchema)]
#[schema(as = ChatImageUrl)]
struct Address {
    url: String,
}

/// A document, as `data:<type>;base64,<data>` or an address.
#[derive(Deserialize, ToSchema)]
#[schema(as = ChatFile)]
struct FilePart {
    filename: Option<String>,
    file_data: Option<String>,
}

/// A call that the model made before.
#[derive(Deserialize, ToSchema)]
#[schema(as = ChatGivenCall)]
struct ChatCall {
    id: String,
    function: Called,
}

/// What it called, with what, as JSON text.
#[derive(Deserialize, ToSchema)]
#[schema(as = ChatCalledFunction)]
struct Called {
    name: String,
    arguments: String,
}

impl Content {
    fn parts(content: Option<Self>) -> Result<Vec<Part>, ApiError> {
        const FIELD: &str = "messages";
        match content {
            None => Ok(vec![]),
            Some(Self::Text(text)) if text.is_empty() => Ok(vec![]),
            Some(Self::Text(text)) => Ok(vec![Part::text(text)]),
            Some(Self::Parts(parts)) => {
                let part = |part| match part {
                    ContentPart::Text { text } => Ok(Part::text(text)),
                    ContentPart::ImageUrl { image_url } => {
                        content::picture(FIELD, content::address(FIELD, image_url.url)?)
                    }
                    ContentPart::Refusal { refusal } => Ok(Part::Refusal { text: refusal.into() }),
                    ContentPart::File { file } => {
                        let missing = || ApiError::invalid(FIELD, "a file must come with its file_data");
                        let media = content::address(FIELD, file.file_data.ok_or_else(missing)?)?;
                        Ok(Part::File { name: file.filename.unwrap_or_else(|| "file".to_owned()).into(), media })
                    }
                };
                parts.into_iter().map(part).collect()
            }
        }
    }

    fn text(content: Option<Self>) -> Result<String, ApiError> {
        let parts = Self::parts(content)?;
        let texts = parts.iter().map(|part| match part {
            Part::Text { text } => Ok(text.as_str()),
            _ => Err(ApiError::invalid("messages", "only the user's messages may hold more than text")),
        });
        Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
    }
}

fn add(conversation: &mut Conversation, message: ChatMessage) -> Result<(), ApiError> {
    let ChatMessage { role, content, tool_calls, tool_call_id, refusal, reasoning_content } = message;
    let (role, parts) = match role {
        ChatRole::System | ChatRole::Developer => {
            let text = Content::text(content)?;
            if conversation.messages.is_empty() {
                call::add_system(conversation, &text);
                return Ok(());
            }
            (Role::System, vec![Part::text(text)])
        }
        ChatRole::User => (Role::User, Content::parts(content)?),
        ChatRole::Assistant => {
            let thought = |text: String| Part::Reasoning { text: text.into(), opaque: None };
            let thoughts = reasoning_content.filter(|text| !text.is_empty()).map(thought);
            let mut parts: Vec<Part> = thoughts.into_iter().collect();
            parts.extend(Content::parts(content)?);
            parts.extend(refusal.map(|text| Part::Refusal { text: text.into() }));
            parts.extend(tool_calls.into_iter().flatten().map(|call| {
                let ChatCall { id, function: Called { name, arguments } } = call;
                Part::ToolCall(ToolCall { call_id: id, name, arguments: arguments.into(), opaque: None })
            }));
            (Role::Assistant, parts)
        }
        ChatRole::Tool => {
            let id = tool_call_id.ok_or_else(|| ApiError::invalid("messages", "a tool's needs its tool_call_id"))?;
            let text = Content::text(content)?;
            (Role::User, vec![call::tool_result(conversation, id, text, false)])
        }
    };
    if !parts.is_empty() {
        conversation.messages.push(Message { role, parts, message_id: None, provider: None });
    }
    Ok(())
}

impl ChatRequest {
    pub fn is_streamed(&self) -> bool {
        self.stream == Some(true)
    }

    pub fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|options| options.include_usage == Some(true))
    }

    /// The call in nobody's words.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` for what can't be offered or understood.
    pub fn into_call(self) -> Result<Call, ApiError> {
        if self.n.is_some_and(|n| n != 1) {
            return Err(ApiError::invalid("n", "must be 1"));
        }
        let is_given = |field: &Option<Value>| call::is_given(field.as_ref());
        call::refuse(&[
            ("logprobs", self.logprobs == Some(true)),
            ("functions", is_given(&self.functions)),
            ("audio", is_given(&self.audio)),
            ("web_search_options", is_given(&self.web_search_options)),
        ])?;
        if self.messages.is_empty() {
            return Err(ApiError::invalid("messages", "must not be empty"));
        }
        let mut conversation = Conversation::default();
        for message in self.messages {
            add(&mut conversation, message)?;
        }
        let stop = match self.stop {
            None => vec![],
            Some(Stop::One(stop)) => vec![stop],
            Some(Stop::Many(stops)) => stops,
        };
        let response_format = match self.response_format {
            None | Some(Format::Text) => None,
            Some(Format::JsonObject) => Some(ResponseFormat::JsonObject),
            Some(Format::JsonSchema { json_schema: Schema { name, schema, strict } }) => {
                let schema = schema.unwrap_or_else(|| Value::Object(serde_json::Map::new())).to_string().into();
                Some(ResponseFormat::JsonSchema { name, schema, strict })
            }
        };
        let params = Params {
            temperature: self.temperature,
            top_p: self.top_p,
            max_tokens: self.max_completion_tokens.or(self.max_tokens),
            stop,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: self.seed,
            reasoning_effort: self.reasoning_effort.or_else(|| self.reasoning?.effort).map(call::effort),
            response_format,
            parallel_tool_calls: self.parallel_tool_calls,
        };
        let tools = self.tools.into_iter().flatten().map(|ChatTool::Function { function }| {
            let Function { name, description, parameters, strict } = function;
            call::tool(name, description, parameters, strict)
        });
        let tool_choice = match self.tool_choice {
            None => None,
            Some(Choice::Named { function }) => Some(ToolChoice::Named(function.name)),
            Some(Choice::Word(word)) => Some(call::tool_choice(&word)?),
        };
        let tools: Vec<Tool> = tools.collect();
        let user = self.user.map(|(ChatUser::Id(id) | ChatUser::Person { id })| id).or(self.safety_identifier);
        Ok(Call { model: self.model, conversation, params, tools, tool_choice, user, follows: None })
    }
}
