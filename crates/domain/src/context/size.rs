//! What of a message costs tokens, and an estimate of how many.

use crate::content::{MediaSource, Message, Part, Tool};

/// Tokens of a picture, whatever its size: providers count 85 to about 1,600.
const PICTURE: u64 = 1_600;
/// Tokens of the words that stand for a picture which was left out.
const LEFT_OUT: u64 = 10;
/// Bytes of a binary document for a token. A page of PDF has some tens of kilobytes and about 2,000 tokens.
const DOCUMENT_BYTES: u64 = 25;

/// What of a message costs tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts<'a> {
    /// Texts to be counted.
    pub texts: Vec<&'a str>,
    /// Texts that tools answered, to be counted on their own.
    pub tool_output: Vec<&'a str>,
    /// Tokens of what isn't text.
    pub flat: u64,
}

/// What of a message costs tokens at a provider. Reasoning only goes back to the provider that it came from, and only
/// where it is signed or a call of a tool depends on it. Pictures only go to models that see.
pub fn texts_of<'a>(message: &'a Message, provider: &str, sees: bool) -> Texts<'a> {
    let mut all = Texts::default();
    let is_own = message.provider.as_deref() == Some(provider);
    let calls = message.parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
    for part in &message.parts {
        match part {
            Part::Text { text } | Part::Refusal { text } => all.texts.push(text.as_str()),
            Part::Image { .. } => all.flat += if sees { PICTURE } else { LEFT_OUT },
            Part::File { name, media } => {
                all.texts.push(name.as_str());
                match &media.source {
                    MediaSource::Inline(data) if media.media_type.starts_with("text/") => {
                        // Base64 of text: three quarters of it are the bytes, a quarter of which are the tokens.
                        all.flat += data.as_str().len() as u64 * 3 / 16;
                    }
                    MediaSource::Inline(data) => all.flat += PICTURE.max(data.as_str().len() as u64 / DOCUMENT_BYTES),
                    MediaSource::Url(_) | MediaSource::Stored(_) => all.flat += PICTURE,
                }
            }
            Part::Reasoning { text, opaque } => {
                if is_own && (calls || opaque.is_some()) {
                    all.texts.push(text.as_str());
                    all.flat += opaque.as_ref().map_or(0, |opaque| opaque.as_str().len() as u64 / 4);
                }
            }
            Part::ToolCall(call) => all.texts.extend([call.name.as_str(), call.arguments.as_str()]),
            Part::ToolResult(result) => all.tool_output.push(result.content.as_str()),
            // Sources are for people: no dialect takes them back.
            Part::Citation(_) => {}
        }
    }
    all
}

/// The texts of tools that a model may call.
pub fn texts_of_tools(tools: &[Tool]) -> impl Iterator<Item = &str> {
    tools.iter().flat_map(|tool| {
        let description = tool.description.as_ref().map(|text| text.as_str());
        [Some(tool.name.as_str()), description, Some(tool.parameters.as_str())].into_iter().flatten()
    })
}

/// About how many tokens a text has, in one pass and without a vocabulary: within a third for prose and code.
pub fn estimate(text: &str) -> u64 {
    #[derive(PartialEq, Clone, Copy)]
    enum Class {
        Letter,
        Digit,
        Blank,
        Other,
    }
    // Sixtieths of a token, so that the shares of a class are whole numbers.
    let (mut sixtieths, mut run, mut class) = (0_u64, 0_u64, Class::Blank);
    let close = |class: Class, run: u64| match class {
        Class::Letter => run.div_ceil(6) * 60,
        Class::Digit => run.div_ceil(3) * 60,
        Class::Blank if run > 1 => 60 + run / 16 * 60,
        Class::Blank | Class::Other => 0,
    };
    for c in text.chars() {
        let (of, share) = match c {
            'a'..='z' | 'A'..='Z' => (Class::Letter, 0),
            '0'..='9' => (Class::Digit, 0),
            ' ' | '\n' | '\t' | '\r' => (Class::Blank, 0),
            '!'..='~' => (Class::Other, 45),
            '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' => (Class::Other, 45),
            c if c.is_alphabetic() => (Class::Other, 20),
            _ => (Class::Other, 60),
        };
        if of != class {
            sixtieths += close(class, run);
            (class, run) = (of, 0);
        }
        run += 1;
        sixtieths += share;
    }
    (sixtieths + close(class, run)).div_ceil(60)
}
