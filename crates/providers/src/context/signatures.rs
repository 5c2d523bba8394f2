//! What providers have signed or encrypted in a conversation: told apart by a hash, taken away where it was refused.

use std::hash::{DefaultHasher, Hash, Hasher};

use polyphony_domain::{
    content::{Conversation, Part},
    personal::Personal,
};

use crate::{Loss, LossKind};

/// Stands for one signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signature(u64);

impl From<&Personal> for Signature {
    fn from(opaque: &Personal) -> Self {
        let mut hasher = DefaultHasher::new();
        opaque.as_str().hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// All that a provider has made in a conversation: nobody else's are shown to it.
pub(super) fn of(conversation: &Conversation, provider: &str) -> Vec<Signature> {
    let own = conversation.messages.iter().filter(|message| message.provider.as_deref() == Some(provider));
    let parts = own.flat_map(|message| &message.parts);
    let opaque = parts.filter_map(|part| match part {
        Part::Reasoning { opaque, .. } => opaque.as_ref(),
        Part::ToolCall(call) => call.opaque.as_ref(),
        _ => None,
    });
    opaque.map(Signature::from).collect()
}

/// Takes away those that are refused: from a call only its signature, of reasoning all of it. What is lost is said.
pub(super) fn leave_out(
    conversation: &mut Conversation,
    provider: &str,
    is_refused: impl Fn(Signature) -> bool,
) -> Vec<Loss> {
    let mut losses = Vec::new();
    let refused = |opaque: &Option<Personal>| opaque.as_ref().is_some_and(|opaque| is_refused(opaque.into()));
    for message in conversation.messages.iter_mut().filter(|message| message.provider.as_deref() == Some(provider)) {
        let before = message.parts.len();
        message.parts.retain(|part| !matches!(part, Part::Reasoning { opaque, .. } if refused(opaque)));
        let mut changed = message.parts.len() != before;
        for part in &mut message.parts {
            if let Part::ToolCall(call) = part
                && refused(&call.opaque)
            {
                call.opaque = None;
                changed = true;
            }
        }
        if changed {
            let reason = "reasoning: the provider didn't take its own signature back";
            losses.push(Loss::within(message.message_id, LossKind::Reasoning, reason));
        }
    }
    conversation.messages.retain(|message| !message.parts.is_empty());
    losses
}
