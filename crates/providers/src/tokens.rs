//! Counting tokens ourselves: only where the provider did not say. The counts are estimates for every model whose
//! tokeniser isn't public.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
};

use polyphony_domain::{content::Conversation, personal::Personal};
use tiktoken_rs::CoreBPE;

/// Longest text given to the tokeniser at a time.
const PIECE: usize = 64 * 1024;
/// Longest stretch without a sure end of a word that the tokeniser sees. It recurses with the length of a run of blanks,
/// and its work for one word grows much faster than the word: so a byte of any text costs about as much as one of prose.
const STRETCH: usize = 256;
/// Longest text that is tokenised at all; beyond it, bytes are counted.
const LONGEST: usize = 256 * 1024;
/// Texts up to this size are counted in place, once the vocabulary is there.
const INLINE: usize = 4 * 1024;
/// How far back from a piece's end a boundary of tokens is looked for.
const LOOK_BACK: usize = 1024;
/// Tokens of the frame around a message.
const MESSAGE_OVERHEAD: u64 = 4;

/// The vocabulary: built at the first count, so that a process that never counts never pays for it.
static VOCABULARY: OnceLock<&'static CoreBPE> = OnceLock::new();

/// A count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenCount {
    /// How many.
    pub tokens: u64,
    /// Whether it's an estimate: bytes were counted, or the model's own tokeniser isn't public.
    pub estimated: bool,
}

impl TokenCount {
    /// Three bytes to a token: about one Chinese character, and too many rather than too few for other scripts.
    const fn by_bytes(bytes: usize) -> Self {
        Self { tokens: (bytes as u64).div_ceil(3), estimated: true }
    }
}

/// Whether the vocabulary is there, so that a short count costs next to nothing.
pub fn is_ready() -> bool {
    VOCABULARY.get().is_some()
}

/// The parts of a text that are counted one after the other, each at most [`PIECE`] long; their counts add up to that of the
/// whole. None where the text is too long to be counted at all.
pub(crate) fn parts(mut text: &str) -> Option<Vec<&str>> {
    if text.len() > LONGEST {
        return None;
    }
    let mut parts = Vec::with_capacity(text.len() / PIECE + 1);
    while text.len() > PIECE {
        let (head, tail) = text.split_at(boundary(text));
        parts.push(head);
        text = tail;
    }
    parts.push(text);
    Some(parts)
}

/// Counts a text by the public tokeniser, in place: whatever it holds, about as quickly as prose.
pub(crate) fn count(text: &str) -> TokenCount {
    if text.len() > LONGEST {
        return TokenCount::by_bytes(text.len());
    }
    // The tokeniser panics on some inputs instead of failing.
    let counted = catch_unwind(AssertUnwindSafe(|| {
        let tokeniser = VOCABULARY.get_or_init(tiktoken_rs::o200k_base_singleton);
        let (mut rest, mut tokens) = (text, 0);
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(cut(rest));
            tokens += tokeniser.count_ordinary(head) as u64;
            rest = tail;
        }
        tokens
    }));
    counted.map_or(TokenCount::by_bytes(text.len()), |tokens| TokenCount { tokens, estimated: false })
}

/// Where to cut the next piece off: before a stretch gets too long, at the cost of a token for each cut; else where a piece
/// is long enough.
fn cut(text: &str) -> usize {
    let end = boundary(text);
    let (mut before, mut stretch) = ('\0', 0);
    for (at, c) in text[..end].char_indices() {
        if ends_word(before, c) {
            stretch = 0;
        } else if stretch >= STRETCH {
            return at;
        }
        stretch += c.len_utf8();
        before = c;
    }
    end
}

/// Whether no pattern of the tokeniser goes on from one character to the next. It splits a text by classes of Unicode of
/// which not all are at hand here, so this is only said where it is sure.
const fn ends_word(before: char, c: char) -> bool {
    let letters = (before.is_ascii_alphabetic(), c.is_ascii_alphabetic());
    match (before, c) {
        // At most three digits are one word, and nothing else is in it.
        ('0'..='9', _) | (_, '0'..='9') => true,
        (' ' | '\t' | '\n' | '\r', ' ' | '\t') => false,
        // A blank is only at the beginning of a word.
        (_, ' ' | '\t') => before.is_ascii() || !before.is_whitespace(),
        (_, '\n' | '\r') => letters.0,
        // `it's` is one word.
        (_, '\'') | ('\'', _) => false,
        ('!'..='~', '!'..='~') => letters.0 && !letters.1,
        // Signs of Chinese and Japanese.
        (_, '\u{3001}'..='\u{303f}' | '\u{ff01}'..='\u{ff0f}') => before.is_ascii_alphabetic() || is_ideograph(before),
        _ => false,
    }
}

const fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}')
}

/// Where a piece is long enough: between a word and the blank after it, which no token spans. Only in a text without
/// such a place the cut may cost a token.
fn boundary(text: &str) -> usize {
    if text.len() <= PIECE {
        return text.len();
    }
    let end = text.floor_char_boundary(PIECE);
    let from = text.floor_char_boundary(PIECE - LOOK_BACK);
    let mut after_word = false;
    let mut found = end;
    for (at, c) in text[from..end].char_indices() {
        if after_word && c.is_whitespace() {
            found = from + at;
        }
        after_word = c.is_alphanumeric();
    }
    found
}

/// Thousandths by which a provider's tokeniser needs more than o200k.
pub(crate) fn factor(provider: &str) -> u64 {
    match provider {
        "openai" => 1_000,
        "anthropic" => 1_250,
        "gemini" => 1_200,
        _ => 1_050,
    }
}

/// Counts a text off the async threads when it is long.
pub async fn count_text(text: String, provider: &str) -> TokenCount {
    let counted = if text.is_empty() {
        TokenCount { tokens: 0, estimated: false }
    } else if text.len() <= INLINE && VOCABULARY.get().is_some() {
        count(&text)
    } else {
        let fallback = TokenCount::by_bytes(text.len());
        tokio::task::spawn_blocking(move || count(&text)).await.unwrap_or(fallback)
    };
    let factor = factor(provider);
    TokenCount { tokens: (counted.tokens * factor).div_ceil(1_000), estimated: counted.estimated || factor != 1_000 }
}

/// Counts what a conversation costs as input.
pub async fn count_conversation(conversation: Conversation, provider: &str) -> TokenCount {
    let mut total = TokenCount { tokens: 0, estimated: false };
    let texts = conversation.messages.iter().flat_map(|message| message.texts().map(str::to_owned));
    let texts = conversation.system.into_iter().map(Personal::into_string).chain(texts);
    for text in texts {
        let counted = count_text(text, provider).await;
        total.tokens += counted.tokens + MESSAGE_OVERHEAD;
        total.estimated |= counted.estimated;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hostile_texts_are_counted_and_not_panicked_about() {
        let blanks = " ".repeat(1_000_000) + "a";
        assert!(count_text(blanks, "openai").await.estimated);
        let fits = " ".repeat(200_000) + "a";
        assert!(count_text(fits, "openai").await.tokens > 0);
        assert_eq!(count_text("Hello, world!".into(), "openai").await, TokenCount { tokens: 4, estimated: false });
        assert_eq!(count_text("你好世界".into(), "openai").await.tokens, 2);
        assert_eq!(count_text("Hello, world!".into(), "anthropic").await, TokenCount { tokens: 5, estimated: true });
    }

    #[test]
    fn cutting_a_long_text_costs_no_token() {
        let text = "The quick brown fox — 敏捷的棕色狐狸 — isn't 12345 lazy.\n\n  let x = 1;\n".repeat(3_000);
        assert!((PIECE * 2..LONGEST).contains(&text.len()));
        let whole = tiktoken_rs::o200k_base_singleton().count_ordinary(&text) as u64;
        assert_eq!(count(&text), TokenCount { tokens: whole, estimated: false });
    }

    #[test]
    fn a_text_without_blanks_is_cut_too() {
        let text = "你".repeat(50_000);
        let whole = tiktoken_rs::o200k_base_singleton().count_ordinary(&text) as u64;
        let cuts = (text.len() / STRETCH) as u64;
        assert!(count(&text).tokens.abs_diff(whole) <= cuts);
    }

    fn pieces(mut text: &str) -> Vec<&str> {
        let mut pieces = Vec::new();
        while !text.is_empty() {
            let (head, tail) = text.split_at(cut(text));
            pieces.push(head);
            text = tail;
        }
        pieces
    }

    #[test]
    fn the_tokeniser_is_given_no_long_word_whatever_a_text_holds() {
        // Each is one word for some pattern of the tokeniser, however long it gets.
        let hostile = [
            " ", "a", "\n", "\t", "\r\n", "aB", "!", "/\n", "-¡", "e\u{301}", "\u{301}", "\u{a0}", "你", "é", "👋",
            "\u{200d}", "\n/", " \n", "\n ", "…。", "ก", "\u{3000}", "a'",
        ];
        for unit in hostile {
            let text = unit.repeat(LONGEST / unit.len());
            let pieces = pieces(&text);
            assert_eq!(pieces.concat(), text);
            let longest = pieces.iter().map(|piece| piece.len()).max().unwrap();
            assert!(longest <= STRETCH + unit.len(), "{unit:?}: {longest}");
            // What isn't cut costs no more than its length, and the cuts no more than a token each.
            let counted = count(&text);
            assert!(!counted.estimated && counted.tokens as usize <= text.len() + pieces.len(), "{unit:?}");
        }
    }

    #[test]
    fn where_a_word_is_said_to_end_the_tokeniser_ends_it() {
        let tokeniser = tiktoken_rs::o200k_base_singleton();
        let text = "Let x = 1234.5; // it's \"fine\"\n\tif (a != b) { 敏捷的，棕色狐狸。跳过 } https://a.b/c?d=e&f\r\n\r\n# end\n  - item\n";
        let chars: Vec<(usize, char)> = text.char_indices().collect();
        for pair in chars.windows(2) {
            let [(_, before), (at, c)] = pair else { unreachable!() };
            if ends_word(*before, *c) {
                let apart = tokeniser.count_ordinary(&text[..*at]) + tokeniser.count_ordinary(&text[*at..]);
                // Digits are grouped from their beginning: within a number a cut may move the groups.
                let within = before.is_ascii_digit() && c.is_ascii_digit();
                assert!(within || apart == tokeniser.count_ordinary(text), "{before:?} {c:?} at {at}");
            }
        }
        // Prose, code and Chinese are never cut within a piece.
        let long = text.repeat(PIECE / text.len());
        assert_eq!(pieces(&long), [long.as_str()]);
    }
}
