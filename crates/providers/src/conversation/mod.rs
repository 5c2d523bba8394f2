//! A canonical conversation made fit for a target, before its dialect is written: what the target can't take is dropped
//! or rewritten here, and said. Pure.

mod media;
mod tool_calls;

use polyphony_domain::content::{Conversation, Message, Part, Role};
use uuid::Uuid;

pub(crate) use self::{
    media::{Files, data_url, left_out},
    tool_calls::{IdRule, NameRule},
};
use crate::{Loss, LossKind};

/// What a target takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// Its provider: reasoning and signatures go to no other.
    pub(crate) provider: &'a str,
    /// Which reasoning it wants back.
    pub(crate) echo: Echo,
    /// Whether instructions may stand in mid-conversation.
    pub(crate) system_inside: bool,
    /// Whether both sides must take turns, the person first.
    pub(crate) alternates: bool,
    /// Whether a refusal has a form of its own.
    pub(crate) refusals: bool,
    /// Media types of pictures.
    pub(crate) images: &'static [&'static str],
    /// Documents.
    pub(crate) files: Files,
    /// Ids of tool calls.
    pub(crate) ids: IdRule,
    /// Names of called tools.
    pub(crate) names: NameRule,
}

/// Which reasoning a provider wants back from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// None.
    Never,
    /// What it has signed or encrypted.
    Signed,
    /// The text, of messages that call tools.
    TextWithCalls,
}

/// A conversation that a target takes.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// What the model is told first; empty for nothing.
    pub(crate) system: String,
    /// The messages. The results of an assistant's calls stand in a message of their own, right after it.
    pub(crate) messages: Vec<Prompted>,
    /// What was lost.
    pub(crate) losses: Losses,
}

/// One message of it.
#[derive(Clone, Debug)]
pub(crate) struct Prompted {
    pub(crate) role: Role,
    /// Of an assistant: reasoning first, calls last.
    pub(crate) parts: Vec<Part>,
    /// The stored message that it comes from.
    pub(crate) message_id: Option<Uuid>,
}

/// Losses, each said once for a message.
#[derive(Debug, Default)]
pub(crate) struct Losses(pub(crate) Vec<Loss>);

impl Losses {
    pub(crate) fn say(&mut self, loss: Loss) {
        if !self.0.contains(&loss) {
            self.0.push(loss);
        }
    }
}

/// Makes a conversation fit.
pub(crate) fn prepare(conversation: &Conversation, target: &Target<'_>) -> Prepared {
    let mut losses = Losses::default();
    let fitted = conversation.messages.iter().map(|message| fit(message, target, &mut losses)).collect();
    let mut messages = tool_calls::repair(fitted, target.ids, target.names, &mut losses);
    messages.retain(|message| !message.parts.is_empty());
    if target.alternates {
        messages = alternate(messages, &mut losses);
    }
    let system = conversation.system.as_ref().filter(|system| !system.is_erased());
    Prepared { system: system.map(|system| system.as_str().to_owned()).unwrap_or_default(), messages, losses }
}

/// One message, part by part.
fn fit(message: &Message, target: &Target<'_>, losses: &mut Losses) -> Prompted {
    let id = message.message_id;
    let mut role = message.role;
    let own = message.provider.as_deref() == Some(target.provider);
    let mut parts = Vec::with_capacity(message.parts.len());
    let lost = |losses: &mut Losses, kind, reason: &str| losses.say(Loss::within(id, kind, reason));
    for part in &message.parts {
        if is_erased(part) {
            lost(losses, LossKind::Message, "a part was erased");
            continue;
        }
        match part {
            Part::Text { text } if text.as_str().trim().is_empty() => {}
            Part::Reasoning { opaque, .. } => match (own, target.echo) {
                (true, Echo::Signed) if opaque.is_some() => parts.push(part.clone()),
                (true, Echo::TextWithCalls) if calls_tools(message) => parts.push(part.clone()),
                // The shown text of what is echoed with its signature.
                (true, Echo::Signed) if message.parts.iter().any(is_signed) => {}
                (true, Echo::TextWithCalls) => {
                    lost(losses, LossKind::Reasoning, "reasoning: the provider takes it back with calls of tools only");
                }
                (true, _) => lost(losses, LossKind::Reasoning, "reasoning: the provider doesn't take it back"),
                (false, _) => lost(losses, LossKind::Reasoning, "reasoning: another provider's"),
            },
            Part::ToolCall(call) if call.opaque.is_some() && !own => {
                lost(losses, LossKind::Reasoning, "the signature of a tool call: another provider's");
                let mut call = call.clone();
                call.opaque = None;
                parts.push(Part::ToolCall(call));
            }
            Part::Refusal { text } if !target.refusals => {
                // The text that was shown may be the refusal already.
                if !message.texts().any(|shown| shown == text.as_str()) {
                    lost(losses, LossKind::Refusal, "a refusal: given as text");
                    parts.push(Part::text(text.clone()));
                }
            }
            Part::Refusal { text } if message.texts().any(|shown| shown == text.as_str()) => {}
            Part::Citation(_) => lost(losses, LossKind::Citation, "sources: the provider doesn't take them back"),
            Part::Image { .. } | Part::File { .. } => parts.extend(media::fit(part, role, id, target, losses)),
            _ => parts.push(part.clone()),
        }
    }
    if role == Role::Assistant && parts.iter().all(|part| matches!(part, Part::Reasoning { .. })) && !parts.is_empty() {
        // An answer that was stopped while it was thought about.
        lost(losses, LossKind::Reasoning, "reasoning: nothing came of it");
        parts.clear();
    }
    match role {
        Role::Assistant => parts.sort_by_key(|part| match part {
            Part::Reasoning { .. } => 0,
            Part::ToolCall(_) => 2,
            _ => 1,
        }),
        Role::System if !target.system_inside => {
            lost(losses, LossKind::System, "an instruction in mid-conversation: given as the person's message");
            role = Role::User;
            let text: Vec<&str> = message.texts().collect();
            parts = vec![Part::text(format!("[System instruction]\n{}", text.join("\n")))];
        }
        Role::User | Role::System => {}
    }
    Prompted { role, parts, message_id: id }
}

fn calls_tools(message: &Message) -> bool {
    message.parts.iter().any(|part| matches!(part, Part::ToolCall(_)))
}

const fn is_signed(part: &Part) -> bool {
    matches!(part, Part::Reasoning { opaque: Some(_), .. })
}

fn is_erased(part: &Part) -> bool {
    match part {
        Part::Text { text } | Part::Refusal { text } | Part::Reasoning { text, .. } => text.is_erased(),
        Part::Image { media } | Part::File { media, .. } => media::is_erased(media),
        Part::ToolCall(call) => call.arguments.is_erased(),
        Part::ToolResult(result) => result.content.is_erased(),
        _ => false,
    }
}

/// Joins neighbours of one side, and lets the person begin.
fn alternate(messages: Vec<Prompted>, losses: &mut Losses) -> Vec<Prompted> {
    let mut joined: Vec<Prompted> = Vec::with_capacity(messages.len() + 1);
    if messages.first().is_none_or(|first| first.role == Role::Assistant) {
        losses.say(Loss::of(LossKind::Message, "the conversation has no prompt at its beginning: one was put there"));
        joined.push(Prompted {
            role: Role::User,
            parts: vec![Part::text("[The conversation begins.]")],
            message_id: None,
        });
    }
    for message in messages {
        match joined.last_mut() {
            Some(last) if last.role == message.role => last.parts.extend(message.parts),
            _ => joined.push(message),
        }
    }
    joined
}
