//! From a plan to the conversation that a model is shown.

use super::{Fate, Plan, Thread, words::Language};
use crate::content::{Conversation, Message, Part, Role};

/// What is to be said before the next message of a person.
struct Pending {
    language: Language,
    dropped: usize,
    parts: Vec<Part>,
}

impl Pending {
    fn end_run(&mut self) {
        if self.dropped > 0 {
            self.parts.push(Part::text(self.language.dropped(self.dropped) + "\n\n"));
            self.dropped = 0;
        }
    }
}

impl Thread {
    /// The conversation that a plan leaves. Marks and summaries stand at the head of the person's next message, so that
    /// the roles take turns as before.
    pub fn shown(&self, plan: &Plan) -> Conversation {
        let language = self.language();
        let mut pending = Pending { language, dropped: 0, parts: vec![] };
        let mut messages: Vec<Message> = Vec::with_capacity(self.entries.len());
        let mut used = None;
        for (entry, fate) in self.entries.iter().zip(&plan.fates) {
            let mut message = match fate {
                Fate::Dropped => {
                    pending.dropped += 1;
                    continue;
                }
                Fate::Summarised(number) => {
                    pending.end_run();
                    if used != Some(*number) {
                        used = Some(*number);
                        let summary =
                            self.summaries.get(*number).map(|summary| language.summary(summary.text.as_str()));
                        pending.parts.extend(summary.map(Part::text));
                    }
                    continue;
                }
                Fate::Kept => entry.message.clone(),
                Fate::WithoutToolOutput => without_tool_output(entry.message.clone(), language),
                Fate::Marked => Message { parts: vec![Part::text(language.left_out())], ..entry.message.clone() },
            };
            pending.end_run();
            if message.role == Role::User && !pending.parts.is_empty() {
                // Results of tools stay first: they answer the message before.
                let results = message.parts.iter().take_while(|part| matches!(part, Part::ToolResult(_))).count();
                message.parts.splice(results..results, pending.parts.drain(..));
            }
            messages.push(message);
        }
        pending.end_run();
        if !pending.parts.is_empty() {
            messages.push(Message { role: Role::User, parts: pending.parts, message_id: None, provider: None });
        }
        Conversation { system: self.system.clone(), messages }
    }
}

fn without_tool_output(mut message: Message, language: Language) -> Message {
    for part in &mut message.parts {
        if let Part::ToolResult(result) = part {
            result.content = language.tool_output().into();
        }
    }
    message
}
