//! From the session to a request: what a model is told in an attempt, and with which options.

use polyphony_domain::{catalog::Model, content::Conversation, ids::TurnId, turn::Answer};
use polyphony_eventstore::load::SessionLog;
use polyphony_providers::{Adapter, Rendered};

use super::prompt;

/// How much of the window may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// All of it.
    Whole,
    /// Much less than we thought: the provider has refused the conversation as too long.
    Shrunk,
}

/// The exact request of an attempt.
pub(super) fn prepare(
    log: &SessionLog,
    turn: TurnId,
    answer: &Answer,
    model: Option<&Model>,
    adapter: &dyn Adapter,
    window: Window,
) -> Rendered {
    let mut conversation = prompt::conversation(log, turn);
    if window == Window::Shrunk {
        halve(&mut conversation);
    }
    let mut options = prompt::options(answer);
    // What was asked for may be out of the range of a model that takes another one's place.
    if let Some(model) = model.filter(|model| model.id != answer.request.model.id) {
        options.params = model.fit(options.params);
    }
    adapter.render(&conversation, &options)
}

/// Leaves out the older half of what was said, counted in bytes, but never the last message.
fn halve(conversation: &mut Conversation) {
    let bytes = |message: &polyphony_domain::content::Message| message.texts().map(str::len).sum::<usize>();
    let half = conversation.messages.iter().map(bytes).sum::<usize>() / 2;
    let last = conversation.messages.len().saturating_sub(1);
    let mut dropped = 0;
    let kept = conversation.messages.iter().take(last).position(|message| {
        let keep = dropped >= half;
        dropped += bytes(message);
        keep
    });
    conversation.messages.drain(..kept.unwrap_or(last));
}

#[cfg(test)]
mod tests {
    use polyphony_domain::content::{Message, Role};

    use super::*;

    #[test]
    fn the_older_half_goes_and_the_last_message_stays() {
        let texts = |sizes: &[usize]| {
            let messages = sizes.iter().map(|size| Message::text(Role::User, "x".repeat(*size))).collect();
            let mut conversation = Conversation { system: Some("s".into()), messages };
            halve(&mut conversation);
            assert!(conversation.system.is_some());
            conversation.messages.iter().map(|message| message.texts().map(str::len).sum()).collect::<Vec<usize>>()
        };
        assert_eq!(texts(&[10, 10, 10, 10]), [10, 10]);
        assert_eq!(texts(&[1, 1, 1, 100]), [100]);
        assert_eq!(texts(&[100, 1, 1, 1]), [1, 1, 1]);
        assert_eq!(texts(&[7]), [7]);
        assert!(texts(&[]).is_empty());
    }
}
