//! What a model is told: the path from the session's first prompt to the one to answer.

use polyphony_domain::{
    ids::TurnId,
    personal::Personal,
    turn::{Answer, Params},
};
use polyphony_eventstore::load::SessionLog;
use polyphony_providers::{Conversation, Message, Options, Part, Role};

/// The conversation up to and including the prompt of `turn`.
///
/// Along the path a turn contributes the answer that the next turn replies to; erased texts are left out.
pub(super) fn conversation(log: &SessionLog, turn: TurnId) -> Conversation {
    let path = log.path_to(turn);
    let mut messages = Vec::with_capacity(path.len() * 2);
    for (index, (_, turn)) in path.iter().enumerate() {
        push(&mut messages, Role::User, &turn.prompt);
        let answered = path.get(index + 1).and_then(|(_, next)| next.parent);
        if let Some(record) = answered.and_then(|id| turn.answers.get(&id)).and_then(|answer| answer.record.as_ref()) {
            push(&mut messages, Role::Assistant, &record.text);
        }
    }
    let system = log.session.aggregate.system_prompt.clone().filter(|prompt| !prompt.is_erased());
    let system = system.map(Personal::into_string).filter(|prompt| !prompt.is_empty());
    Conversation { system, messages }
}

fn push(messages: &mut Vec<Message>, role: Role, text: &Personal) {
    if let Personal::Clear(text) = text
        && !text.is_empty()
    {
        messages.push(Message { role, parts: vec![Part::Text(text.clone())] });
    }
}

/// The options of one answer.
pub(super) fn options(answer: &Answer) -> Options {
    let Params { temperature, top_p, max_tokens } = answer.params.clone();
    Options { model: answer.model.name.clone(), temperature, top_p, max_tokens }
}
