//! Counting tokens ourselves: only where the provider did not say. The counts are estimates for every model whose
//! tokeniser isn't public.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Conversation, Part};

/// Longest text given to the tokeniser at a time: it recurses with the length of a run of blanks.
const PIECE: usize = 64 * 1024;
/// Longest text that is tokenised at all; beyond it, bytes are counted.
const LONGEST: usize = 256 * 1024;
/// Texts up to this size are counted in place.
const INLINE: usize = 4 * 1024;
/// Tokens of the frame around a message.
const MESSAGE_OVERHEAD: u64 = 4;

/// A count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenCount {
    /// How many.
    pub tokens: u64,
    /// Whether bytes were counted instead.
    pub estimated: bool,
}

fn count(text: &str) -> TokenCount {
    let by_bytes = TokenCount { tokens: (text.len() as u64).div_ceil(3), estimated: true };
    if text.len() > LONGEST {
        return by_bytes;
    }
    // The tokeniser panics on some inputs instead of failing.
    let counted = catch_unwind(AssertUnwindSafe(|| {
        let tokeniser = tiktoken_rs::o200k_base_singleton();
        let (mut rest, mut tokens) = (text, 0);
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(rest.floor_char_boundary(PIECE.min(rest.len())));
            tokens += tokeniser.encode_ordinary(head).len() as u64;
            rest = tail;
        }
        tokens
    }));
    counted.map_or(by_bytes, |tokens| TokenCount { tokens, estimated: false })
}

/// Thousandths by which a provider's tokeniser needs more than o200k.
fn factor(provider: &str) -> u64 {
    match provider {
        "openai" => 1_000,
        "anthropic" => 1_250,
        "gemini" => 1_200,
        _ => 1_050,
    }
}

/// Counts a text off the async threads when it is long.
pub async fn count_text(text: String, provider: &str) -> TokenCount {
    let counted = if text.len() <= INLINE {
        count(&text)
    } else {
        let bytes = text.len() as u64;
        let fallback = TokenCount { tokens: bytes.div_ceil(3), estimated: true };
        tokio::task::spawn_blocking(move || count(&text)).await.unwrap_or(fallback)
    };
    TokenCount { tokens: (counted.tokens * factor(provider)).div_ceil(1_000), ..counted }
}

/// Counts what a conversation costs as input.
pub async fn count_conversation(conversation: Conversation, provider: &str) -> TokenCount {
    let mut total = TokenCount { tokens: 0, estimated: false };
    let texts = conversation.system.into_iter().chain(
        conversation.messages.into_iter().flat_map(|message| message.parts.into_iter().map(|Part::Text(text)| text)),
    );
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
    }
}
