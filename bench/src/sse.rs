//! Just enough of server-sent events: the text of each event, in both dialects that are measured.

use anyhow::{Result, bail};
use serde_json::Value;

/// Cuts bytes into lines and hands on the text of each `data:` line.
#[derive(Default)]
pub struct Texts {
    rest: Vec<u8>,
}

impl Texts {
    /// Takes bytes.
    ///
    /// # Errors
    /// The stream says that the answer has failed.
    pub fn feed(&mut self, bytes: &[u8], mut text: impl FnMut(&str)) -> Result<()> {
        self.rest.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(end) = self.rest[used..].iter().position(|byte| *byte == b'\n') {
            let line = self.rest[used..used + end].trim_ascii();
            used += end + 1;
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            let Ok(event) = serde_json::from_slice::<Value>(data) else { continue };
            // OpenAI's form, and ours: `{message_id, content, model}`.
            let piece = event["choices"][0]["delta"]["content"].as_str().or_else(|| event["content"].as_str());
            match piece {
                Some(piece) => text(piece),
                None if event["error"].is_object() || event["retryable"].is_boolean() => bail!("{event}"),
                None => {}
            }
        }
        self.rest.drain(..used);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_dialects_are_read_however_they_are_cut() {
        let stream = b"event: stream\ndata: {\"message_id\":\"m\",\"content\":\"a\"}\n\n\
                       data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\ndata: [DONE]\n\n";
        for cut in 0..stream.len() {
            let (mut texts, mut seen) = (Texts::default(), String::new());
            texts.feed(&stream[..cut], |piece| seen.push_str(piece)).unwrap();
            texts.feed(&stream[cut..], |piece| seen.push_str(piece)).unwrap();
            assert_eq!(seen, "ab", "cut at {cut}");
        }
        let failed = b"event: error\ndata: {\"code\":\"PROVIDER_ERROR\",\"retryable\":true}\n";
        assert!(Texts::default().feed(failed, |_| {}).is_err());
    }
}
