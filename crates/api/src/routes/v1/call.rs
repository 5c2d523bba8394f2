//! A call in no SDK's words: the whole conversation and how it is to be answered.

use axum::http::{HeaderMap, StatusCode};
use polyphony_domain::{
    catalog::Model,
    content::{Conversation, Message, Part, Role, Tool, ToolChoice, ToolResult},
    context::{Entry, Thread},
    ids::{AccountId, AnswerId},
    personal::Personal,
    turn::{Params, Prompt},
};
use polyphony_providers::Options;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::{
    messages::FAMILY,
    session::{self, Home},
};
use crate::{
    error::ApiError,
    extract::{Caller, Origin},
    idempotency,
    routes::chat::{
        ask::{Asker, Generation, Order},
        choose,
    },
    state::AppState,
    stream::{Ear, Viewing},
};

/// What is asked.
#[derive(Debug, Default)]
pub struct Call {
    /// `provider/name`, a name or an id.
    pub model: String,
    /// All of it; the last message is the person's.
    pub conversation: Conversation,
    pub params: Params,
    pub tools: Vec<Tool>,
    pub tool_choice: Option<ToolChoice>,
    /// Whom the caller asks for, where it tells its users apart.
    pub user: Option<String>,
    /// The answer of ours that it goes on from, with its session.
    pub follows: Option<(AnswerId, Home)>,
}

/// What else a call may say.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "for the document; the header is read where the session is looked for")]
pub struct SessionHeader {
    /// The session that the call becomes a turn of; else one of its day and user.
    #[param(rename = "X-Session-Id", required = false)]
    x_session_id: uuid::Uuid,
}

/// Who calls, in which request.
pub struct Calling {
    pub state: AppState,
    pub caller: Caller,
    pub origin: Origin,
    pub headers: HeaderMap,
    pub request_hash: [u8; 32],
}

/// An answer that was asked for.
pub struct Answering {
    pub viewing: Viewing,
    pub ear: Ear,
    /// `provider/name` of the model that is asked.
    pub model: String,
}

/// The model of this name.
///
/// # Errors
/// `NOT_FOUND`, which names the field.
pub fn model<'a>(state: &'a AppState, name: &str) -> Result<&'a Model, ApiError> {
    let shown: String = name.chars().take(128).collect();
    let missing = || {
        ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", format!("the model {shown} does not exist"))
            .with_detail("fields", json!({"model": "does not exist"}))
    };
    state.catalog.resolve(name).ok_or_else(missing)
}

impl Call {
    /// Parts what is asked from what was said before: the results of tools and the messages after the last answer are
    /// the prompt. Instructions at the very end stand before it instead.
    fn split(conversation: Conversation) -> Result<(Conversation, String, Vec<Part>), ApiError> {
        let Conversation { system, mut messages } = conversation;
        let last = messages.iter().rposition(|message| message.role != Role::System).map_or(0, |last| last + 1);
        let told = messages.split_off(last);
        let is_asked = |message: &Message| message.role == Role::User;
        let begin = messages.iter().rposition(|message| !is_asked(message)).map_or(0, |last| last + 1);
        let asked = messages.split_off(begin);
        messages.extend(told);
        let mut parts: Vec<Part> = asked.into_iter().flat_map(|message| message.parts).collect();
        if parts.is_empty() {
            return Err(ApiError::invalid("messages", "must end with a message of the user or of a tool"));
        }
        // The last text is the prompt's own; everything else comes along.
        let text = parts.iter().rposition(|part| matches!(part, Part::Text { .. })).map(|at| parts.remove(at));
        let content = match text {
            Some(Part::Text { text }) => text.into_string(),
            _ => String::new(),
        };
        if content.is_empty() && parts.is_empty() {
            return Err(ApiError::invalid("messages", "the last message must not be empty"));
        }
        Ok((Conversation { system, messages }, content, parts))
    }

    /// Tokens of everything that would be sent.
    ///
    /// # Errors
    /// `CONTEXT_TOO_LONG` where it can't be sent at all, and the store's.
    pub async fn count(mut self, state: &AppState, owner: AccountId, model: &Model) -> Result<u64, ApiError> {
        let key = if model.provider == "demo" { None } else { state.store.usable_key(owner, &model.provider).await? };
        let whose = key.map_or_else(|| owner.as_uuid(), |key| key.as_uuid());
        let entry = |message| Entry { message, turn: None, protected: true };
        say_whose(&mut self.conversation, state, model);
        let mut thread = Thread::default();
        thread.system = self.conversation.system;
        thread.entries = self.conversation.messages.into_iter().map(entry).collect();
        let options = Options { model: model.name.clone(), tools: self.tools, ..Options::default() };
        let too_long = |_| ApiError::of_answer("CONTEXT_TOO_LONG", "the conversation is too long for this model");
        let fitted = state.contexts.fit(&thread, model, options, whose).await.map_err(too_long)?;
        Ok(fitted.receipt.used)
    }

    /// Asks, or finds what the same request has asked for before.
    ///
    /// # Errors
    /// Everything that is wrong with it; then nothing has been appended.
    pub async fn ask(self, calling: &Calling) -> Result<Answering, ApiError> {
        let Calling { state, caller, origin, headers, request_hash } = calling;
        let model = model(state, &self.model)?;
        let (mut given, content, parts) = Self::split(self.conversation)?;
        if content.len() > state.config.http.message_limit_bytes {
            return Err(ApiError::too_large());
        }
        say_whose(&mut given, state, model);
        let key = idempotency::key(headers, caller.account_id, *request_hash)?;
        let asker = Asker { state, caller: *caller, origin, key };
        if let Some(found) = asker.again().await? {
            return answering(found, model);
        }
        let mut request = choose::request(state, caller.account_id, model, &self.params).await?;
        request.tools = self.tools;
        request.tool_choice = self.tool_choice;
        let unfit = model.lacks(&request, &parts);
        if !unfit.is_empty() {
            return Err(ApiError::unfit(&unfit));
        }
        let home = match self.follows {
            Some((_, home)) => home,
            None => session::of_call(state, *caller, origin, headers, self.user.as_deref()).await?,
        };
        let given = serde_json::to_string(&given).map_err(ApiError::internal)?;
        let prompt = Prompt {
            session_id: home.id,
            parent: self.follows.map(|(answer, _)| answer),
            content: content.into(),
            parts,
            given: Some(given.into()),
            ..Prompt::default()
        };
        let guard = home.undeleted.into();
        let order = Order::Post { prompt: Box::new(prompt), guard, follow_up: false };
        answering(asker.ask(order, vec![request]).await?, model)
    }
}

/// Says of each answer whose it is: what a provider signed goes back to that provider only. A signature of the family that
/// signs is good at each of its hosts, and what says nothing is the model's own.
fn say_whose(given: &mut Conversation, state: &AppState, model: &Model) {
    for message in given.messages.iter_mut().filter(|message| message.role == Role::Assistant) {
        let is_own = match message.provider.as_deref() {
            None => true,
            Some(origin) => origin == FAMILY && state.registry.signs_thoughts(&model.provider),
        };
        if is_own {
            message.provider = Some(model.provider.clone());
        }
    }
}

fn answering(mut generation: Generation, model: &Model) -> Result<Answering, ApiError> {
    let lane = generation.lanes.pop().ok_or_else(ApiError::not_found)?;
    let place = generation.place(lane.answer_id);
    let viewing = Viewing { place, model: lane.model, after: None, is_new: generation.is_new };
    Ok(Answering { viewing, ear: lane.ear, model: model.slug() })
}

/// Adds to what the model is told first.
pub fn add_system(conversation: &mut Conversation, words: &str) {
    let before = conversation.system.take();
    let all = before.map(Personal::into_string).into_iter().chain([words.to_owned()]);
    conversation.system = Some(all.collect::<Vec<_>>().join("\n\n").into());
}

/// The result of a tool; its name is that of the call.
pub fn tool_result(conversation: &Conversation, call_id: String, content: String, is_error: bool) -> Part {
    let parts = conversation.messages.iter().flat_map(|message| &message.parts);
    let mut called = parts.filter_map(|part| match part {
        Part::ToolCall(call) if call.call_id == call_id => Some(call.name.clone()),
        _ => None,
    });
    let name = called.next_back().unwrap_or_default();
    Part::ToolResult(ToolResult { call_id, name, content: content.into(), is_error })
}

/// A tool; one that names no parameters takes none.
pub fn tool(name: String, description: Option<String>, parameters: Option<Value>, strict: Option<bool>) -> Tool {
    let parameters = parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    Tool { name, description: description.map(Into::into), parameters: parameters.to_string().into(), strict }
}

/// Whether a tool has to be called, in one word.
///
/// # Errors
/// `VALIDATION_FAILED` for another word.
pub fn tool_choice(word: &str) -> Result<ToolChoice, ApiError> {
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" | "any" => Ok(ToolChoice::Required),
        _ => Err(ApiError::invalid("tool_choice", "must be auto, none, required or a function")),
    }
}

/// What would change the answer, and can't be done here, is not passed over.
///
/// # Errors
/// `VALIDATION_FAILED` for the first field that is asked for.
pub fn refuse(fields: &[(&str, bool)]) -> Result<(), ApiError> {
    let asked = fields.iter().find(|(_, is_asked)| *is_asked);
    asked.map_or(Ok(()), |(field, _)| Err(ApiError::invalid(field, "is not offered here")))
}

/// How hard to think, in our word: the SDKs have two above the highest.
pub fn effort(word: String) -> String {
    if ["xhigh", "max"].contains(&word.as_str()) { "high".to_owned() } else { word }
}

/// Whether a field holds something.
pub fn is_given(field: Option<&Value>) -> bool {
    matches!(field, Some(value) if !value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_the_last_answer_is_the_prompt() {
        let conversation = Conversation {
            system: Some("be brief".into()),
            messages: vec![
                Message::text(Role::User, "a"),
                Message::text(Role::Assistant, "b"),
                Message::text(Role::User, "c"),
                Message::text(Role::User, "d"),
            ],
        };
        let (given, content, parts) = Call::split(conversation).unwrap();
        assert_eq!((given.messages.len(), content.as_str()), (2, "d"));
        assert_eq!(parts, [Part::text("c")]);
        let told = Conversation {
            system: None,
            messages: vec![Message::text(Role::User, "a"), Message::text(Role::System, "be brief")],
        };
        let (given, content, _) = Call::split(told).unwrap();
        assert_eq!((given.messages, content.as_str()), (vec![Message::text(Role::System, "be brief")], "a"));
        let open = Conversation { system: None, messages: vec![Message::text(Role::Assistant, "b")] };
        assert!(Call::split(open).is_err());
        assert!(Call::split(Conversation::default()).is_err());
    }
}
