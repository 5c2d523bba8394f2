//! Calls of tools and their results, made whole: ids that are unique and ids and names that the target takes, a result for
//! every call, right after it, and no result without a call.

use std::collections::{HashMap, HashSet};

use polyphony_domain::content::{Part, Role, ToolCall, ToolResult};

use super::{Losses, Prompted};
use crate::{Loss, LossKind};

/// Which ids a target takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdRule {
    /// Letters, digits, `_` and `-`, at most so many.
    Word(usize),
    /// Exactly nine letters or digits.
    Nine,
}

impl IdRule {
    fn takes(self, id: &str) -> bool {
        match self {
            Self::Word(most) => {
                (1..=most).contains(&id.len()) && id.bytes().all(|it| it.is_ascii_alphanumeric() || b"_-".contains(&it))
            }
            Self::Nine => id.len() == 9 && id.bytes().all(|it| it.is_ascii_alphanumeric()),
        }
    }
}

/// Which names of tools a target takes. A call of the history may have another one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// Letters, digits, `_` and `-`, at most so many.
    Word(usize),
    /// The same with `.` and `:`, not beginning with a digit or a sign.
    Dotted(usize),
}

impl NameRule {
    /// The name as the target takes it.
    fn fit(self, name: &str) -> String {
        let (most, others) = match self {
            Self::Word(most) => (most, "_-"),
            Self::Dotted(most) => (most, "_-.:"),
        };
        let takes = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
        let mut fitted: String = name.chars().map(|c| if takes(c) { c } else { '_' }).collect();
        let begins = |c: char| c.is_ascii_alphabetic() || c == '_';
        if fitted.is_empty() {
            "tool".clone_into(&mut fitted);
        } else if matches!(self, Self::Dotted(_)) && !fitted.starts_with(begins) {
            fitted.insert(0, '_');
        }
        fitted.truncate(most);
        fitted
    }
}

/// Gives out ids. The same conversation always gets the same, so that a provider's cache recognises it.
struct Ids {
    rule: IdRule,
    used: HashSet<String>,
    next: u32,
}

impl Ids {
    fn unique(&mut self, id: &str) -> String {
        let mut id = id.to_owned();
        while !self.rule.takes(&id) || !self.used.insert(id.clone()) {
            self.next += 1;
            id = format!("call{:05}", self.next);
        }
        id
    }
}

/// A call that has no result yet.
struct Open {
    /// Its id in the conversation, which its result names.
    given: String,
    /// Its id in the request.
    id: String,
    /// Its name in the conversation, and in the request.
    name: String,
    fitted: String,
}

/// Makes them whole.
pub(super) fn repair(mut messages: Vec<Prompted>, rule: IdRule, names: NameRule, losses: &mut Losses) -> Vec<Prompted> {
    let mut ids = Ids { rule, used: HashSet::new(), next: 0 };
    let mut open: Vec<Open> = Vec::new();
    let mut results: HashMap<String, ToolResult> = HashMap::new();
    for message in &mut messages {
        let message_id = message.message_id;
        for part in std::mem::take(&mut message.parts) {
            match part {
                Part::ToolCall(call) if message.role == Role::Assistant => {
                    let id = ids.unique(&call.call_id);
                    let (given, fitted, arguments) =
                        (call.call_id.clone(), names.fit(&call.name), object(&call).into());
                    if fitted != call.name {
                        let reason = "the name of a called tool: rewritten, since the provider doesn't take it";
                        losses.say(Loss::within(message_id, LossKind::ToolCall, reason));
                    }
                    let name = call.name.clone();
                    let shown = ToolCall { call_id: id.clone(), name: fitted.clone(), arguments, ..call };
                    message.parts.push(Part::ToolCall(shown));
                    open.push(Open { given, id, name, fitted });
                }
                Part::ToolCall(_) => {
                    losses.say(Loss::within(message_id, LossKind::ToolCall, "a tool call: no model made it"));
                }
                Part::ToolResult(result) => match take_call(&mut open, &result) {
                    Some(call) => {
                        let result = ToolResult { call_id: call.id.clone(), name: call.fitted, ..result };
                        results.insert(call.id, result);
                    }
                    None => {
                        let reason = "the result of a tool: no call asked for it; given as text";
                        losses.say(Loss::within(message_id, LossKind::ToolResult, reason));
                        let text = format!("[Result of the tool {}]\n{}", result.name, result.content.as_str());
                        message.parts.push(Part::text(text));
                    }
                },
                other => message.parts.push(other),
            }
        }
    }
    let mut whole = Vec::with_capacity(messages.len() + results.len());
    for message in messages {
        let answers: Vec<Part> = message
            .parts
            .iter()
            .filter_map(|part| if let Part::ToolCall(call) = part { Some(call) } else { None })
            .map(|call| {
                Part::ToolResult(results.remove(&call.call_id).unwrap_or_else(|| {
                    let reason = "a tool call without a result: it is said to have been cancelled";
                    losses.say(Loss::within(message.message_id, LossKind::ToolCall, reason));
                    missing(call)
                }))
            })
            .collect();
        whole.push(message);
        if !answers.is_empty() {
            whole.push(Prompted { role: Role::User, parts: answers, message_id: None });
        }
    }
    whole
}

/// The call that a result answers: the newest with its id, or the oldest with its name where it has no id.
fn take_call(open: &mut Vec<Open>, result: &ToolResult) -> Option<Open> {
    let place = if result.call_id.is_empty() {
        let by_name = open.iter().position(|call| call.given.is_empty() && call.name == result.name);
        by_name.or_else(|| open.iter().position(|call| call.given.is_empty()))
    } else {
        open.iter().rposition(|call| call.given == result.call_id)
    };
    place.map(|place| open.remove(place))
}

fn missing(call: &ToolCall) -> ToolResult {
    ToolResult {
        call_id: call.call_id.clone(),
        name: call.name.clone(),
        content: "The call was cancelled: there is no result.".into(),
        is_error: true,
    }
}

/// Arguments as the text of a JSON object: some targets take nothing else.
fn object(call: &ToolCall) -> String {
    let text = call.arguments.as_str().trim();
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::Object(_)) => text.to_owned(),
        _ if text.is_empty() => "{}".to_owned(),
        // What a model garbled is kept as it was said, in an object that says so.
        _ => serde_json::json!({ "unreadable": text }).to_string(),
    }
}
