//! What a model thought, in blocks.
//!
//! Models of Anthropic's family sign their thoughts and want them back as they were: such a block goes out with its real
//! signature, and comes back with it. Other thoughts are marked with whose they are, where others have a signature: they
//! go back to that provider only, and a client that keeps what it is given needs to know nothing of it.

use polyphony_domain::content::Part;
use serde_json::{Value, json};

use super::answer::Block;
use crate::routes::v1::listen::Outcome;

/// What stands before the name of the provider in a mark.
const MARK: &str = "polyphony/";
/// The family that signs. Its signatures are good at all of its hosts.
pub const FAMILY: &str = "anthropic";

/// What stands in the place of a signature for a provider that gives none.
pub fn mark(provider: &str) -> String {
    format!("{MARK}{provider}")
}

/// Whose a thought is, by its signature; none for one without.
pub fn origin(signature: &str) -> Option<&str> {
    if signature.is_empty() { None } else { Some(signature.strip_prefix(MARK).unwrap_or(FAMILY)) }
}

/// A thought that a client sends back.
pub fn taken(text: String, signature: &str) -> Part {
    let opaque = || json!({"type": "thinking", "signature": signature}).to_string().into();
    Part::Reasoning { text: text.into(), opaque: (origin(signature) == Some(FAMILY)).then(opaque) }
}

/// A thought that nobody may read, and that a client sends back.
pub fn redacted(data: &str) -> Part {
    let opaque = json!({"type": "redacted_thinking", "data": data}).to_string();
    Part::Reasoning { text: String::new().into(), opaque: Some(opaque.into()) }
}

fn block(part: &Part) -> Option<Block> {
    let Part::Reasoning { text, opaque: Some(opaque) } = part else { return None };
    let opaque: Value = serde_json::from_str(opaque.as_str()).ok()?;
    let field = |name: &str| opaque[name].as_str().map(str::to_owned);
    match opaque["type"].as_str()? {
        "thinking" => Some(Block::Thinking { thinking: text.as_str().to_owned(), signature: field("signature")? }),
        "redacted_thinking" => Some(Block::RedactedThinking { data: field("data")? }),
        _ => None,
    }
}

/// The blocks that were signed, in order.
pub fn signed(outcome: &Outcome) -> impl Iterator<Item = Block> {
    outcome.record.parts.iter().filter_map(block)
}

/// All blocks of what was thought for an answer.
pub fn blocks(outcome: &Outcome) -> Vec<Block> {
    let signed: Vec<Block> = signed(outcome).collect();
    if !signed.is_empty() {
        return signed;
    }
    let signature = mark(&outcome.record.model.provider);
    let shown = outcome.reasoning().map(|text| Block::Thinking { thinking: text.to_owned(), signature });
    shown.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thought_comes_back_as_it_went_out() {
        for part in [taken("a".into(), "c2ln"), redacted("ZGF0YQ==")] {
            let again = match block(&part) {
                Some(Block::Thinking { thinking, signature }) => taken(thinking, &signature),
                Some(Block::RedactedThinking { data }) => redacted(&data),
                _ => panic!("it is no thought"),
            };
            assert_eq!(again, part);
        }
        // What isn't signed is told by whose it is.
        let other = mark("deepseek");
        assert_eq!([origin(&other), origin("c2ln"), origin("")], [Some("deepseek"), Some(FAMILY), None]);
        assert!(matches!(taken("a".into(), &other), Part::Reasoning { opaque: None, .. }));
        assert!(block(&taken("a".into(), &other)).is_none());
    }
}
