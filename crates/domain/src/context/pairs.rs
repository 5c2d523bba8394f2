//! Calls of tools and their results: neither is shown without the other.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Entry;
use crate::content::{Message, Part, Role};

/// A message that was changed so that calls and results pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mended {
    /// The message.
    pub message_id: Option<Uuid>,
    /// Whether a call was left out that nobody answered; else a result became text that nobody had asked for.
    pub is_call: bool,
}

fn calls(message: &Message) -> impl Iterator<Item = &str> {
    message
        .parts
        .iter()
        .filter_map(|part| if let Part::ToolCall(call) = part { Some(call.call_id.as_str()) } else { None })
}

fn results(message: &Message) -> impl Iterator<Item = &str> {
    message
        .parts
        .iter()
        .filter_map(|part| if let Part::ToolResult(result) = part { Some(result.call_id.as_str()) } else { None })
}

/// Whether a message brings results of tools.
pub(super) fn has_results(message: &Message) -> bool {
    message.role == Role::User && results(message).next().is_some()
}

/// Leaves out calls that nobody answered, and makes text of results that nobody asked for.
///
/// `open_end`: calls of the last message may still be answered.
pub(super) fn mend(entries: &mut Vec<Entry>, open_end: bool) -> Vec<Mended> {
    let mut mended = Vec::new();
    let mut index = 0;
    while index < entries.len() {
        // The answers to a message are the user's messages right after it.
        let replies = entries[index + 1..].iter().take_while(|entry| entry.message.role == Role::User).count();
        let end = index + 1 + replies;
        if entries[index].message.role != Role::Assistant {
            index += 1;
            continue;
        }
        let answered: Vec<String> =
            entries[index + 1..end].iter().flat_map(|entry| results(&entry.message)).map(str::to_owned).collect();
        let asked: Vec<String> = calls(&entries[index].message).map(str::to_owned).collect();
        if !(open_end && end == entries.len() && replies == 0) {
            let message = &mut entries[index].message;
            let before = message.parts.len();
            message.parts.retain(|part| !matches!(part, Part::ToolCall(call) if !answered.contains(&call.call_id)));
            if message.parts.len() != before {
                mended.push(Mended { message_id: message.message_id, is_call: true });
            }
        }
        for entry in &mut entries[index + 1..end] {
            mended.extend(ask_back(&mut entry.message, &asked));
        }
        index = end;
    }
    // Before the first answer nobody has asked for anything.
    for entry in entries.iter_mut().take_while(|entry| entry.message.role != Role::Assistant) {
        mended.extend(ask_back(&mut entry.message, &[]));
    }
    entries.retain(|entry| !entry.message.parts.is_empty());
    mended
}

fn ask_back(message: &mut Message, asked: &[String]) -> Option<Mended> {
    let mut changed = false;
    for part in &mut message.parts {
        if let Part::ToolResult(result) = part
            && !asked.contains(&result.call_id)
        {
            *part = Part::text(format!("[{}] {}", result.name, result.content.as_str()));
            changed = true;
        }
    }
    changed.then_some(Mended { message_id: message.message_id, is_call: false })
}

/// Where each exchange begins: at a person's message that isn't the answer to a call. What is in one exchange is only
/// dropped together.
pub(super) fn exchanges(entries: &[Entry]) -> Vec<usize> {
    let mut number = 0;
    let mut numbers = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let role = entry.message.role;
        let before = index.checked_sub(1).map(|before| entries[before].message.role);
        // An instruction belongs to what follows it.
        let begins = role == Role::System || (role == Role::User && !has_results(&entry.message));
        if begins && before.is_some_and(|before| before != Role::System) {
            number += 1;
        }
        numbers.push(number);
    }
    numbers
}

/// Extends protection over pairs: a call is kept with its results, and they with it.
pub(super) fn protect_pairs(entries: &mut [Entry]) {
    let mut index = 0;
    while index < entries.len() {
        let results = entries[index + 1..].iter().take_while(|entry| has_results(&entry.message)).count();
        let pair = index..=index + results;
        if entries[index].message.role == Role::Assistant && entries[pair.clone()].iter().any(|entry| entry.protected) {
            entries[pair].iter_mut().for_each(|entry| entry.protected = true);
        }
        index += results + 1;
    }
}
