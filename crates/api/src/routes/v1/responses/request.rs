//! The body of a response. What isn't known is left alone: SDKs are newer than their servers.

use polyphony_domain::{
    content::{Conversation, Message, Part, Role, ToolCall, ToolChoice},
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

const FIELD: &str = "input";

/// What is asked, and how it is to be answered.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"model": "demo/demo", "input": "Hello!"}))]
pub struct ResponsesRequest {
    /// `provider/name`, a name or an id.
    #[schema(example = "demo/demo")]
    model: String,
    input: Input,
    instructions: Option<String>,
    previous_response_id: Option<String>,
    stream: Option<bool>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    max_output_tokens: Option<u32>,
    reasoning: Option<Reasoning>,
    text: Option<TextOptions>,
    tools: Option<Vec<ResponseTool>>,
    tool_choice: Option<Choice>,
    parallel_tool_calls: Option<bool>,
    /// Whom the caller asks for: each user has a session of one's own for each day.
    user: Option<String>,
    /// The same, by its newer name.
    safety_identifier: Option<String>,
    /// Not offered; nor are the next two.
    background: Option<bool>,
    conversation: Option<Value>,
    prompt: Option<Value>,
}

/// How hard to think: `none`, `minimal`, `low`, `medium` or `high`; `xhigh` and `max` are taken as `high`.
#[derive(Deserialize, ToSchema)]
#[schema(as = OpenAiReasoning)]
struct Reasoning {
    effort: Option<String>,
}

/// How the text is to be.
#[derive(Deserialize, ToSchema)]
#[schema(as = OpenAiTextOptions)]
struct TextOptions {
    format: Option<Format>,
}

/// Shape that the text must have.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = OpenAiFormat)]
enum Format {
    Text,
    JsonObject,
    JsonSchema { name: String, schema: Value, strict: Option<bool> },
}

/// A function of the caller's; what a provider runs itself is not offered.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = OpenAiTool)]
enum ResponseTool {
    Function { name: String, description: Option<String>, parameters: Option<Value>, strict: Option<bool> },
}

/// `auto`, `none`, `required`, or a function.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = OpenAiToolChoice)]
enum Choice {
    Word(String),
    Named { name: String },
}

/// A prompt, or items.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = OpenAiInput)]
enum Input {
    Text(String),
    Items(Vec<Item>),
}

/// An item; a message may leave its type out.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = OpenAiInputItem)]
enum Item {
    Typed(TypedItem),
    // A message may leave its type out.
    Plain { role: ItemRole, content: Content },
}

/// An item. Reasoning may be sent back; the conversation of `previous_response_id` has its own.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = OpenAiTypedItem)]
enum TypedItem {
    Message { role: ItemRole, content: Content },
    FunctionCall { call_id: String, name: String, arguments: String },
    FunctionCallOutput { call_id: String, output: Content },
    Reasoning {},
}

/// Who speaks.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = OpenAiRole)]
enum ItemRole {
    System,
    Developer,
    User,
    Assistant,
}

/// Text, or parts.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = OpenAiContent)]
enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

/// A part of a message; only the user's may hold pictures and files.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = OpenAiContentPart)]
enum ContentPart {
    InputText { text: String },
    OutputText { text: String },
    InputImage { image_url: Option<String> },
    InputFile { filename: Option<String>, file_data: Option<String>, file_url: Option<String> },
    Refusal { refusal: String },
}

impl Content {
    fn parts(self) -> Result<Vec<Part>, ApiError> {
        let part = |part| match part {
            ContentPart::InputText { text } | ContentPart::OutputText { text } => Ok(Part::text(text)),
            ContentPart::Refusal { refusal } => Ok(Part::Refusal { text: refusal.into() }),
            ContentPart::InputImage { image_url } => {
                let missing = || ApiError::invalid(FIELD, "a picture must come with its image_url");
                content::picture(FIELD, content::address(FIELD, image_url.ok_or_else(missing)?)?)
            }
            ContentPart::InputFile { filename, file_data, file_url } => {
                let missing = || ApiError::invalid(FIELD, "a file must come with its file_data or file_url");
                let media = content::address(FIELD, file_data.or(file_url).ok_or_else(missing)?)?;
                Ok(Part::File { name: filename.unwrap_or_else(|| "file".to_owned()).into(), media })
            }
        };
        match self {
            Self::Text(text) if text.is_empty() => Ok(vec![]),
            Self::Text(text) => Ok(vec![Part::text(text)]),
            Self::Parts(parts) => parts.into_iter().map(part).collect(),
        }
    }

    fn text(self) -> Result<String, ApiError> {
        let parts = self.parts()?;
        let texts = parts.iter().map(|part| match part {
            Part::Text { text } => Ok(text.as_str()),
            _ => Err(ApiError::invalid(FIELD, "only the user's messages may hold more than text")),
        });
        Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
    }
}

fn add(conversation: &mut Conversation, item: TypedItem) -> Result<(), ApiError> {
    let (role, parts) = match item {
        TypedItem::Message { role: ItemRole::System | ItemRole::Developer, content } => {
            let text = content.text()?;
            if conversation.messages.is_empty() {
                call::add_system(conversation, &text);
                return Ok(());
            }
            (Role::System, vec![Part::text(text)])
        }
        TypedItem::Message { role: ItemRole::User, content } => (Role::User, content.parts()?),
        TypedItem::Message { role: ItemRole::Assistant, content } => (Role::Assistant, content.parts()?),
        TypedItem::FunctionCall { call_id, name, arguments } => {
            let call = Part::ToolCall(ToolCall { call_id, name, arguments: arguments.into(), opaque: None });
            // Calls belong to the message that they were made in.
            if let Some(last) = conversation.messages.last_mut().filter(|last| last.role == Role::Assistant) {
                last.parts.push(call);
                return Ok(());
            }
            (Role::Assistant, vec![call])
        }
        TypedItem::FunctionCallOutput { call_id, output } => {
            // Pictures and documents stand beside the text.
            let (texts, beside): (Vec<Part>, Vec<Part>) =
                output.parts()?.into_iter().partition(|part| matches!(part, Part::Text { .. }));
            let text = Message { role: Role::User, parts: texts, message_id: None, provider: None };
            let text = text.texts().collect::<Vec<_>>().join("\n");
            let result = call::tool_result(conversation, call_id, text, false);
            (Role::User, [result].into_iter().chain(beside).collect())
        }
        TypedItem::Reasoning {} => return Ok(()),
    };
    if !parts.is_empty() {
        conversation.messages.push(Message { role, parts, message_id: None, provider: None });
    }
    Ok(())
}

impl ResponsesRequest {
    pub fn is_streamed(&self) -> bool {
        self.stream == Some(true)
    }

    /// The response that it goes on from.
    pub fn take_previous(&mut self) -> Option<String> {
        self.previous_response_id.take()
    }

    /// The call in nobody's words, after what was said `before`.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` for what can't be offered or understood.
    pub fn into_call(self, before: Conversation) -> Result<Call, ApiError> {
        call::refuse(&[
            ("background", self.background == Some(true)),
            ("conversation", call::is_given(self.conversation.as_ref())),
            ("prompt", call::is_given(self.prompt.as_ref())),
        ])?;
        let mut conversation = before;
        if let Some(instructions) = self.instructions.filter(|text| !text.is_empty()) {
            call::add_system(&mut conversation, &instructions);
        }
        match self.input {
            Input::Text(text) if text.is_empty() => return Err(ApiError::invalid(FIELD, "must not be empty")),
            Input::Text(text) => conversation.messages.push(Message::text(Role::User, text)),
            Input::Items(items) => {
                for item in items {
                    let item = match item {
                        Item::Typed(item) => item,
                        Item::Plain { role, content } => TypedItem::Message { role, content },
                    };
                    add(&mut conversation, item)?;
                }
            }
        }
        let response_format = match self.text.and_then(|text| text.format) {
            None | Some(Format::Text) => None,
            Some(Format::JsonObject) => Some(ResponseFormat::JsonObject),
            Some(Format::JsonSchema { name, schema, strict }) => {
                Some(ResponseFormat::JsonSchema { name, schema: schema.to_string().into(), strict })
            }
        };
        let params = Params {
            temperature: self.temperature,
            top_p: self.top_p,
            max_tokens: self.max_output_tokens,
            reasoning_effort: self.reasoning.and_then(|reasoning| reasoning.effort).map(call::effort),
            response_format,
            parallel_tool_calls: self.parallel_tool_calls,
            ..Params::default()
        };
        let tools = self.tools.into_iter().flatten().map(|tool| {
            let ResponseTool::Function { name, description, parameters, strict } = tool;
            call::tool(name, description, parameters, strict)
        });
        let tools = tools.collect();
        let tool_choice = match self.tool_choice {
            None => None,
            Some(Choice::Named { name }) => Some(ToolChoice::Named(name)),
            Some(Choice::Word(word)) => Some(call::tool_choice(&word)?),
        };
        let user = self.user.or(self.safety_identifier);
        Ok(Call { model: self.model, conversation, params, tools, tool_choice, user, follows: None })
    }
}
