//! What a model is told: the path from the session's first prompt to the one to answer.

use polyphony_domain::{
    content::{Conversation, Message, Role},
    ids::TurnId,
    personal::Personal,
    turn::Answer,
};
use polyphony_eventstore::load::SessionLog;
use polyphony_providers::Options;

/// The conversation up to and including the prompt of `turn`.
///
/// Along the path a turn contributes the answer that the next turn replies to; erased texts are left out.
pub(super) fn conversation(log: &SessionLog, turn: TurnId) -> Conversation {
    let path = log.path_to(turn);
    let mut messages = Vec::with_capacity(path.len() * 2);
    for (index, (_, turn)) in path.iter().enumerate() {
        if let Some(prompt) = &turn.prompt {
            push(&mut messages, Role::User, &prompt.content);
        }
        let answered = path.get(index + 1).and_then(|(_, next)| next.parent());
        if let Some(record) = answered.and_then(|id| turn.answers.get(&id)).and_then(|answer| answer.record.as_ref()) {
            push(&mut messages, Role::Assistant, &record.text);
        }
    }
    let system = log.session.aggregate.system_prompt.clone().filter(|prompt| !prompt.is_erased());
    let system = system.filter(|prompt| !prompt.as_str().is_empty());
    Conversation { system, messages }
}

fn push(messages: &mut Vec<Message>, role: Role, text: &Personal) {
    if !text.is_erased() && !text.as_str().is_empty() {
        messages.push(Message::text(role, text.clone()));
    }
}

/// The options of one answer.
pub(super) fn options(answer: &Answer) -> Options {
    let request = &answer.request;
    Options {
        model: answer.model.name.clone(),
        params: request.params.clone(),
        tools: request.tools.clone(),
        tool_choice: request.tool_choice.clone(),
    }
}
