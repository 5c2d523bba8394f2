//! Objects out of JSON that comes without a frame: one object, several in a row, or the elements of one array. Gemini
//! streams such an array, and many hosts answer with one object although a stream was asked for.

use crate::sse::LONGEST_LINE;

/// Most bytes of one object.
const LONGEST_OBJECT: usize = 2 * LONGEST_LINE;

/// The JSON can't be taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Something other than objects stands at the top.
    NoObject,
    /// One object is larger than anything sensible.
    TooLarge,
}

/// Finds the objects, whatever pieces the bytes come in.
#[derive(Default)]
pub(super) struct Splitter {
    object: Vec<u8>,
    /// How many brackets are open within the object.
    depth: usize,
    in_string: bool,
    after_backslash: bool,
}

impl Splitter {
    /// Takes bytes and calls `emit` with every object that is complete. Brackets are only counted: whether the object is
    /// good JSON is seen by who reads it.
    pub(super) fn feed(&mut self, bytes: &[u8], emit: &mut impl FnMut(&str)) -> Result<(), Unreadable> {
        for byte in bytes {
            if self.depth == 0 {
                match byte {
                    b'{' => {}
                    b'[' | b']' | b',' => continue,
                    blank if blank.is_ascii_whitespace() => continue,
                    _ => return Err(Unreadable::NoObject),
                }
            }
            self.object.push(*byte);
            if self.in_string {
                match byte {
                    _ if self.after_backslash => self.after_backslash = false,
                    b'\\' => self.after_backslash = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
            if self.depth == 0 {
                emit(&String::from_utf8_lossy(&self.object));
                self.object.clear();
            }
        }
        if self.object.len() > LONGEST_OBJECT { Err(Unreadable::TooLarge) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&[u8]]) -> Result<Vec<String>, Unreadable> {
        let (mut splitter, mut objects) = (Splitter::default(), Vec::new());
        for piece in pieces {
            splitter.feed(piece, &mut |object| objects.push(object.to_owned()))?;
        }
        Ok(objects)
    }

    #[test]
    fn objects_are_found_in_every_form() {
        let (a, b) = (r#"{"a":"]},{\"\\"}"#, r#"{"b":[{"c":"你"}]}"#);
        let both = vec![a.to_owned(), b.to_owned()];
        for text in [format!("[{a}\n,\n{b}]"), format!("{a}{b}"), format!(" {a}\r\n{b}\n"), format!("[{a},{b}")] {
            assert_eq!(split(&[text.as_bytes()]), Ok(both.clone()), "{text}");
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(split(&pieces), Ok(both.clone()), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(split(&[b"[1]"]), Err(Unreadable::NoObject));
        assert_eq!(split(&[b"{}nonsense"]), Err(Unreadable::NoObject));
        let piece = vec![b'['; 1 << 20];
        let mut splitter = Splitter::default();
        assert_eq!(splitter.feed(b"{\"a\":", &mut |_| {}), Ok(()));
        let fed = (0..9).try_for_each(|_| splitter.feed(&piece, &mut |_| {}));
        assert_eq!(fed, Err(Unreadable::TooLarge));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = split(&[b"{", &bytes]);
            let _ = split(&[&bytes]);
        }
    }
}
