//! Marks: what the mock writes in place of words, and how the client reads them.
//!
//! A mark is `~<microseconds>.<number>;` by the monotonic clock, which all processes of a host share. It travels in
//! the text, the one thing that everything between the two keeps.

use rustix::time::{ClockId, clock_gettime};

/// Microseconds by the monotonic clock.
pub fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000
}

/// The mark of now.
pub fn write(number: u32) -> String {
    format!("~{}.{number};", now_us())
}

/// Reads marks out of a text that comes in pieces, which may hold none, several, or a part of one.
#[derive(Default)]
pub struct Reader {
    rest: String,
}

impl Reader {
    /// Takes a piece and hands on when each mark in it was written, in microseconds.
    pub fn feed(&mut self, piece: &str, mut mark: impl FnMut(u64)) {
        self.rest.push_str(piece);
        while let Some(end) = self.rest.find(';') {
            let written = self.rest[..end].rsplit('~').next().and_then(|mark| mark.split('.').next()?.parse().ok());
            if let Some(written) = written {
                mark(written);
            }
            self.rest.drain(..=end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_however_they_are_cut() {
        let text = "~12.0;~345.1;";
        for cut in 0..=text.len() {
            let (mut reader, mut seen) = (Reader::default(), Vec::new());
            reader.feed(&text[..cut], |written| seen.push(written));
            reader.feed(&text[cut..], |written| seen.push(written));
            assert_eq!(seen, [12, 345], "cut at {cut}");
        }
    }

    #[test]
    fn a_mark_says_when_it_was_written() {
        let (before, mut seen) = (now_us(), 0);
        Reader::default().feed(&write(7), |written| seen = written);
        assert!((before..=now_us()).contains(&seen));
    }
}
