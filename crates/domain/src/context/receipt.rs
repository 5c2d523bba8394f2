//! What an attempt was shown: ids, counts and reasons, never a text.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Fate, Piece, Plan, Thread, Window};
use crate::{content::Role, ids::AnswerId};

/// Messages that are listed one by one, the newest; older ones are listed as one range, so that a receipt stays small
/// in a long session.
const LISTED: usize = 64;
/// Most ranges of one kind of change; the rest is added to the last one.
const MOST_CHANGES: usize = 32;
/// Most conversions that are listed; the same one of several messages is one line.
const MOST_CONVERTED: usize = 64;

/// A part of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptPart {
    /// `system`, `tools`, `summary`, `message`, or `messages` for a range of them.
    pub kind: String,
    /// The message (for a summary, the answer that it is); the first one of a range. None for what a client brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Uuid>,
    /// Last message of a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message_id: Option<Uuid>,
    /// Who speaks, where it is one message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// How many messages it stands for.
    pub count: u64,
    /// Tokens.
    pub tokens: u64,
}

/// Messages that were not shown as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Uuid>,
    /// The last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message_id: Option<Uuid>,
    /// How many.
    pub count: u64,
    /// Tokens that they would have cost.
    pub tokens: u64,
    /// `message`, or `tool_output` where only that was left out.
    pub what: String,
    /// Why: `window`, or `by_request`.
    pub why: String,
    /// The summary that stands for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<AnswerId>,
}

/// Something that was changed for the model's dialect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Converted {
    /// What, for example `image` or `reasoning`.
    pub what: String,
    /// The message; the first one, where it is several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Uuid>,
    /// The last one, where it is several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message_id: Option<Uuid>,
    /// Of how many messages.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u64,
    /// Why, and what became of it.
    pub why: String,
}

const fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_one(count: &u64) -> bool {
    *count == 1
}

impl Converted {
    /// One message's, or the whole request's.
    pub fn new(what: impl Into<String>, message_id: Option<Uuid>, why: impl Into<String>) -> Self {
        Self { what: what.into(), message_id, last_message_id: None, count: 1, why: why.into() }
    }
}

/// What an attempt was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The model, `provider/name`.
    pub model: String,
    /// SHA-256 of the exact request, hex.
    pub request_hash: String,
    /// The model's window.
    pub window: u64,
    /// Tokens kept for the answer.
    pub reserved_output: u64,
    /// Tokens that the request might have had.
    pub budget: u64,
    /// Tokens that it had, by our count.
    pub used: u64,
    /// Whether the count is an estimate.
    pub estimated: bool,
    /// Tokens that it has by the provider's own count, where that was asked for: near the end of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<u64>,
    /// What it is made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ReceiptPart>,
    /// What was left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<Change>,
    /// What a summary stands for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub summarized: Vec<Change>,
    /// What was changed for the model's dialect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub converted: Vec<Converted>,
}

/// What a receipt is made of besides the thread.
#[derive(Clone, Debug)]
pub struct Shown<'a> {
    /// The model, `provider/name`.
    pub model: String,
    /// Its window.
    pub window: Window,
    /// The messages.
    pub pieces: &'a [Piece],
    /// What became of them.
    pub plan: &'a Plan,
    /// Tokens of the system prompt.
    pub system: u64,
    /// Tokens and number of the tools.
    pub tools: (u64, u64),
    /// Tokens of each of the thread's summaries.
    pub summaries: &'a [u64],
    /// Whether the counts are estimates.
    pub estimated: bool,
}

impl Receipt {
    /// The receipt of a request that is still to be rendered.
    pub fn of(thread: &Thread, shown: Shown<'_>) -> Self {
        let mut receipt = Self {
            model: shown.model.clone(),
            window: shown.window.length,
            reserved_output: shown.window.reserved,
            budget: shown.window.budget(),
            used: shown.plan.used,
            estimated: shown.estimated,
            ..Self::default()
        };
        receipt.list_parts(thread, &shown);
        receipt.list_changes(thread, &shown);
        receipt.convert(thread.mended.iter().map(|mended| {
            let (what, why) = match mended.is_call {
                true => ("tool_call", "left out: nobody answered it"),
                false => ("tool_result", "sent as text: no call asked for it"),
            };
            Converted::new(what, mended.message_id, why)
        }));
        receipt
    }

    /// Whether messages were left out for want of room, so that a summary of them would help the next turn.
    pub fn lacks_room(&self) -> bool {
        self.dropped.iter().any(|change| change.what == "message")
    }

    /// Notes conversions, oldest message first: what became of several messages for the same reason is said once.
    pub fn convert(&mut self, converted: impl IntoIterator<Item = Converted>) {
        for new in converted {
            let same = self.converted.iter_mut().find(|old| old.what == new.what && old.why == new.why);
            if let Some(same) = same {
                same.last_message_id = new.last_message_id.or(new.message_id);
                same.count += new.count;
            } else if self.converted.len() < MOST_CONVERTED {
                self.converted.push(new);
            }
        }
    }

    fn list_parts(&mut self, thread: &Thread, shown: &Shown<'_>) {
        let part =
            |kind: &str, count, tokens| ReceiptPart { kind: kind.to_owned(), count, tokens, ..ReceiptPart::default() };
        if shown.system > 0 {
            self.parts.push(part("system", 1, shown.system));
        }
        if shown.tools.1 > 0 {
            self.parts.push(part("tools", shown.tools.1, shown.tools.0));
        }
        for (number, summary) in thread.summaries.iter().enumerate() {
            if shown.plan.fates.contains(&Fate::Summarised(number)) {
                let tokens = shown.summaries.get(number).copied().unwrap_or(0);
                self.parts
                    .push(ReceiptPart { message_id: Some(summary.answer_id.as_uuid()), ..part("summary", 1, tokens) });
            }
        }
        let kept: Vec<usize> = (0..shown.pieces.len())
            .filter(|at| matches!(shown.plan.fates[*at], Fate::Kept | Fate::WithoutToolOutput))
            .collect();
        let (older, newest) = kept.split_at(kept.len().saturating_sub(LISTED));
        let cost = |at: usize| {
            let piece = &shown.pieces[at];
            if shown.plan.fates[at] == Fate::Kept {
                piece.tokens
            } else {
                piece.tokens.saturating_sub(piece.tool_output)
            }
        };
        let id = |at: &usize| thread.entries[*at].message.message_id;
        if let (Some(first), Some(last)) = (older.first(), older.last()) {
            let tokens = older.iter().map(|at| cost(*at)).sum();
            let range = part("messages", older.len() as u64, tokens);
            self.parts.push(ReceiptPart { message_id: id(first), last_message_id: id(last), ..range });
        }
        self.parts.extend(newest.iter().map(|at| ReceiptPart {
            message_id: id(at),
            role: Some(thread.entries[*at].message.role),
            ..part("message", 1, cost(*at))
        }));
    }

    fn list_changes(&mut self, thread: &Thread, shown: &Shown<'_>) {
        let mut before: Option<Fate> = None;
        for ((entry, fate), piece) in thread.entries.iter().zip(&shown.plan.fates).zip(shown.pieces) {
            let goes_on = before.replace(*fate) == Some(*fate);
            let (list, what, why, summary) = match fate {
                Fate::Kept => continue,
                Fate::WithoutToolOutput => (&mut self.dropped, "tool_output", "window", None),
                Fate::Marked | Fate::Dropped => (&mut self.dropped, "message", "window", None),
                Fate::Summarised(number) => {
                    let summary = thread.summaries.get(*number);
                    let why = if summary.is_some_and(|summary| summary.by_request) { "by_request" } else { "window" };
                    (&mut self.summarized, "message", why, summary.map(|summary| summary.answer_id))
                }
            };
            let tokens = if *fate == Fate::WithoutToolOutput { piece.tool_output } else { piece.tokens };
            let is_full = list.len() >= MOST_CHANGES;
            match list.last_mut() {
                Some(last) if goes_on || is_full => {
                    last.last_message_id = entry.message.message_id;
                    last.count += 1;
                    last.tokens += tokens;
                }
                _ => list.push(Change {
                    message_id: entry.message.message_id,
                    last_message_id: entry.message.message_id,
                    count: 1,
                    tokens,
                    what: what.to_owned(),
                    why: why.to_owned(),
                    summary,
                }),
            }
        }
    }
}
