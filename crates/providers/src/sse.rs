//! The decoder of server-sent events. It works on bytes: lines are split first, and only whole lines are read as
//! text, so a character that is cut between two reads is never damaged.

use memchr::memchr2;

/// Most bytes of one line, and of one event's data; larger ones are refused instead of being collected.
pub const LONGEST_LINE: usize = 4 << 20;

/// One event, borrowed from the decoder: a token's event costs no allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// The `event:` field; empty where there was none.
    pub event: &'a str,
    /// The `data:` lines, joined by line feeds.
    pub data: &'a str,
}

/// A line or an event is larger than [`LONGEST_LINE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

/// Turns bytes into events, whatever pieces they come in.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    /// The last byte was a CR: a LF right after it belongs to the same line end.
    after_cr: bool,
    started: bool,
    event: String,
    data: String,
    has_data: bool,
}

impl Decoder {
    /// Takes bytes and calls `emit` with every event that is complete.
    ///
    /// # Errors
    /// [`LineTooLong`].
    pub fn feed(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(SseEvent<'_>)) -> Result<(), LineTooLong> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', bytes) else {
                self.line.extend_from_slice(bytes);
                return if self.line.len() > LONGEST_LINE { Err(LineTooLong) } else { Ok(()) };
            };
            self.after_cr = bytes[end] == b'\r';
            if self.line.len() + end > LONGEST_LINE {
                return Err(LineTooLong);
            }
            if self.line.is_empty() {
                self.line(&bytes[..end], emit)?;
            } else {
                self.line.extend_from_slice(&bytes[..end]);
                let line = std::mem::take(&mut self.line);
                let read = self.line(&line, emit);
                // The buffer is kept for the next line.
                self.line = line;
                self.line.clear();
                read?;
            }
            bytes = &bytes[end + 1..];
        }
        Ok(())
    }

    /// The stream has ended: an event whose blank line is missing is still one.
    pub fn finish(&mut self, emit: &mut impl FnMut(SseEvent<'_>)) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() || self.line(&line, emit).is_ok() {
            self.dispatch(emit);
        }
    }

    fn line(&mut self, line: &[u8], emit: &mut impl FnMut(SseEvent<'_>)) -> Result<(), LineTooLong> {
        let line = if std::mem::replace(&mut self.started, true) {
            line
        } else {
            line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
        };
        if line.is_empty() {
            self.dispatch(emit);
            return Ok(());
        }
        let (field, value) = match memchr::memchr(b':', line) {
            Some(0) => return Ok(()),
            Some(colon) => (&line[..colon], line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..])),
            None => (line, &b""[..]),
        };
        let value = String::from_utf8_lossy(value);
        match field {
            b"data" | b"error" => {
                // Older llama.cpp writes its errors as a field of their own.
                if field == b"error" {
                    "error".clone_into(&mut self.event);
                }
                if self.data.len() + value.len() >= LONGEST_LINE {
                    return Err(LineTooLong);
                }
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(&value);
            }
            b"event" => value.as_ref().clone_into(&mut self.event),
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, emit: &mut impl FnMut(SseEvent<'_>)) {
        if std::mem::take(&mut self.has_data) {
            emit(SseEvent { event: &self.event, data: &self.data });
        }
        self.event.clear();
        self.data.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let (mut decoder, mut events) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.feed(piece, &mut |it| events.push(event(it.event, it.data))).unwrap();
        }
        decoder.finish(&mut |it| events.push(event(it.event, it.data)));
        events
    }

    fn event(event: &str, data: &str) -> (String, String) {
        (event.to_owned(), data.to_owned())
    }

    #[test]
    fn every_form_of_line_is_understood() {
        let text = b"\xef\xbb\xbfdata: a\r\ndata:b\r\n\r\n: comment\nid: 1\nevent: x\rdata:  c\r\rdata\n\nevent: y\n\ndata: end";
        let expected = vec![event("", "a\nb"), event("x", " c"), event("", ""), event("", "end")];
        assert_eq!(decode(&[text]), expected);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let (mut decoder, piece) = (Decoder::default(), vec![b'x'; 1 << 20]);
        let fed = (0..5).try_for_each(|_| decoder.feed(&piece, &mut |_| {}));
        assert_eq!(fed, Err(LineTooLong));
    }

    #[test]
    fn an_endless_event_is_refused() {
        let (mut decoder, line) = (Decoder::default(), format!("data: {}\n", "x".repeat(1 << 20)));
        let fed = (0..5).try_for_each(|_| decoder.feed(line.as_bytes(), &mut |_| {}));
        assert_eq!(fed, Err(LineTooLong));
    }

    #[test]
    fn a_field_named_error_is_an_error_event() {
        assert_eq!(decode(&[b"error: {\"code\":500}\n\n"]), vec![event("error", "{\"code\":500}")]);
    }

    #[test]
    fn characters_survive_a_cut_at_every_byte() {
        let text = "\u{feff}data: 你好👩‍👩‍👧‍👦𠮷\r\n\r\n".as_bytes();
        for cut in 0..=text.len() {
            assert_eq!(decode(&[&text[..cut], &text[cut..]]), vec![event("", "你好👩‍👩‍👧‍👦𠮷")], "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(text in "(data: ?[^\r\n]{0,9}(\r\n|\n|\r)|event: e\n|:c\n|\n|\r\n|\r){0,12}", cuts in prop::collection::vec(0_usize..200, 0..9)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|window| &bytes[window[0]..window[1]]).collect();
            prop_assert_eq!(decode(&pieces), decode(&[bytes]));
        }
    }
}
