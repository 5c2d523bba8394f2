//! `<think>…</think>` at the beginning of the text, as some hosts write reasoning. Tags may be cut between pieces.

use crate::answer::Output;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The host doesn't write it, or it's over.
    Off,
    /// The text has not begun.
    Before,
    Inside,
    /// Right after the closing tag: its line feeds belong to it.
    After,
}

/// Tells reasoning from text.
pub(super) struct ThinkTags {
    state: State,
    /// Text that may be the beginning of a tag.
    held: String,
}

impl ThinkTags {
    pub(super) const fn new(declared: bool) -> Self {
        Self { state: if declared { State::Before } else { State::Off }, held: String::new() }
    }

    /// Passes a piece of the text on.
    pub(super) fn text(&mut self, text: &str, out: &mut Output) {
        if self.state == State::Off {
            return out.text(text);
        }
        if self.state == State::After {
            let text = text.trim_start_matches(['\n', '\r']);
            if !text.is_empty() {
                self.state = State::Off;
                out.text(text);
            }
            return;
        }
        self.held.push_str(text);
        if self.state == State::Before {
            let begun = self.held.trim_start();
            if let Some(rest) = begun.strip_prefix(OPEN) {
                self.held = rest.to_owned();
                self.state = State::Inside;
            } else if OPEN.starts_with(begun) {
                return;
            } else {
                self.state = State::Off;
                return self.release(out);
            }
        }
        if let Some((thought, rest)) = self.held.split_once(CLOSE) {
            out.reasoning(thought);
            let rest = rest.to_owned();
            self.held.clear();
            self.state = State::After;
            return self.text(&rest, out);
        }
        // What may be the beginning of the closing tag waits for the next piece.
        let keep = (1..CLOSE.len()).rev().find(|length| self.held.ends_with(&CLOSE[..*length])).unwrap_or(0);
        let tail = self.held.split_off(self.held.len() - keep);
        out.reasoning(&std::mem::replace(&mut self.held, tail));
    }

    /// Lets go of what was held back.
    pub(super) fn release(&mut self, out: &mut Output) {
        let held = std::mem::take(&mut self.held);
        if self.state == State::Inside { out.reasoning(&held) } else { out.text(&held) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AdapterEvent;

    fn split(declared: bool, pieces: &[&str]) -> (String, String) {
        let (mut tags, mut out) = (ThinkTags::new(declared), Output::default());
        for piece in pieces {
            tags.text(piece, &mut out);
        }
        tags.release(&mut out);
        let (mut reasoning, mut said) = (String::new(), String::new());
        for event in out.take() {
            match event.unwrap() {
                AdapterEvent::Reasoning(piece) => reasoning += &piece,
                AdapterEvent::Text(piece) => said += &piece,
                other => panic!("{other:?}"),
            }
        }
        (reasoning, said)
    }

    #[test]
    fn tags_cut_anywhere_are_understood() {
        let text = "\n<think>\n先想 < </ 一下</think>\n\n答案 </think>";
        let whole = split(true, &[text]);
        assert_eq!(whole, ("\n先想 < </ 一下".to_owned(), "答案 </think>".to_owned()));
        let pieces: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(split(true, &pieces.iter().map(String::as_str).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn text_without_tags_or_declaration_stays_text() {
        for (declared, text) in
            [(true, "<thi"), (true, "no <think>tags</think>"), (false, "<think>a</think>b"), (true, "")]
        {
            assert_eq!(split(declared, &[text]), (String::new(), text.to_owned()));
        }
        assert_eq!(split(true, &["<think>never closed </thi"]), ("never closed </thi".to_owned(), String::new()));
    }
}
