//! From prompts and answers to canonical messages.

use uuid::Uuid;

use super::{History, words::Language};
use crate::{
    content::{Message, Part, Role},
    ids::{AnswerId, TurnId},
    personal::Personal,
    turn::{AttemptRecord, Prompt},
};

/// Whether a text has anything to say: it was not erased and isn't empty.
fn speaks(text: &Personal) -> bool {
    !text.is_erased() && !text.as_str().is_empty()
}

/// Whether all of a part is still there.
fn is_whole(part: &Part) -> bool {
    match part {
        Part::Text { text } | Part::Refusal { text } => speaks(text),
        Part::Image { media } | Part::File { media, .. } => match &media.source {
            crate::content::MediaSource::Inline(text) | crate::content::MediaSource::Url(text) => speaks(text),
            crate::content::MediaSource::Stored(_) => true,
        },
        Part::Reasoning { text, opaque } => !text.is_erased() && !opaque.as_ref().is_some_and(Personal::is_erased),
        Part::ToolCall(call) => !call.arguments.is_erased(),
        Part::ToolResult(result) => !result.content.is_erased(),
        Part::Citation(citation) => speaks(&citation.url),
    }
}

fn message(role: Role, parts: Vec<Part>, id: Uuid, provider: Option<&str>) -> Option<Message> {
    (!parts.is_empty()).then(|| Message { role, parts, message_id: Some(id), provider: provider.map(str::to_owned) })
}

/// A prompt as a message: tool results first, since they answer the message before, then what it quotes, then what
/// came with it, then its text. None where nothing is left of it.
pub(super) fn of_prompt(history: &History<'_>, turn: TurnId, prompt: &Prompt) -> Option<Message> {
    let (results, rest): (Vec<Part>, Vec<Part>) = prompt
        .parts
        .iter()
        .filter(|part| is_whole(part))
        .cloned()
        .partition(|part| matches!(part, Part::ToolResult(_)));
    let mut parts = results;
    if let Some(quoted) = prompt.quote.and_then(|quote| history.text_of(quote)).filter(|quoted| speaks(quoted)) {
        parts.push(Part::text(Language::of([prompt.content.as_str(), quoted.as_str()]).quote(quoted.as_str())));
    }
    parts.extend(rest);
    if speaks(&prompt.content) {
        parts.push(Part::Text { text: prompt.content.clone() });
    }
    message(Role::User, parts, turn.as_uuid(), None)
}

/// An answer as messages: one, or several where tools ran while it was made.
pub(super) fn of_answer(answer: AnswerId, record: &AttemptRecord) -> Vec<Message> {
    let (id, provider) = (answer.as_uuid(), Some(record.model.provider.as_str()));
    let kept: Vec<&Part> = record.parts.iter().filter(|part| is_whole(part)).collect();
    let tools_ran = kept.iter().any(|part| matches!(part, Part::ToolResult(_)));
    let is_reasoning = |part: &&&Part| matches!(part, Part::Reasoning { .. });
    let mut said: Vec<Part> = Vec::new();
    // The adapter decides whether its provider takes it back, and says so where it doesn't.
    if let Some(text) = record.reasoning.as_ref().filter(|text| speaks(text))
        && !kept.iter().any(|part| is_reasoning(&part))
    {
        said.push(Part::Reasoning { text: text.clone(), opaque: None });
    }
    let lead = kept.iter().take_while(is_reasoning).count();
    said.extend(kept[..lead].iter().map(|part| (*part).clone()));
    let text = speaks(&record.text).then(|| Part::Text { text: record.text.clone() });
    // Where tools ran meanwhile, the text is what came of them.
    let (before, after) = if tools_ran { (None, text) } else { (text, None) };
    said.extend(before);
    let (mut messages, mut results) = (Vec::new(), Vec::new());
    for part in &kept[lead..] {
        if matches!(part, Part::ToolResult(_)) {
            messages.extend(message(Role::Assistant, std::mem::take(&mut said), id, provider));
            results.push((*part).clone());
        } else {
            messages.extend(message(Role::User, std::mem::take(&mut results), id, None));
            said.push((*part).clone());
        }
    }
    messages.extend(message(Role::User, results, id, None));
    said.extend(after);
    messages.extend(message(Role::Assistant, said, id, provider));
    messages
}
