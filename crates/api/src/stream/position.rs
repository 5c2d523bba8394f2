//! Where a viewer stands, and what a frame means there. Pure, so that every order of events can be tested.

use std::str::FromStr;

use polyphony_bus::wire::{ChunkBody, ChunkFrame};

/// `<attempt>.<n>`: the last frame that a viewer has seen. Attempt 0 has seen nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The attempt.
    pub attempt: u32,
    /// The frame's number.
    pub n: u32,
}

/// Not a position.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAPosition;

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let (attempt, n) = text.trim().split_once('.').ok_or(NotAPosition)?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or(NotAPosition)
        };
        Ok(Self { attempt: number(attempt)?, n: number(n)? })
    }
}

/// What to do with a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Show it; the position has moved.
    Show,
    /// It was seen, or belongs to an attempt that was overtaken.
    Skip,
    /// Something before it is missing.
    Missing,
}

impl Position {
    /// Judges a frame, and moves on if it is to be shown.
    pub fn judge(&mut self, frame: &ChunkFrame) -> Verdict {
        let begins = matches!(frame.body, ChunkBody::Restart(_)) || (self.attempt == 0 && frame.n == 1);
        match frame.attempt.cmp(&self.attempt) {
            std::cmp::Ordering::Less => Verdict::Skip,
            std::cmp::Ordering::Greater if begins => {
                *self = Self { attempt: frame.attempt, n: frame.n };
                Verdict::Show
            }
            std::cmp::Ordering::Greater => Verdict::Missing,
            std::cmp::Ordering::Equal if frame.n <= self.n => Verdict::Skip,
            std::cmp::Ordering::Equal if frame.n == self.n + 1 => {
                self.n = frame.n;
                Verdict::Show
            }
            std::cmp::Ordering::Equal => Verdict::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(attempt: u32, n: u32) -> ChunkFrame {
        ChunkFrame { attempt, n, body: ChunkBody::Text("x".into()) }
    }

    #[test]
    fn frames_are_shown_once_and_in_order() {
        let mut at = Position::default();
        assert_eq!(at.judge(&text(1, 2)), Verdict::Missing);
        assert_eq!(at.judge(&text(1, 1)), Verdict::Show);
        assert_eq!(at.judge(&text(1, 1)), Verdict::Skip);
        assert_eq!(at.judge(&text(1, 3)), Verdict::Missing);
        assert_eq!(at.judge(&text(1, 2)), Verdict::Show);
        // The next attempt begins with a restart; without having seen it, something is missing.
        assert_eq!(at.judge(&text(2, 1)), Verdict::Missing);
        assert_eq!(at.judge(&ChunkFrame { attempt: 2, n: 0, body: ChunkBody::Restart("{}".into()) }), Verdict::Show);
        assert_eq!(at.judge(&text(1, 3)), Verdict::Skip);
        assert_eq!(at.judge(&text(2, 1)), Verdict::Show);
        assert_eq!(at, Position { attempt: 2, n: 1 });
    }

    #[test]
    fn positions_are_read_strictly() {
        assert_eq!("1.57".parse(), Ok(Position { attempt: 1, n: 57 }));
        for wrong in ["", "1", "1.", ".1", "+1.2", "1.2.3", "a.b", "1.99999999999"] {
            assert_eq!(wrong.parse::<Position>(), Err(NotAPosition), "{wrong}");
        }
    }
}
