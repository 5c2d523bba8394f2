//! How the emulator is to behave, read from the words of a model's name: `cut-n40-i5` is an answer of 40 pieces, one
//! every 5 ms, that breaks off in its middle.

use std::time::Duration;

/// What is sent instead of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Silence {
    /// Nothing of the kind.
    #[default]
    None,
    /// Not even a head (V-01).
    BeforeHead,
    /// The head, then nothing.
    AfterHead,
    /// The first piece, then nothing.
    AfterPiece,
    /// The first piece, then comments for ever.
    Pings,
    /// Comments from the head on.
    OnlyPings,
}

/// How the stream ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// With its end marker.
    #[default]
    Whole,
    /// In the middle, the body ending cleanly (V-02).
    Fin,
    /// In the middle, the body broken off.
    Cut,
    /// In the middle, with an error event (V-05).
    Error,
    /// By the provider's filter.
    Filter,
}

/// How usage is reported (V-06).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reporting {
    /// Once, at the end.
    #[default]
    Once,
    /// Never.
    Never,
    /// Cumulatively in the middle and at the end.
    Twice,
    /// Zero.
    Zero,
    /// In the middle only.
    Middle,
    /// After the end marker.
    Late,
    /// With cached tokens.
    Cached,
}

/// `Retry-After` of a refusal (V-04).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryAfter {
    /// Absent.
    #[default]
    Absent,
    /// In seconds.
    Seconds(u32),
    /// As a date, one second from now.
    Date,
}

/// The whole behaviour. Words that mean nothing here are passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Pieces of text (`n40`).
    pub pieces: u32,
    /// Pause before each (`i5`, milliseconds).
    pub pause: Duration,
    /// Bytes of filling in each piece (`b1000`).
    pub filling: usize,
    /// Status instead of an answer (`s429`).
    pub refuse: Option<u16>,
    /// Its `Retry-After` (`ra1`, `radate`).
    pub retry_after: RetryAfter,
    /// Its body is HTML (`html`).
    pub html: bool,
    /// `headless`, `silent`, `stuck`, `pings`, `onlypings`.
    pub silence: Silence,
    /// `fin`, `cut`, `error`, `filter`.
    pub end: End,
    /// Pieces before an end in the middle (`at0`); half of them otherwise.
    pub end_at: Option<u32>,
    /// `nousage`, `twice`, `zero`, `middle`, `late`, `cached`.
    pub usage: Reporting,
    /// All pieces but the first are single letters, thousands of them in one write (`tiny`, V-07).
    pub tiny: bool,
    /// Bytes of each write (`slice1`, V-03).
    pub slice: Option<usize>,
    /// Lines end in CRLF (`crlf`).
    pub crlf: bool,
    /// Begins with a byte order mark (`bom`).
    pub bom: bool,
    /// Events and fields that nobody knows (`noise`, V-07).
    pub noise: bool,
    /// Fragments of a tool call at the end (`tools`).
    pub tools: bool,
    /// Only the first calls for a marker misbehave (`first2`).
    pub first: u32,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            pieces: 12,
            pause: Duration::from_millis(2),
            filling: 0,
            tiny: false,
            refuse: None,
            retry_after: RetryAfter::Absent,
            html: false,
            silence: Silence::None,
            end: End::Whole,
            end_at: None,
            usage: Reporting::Once,
            slice: None,
            crlf: false,
            bom: false,
            noise: false,
            tools: false,
            first: u32::MAX,
        }
    }
}

impl Script {
    /// Reads the words of a name.
    pub fn read(name: &str) -> Self {
        let mut script = Self::default();
        for word in name.split('-') {
            script.word(word);
        }
        script
    }

    fn word(&mut self, word: &str) {
        match word {
            "html" => self.html = true,
            "radate" => self.retry_after = RetryAfter::Date,
            "headless" => self.silence = Silence::BeforeHead,
            "silent" => self.silence = Silence::AfterHead,
            "stuck" => self.silence = Silence::AfterPiece,
            "pings" => self.silence = Silence::Pings,
            "onlypings" => self.silence = Silence::OnlyPings,
            "fin" => self.end = End::Fin,
            "cut" => self.end = End::Cut,
            "error" => self.end = End::Error,
            "filter" => self.end = End::Filter,
            "nousage" => self.usage = Reporting::Never,
            "twice" => self.usage = Reporting::Twice,
            "zero" => self.usage = Reporting::Zero,
            "middle" => self.usage = Reporting::Middle,
            "late" => self.usage = Reporting::Late,
            "cached" => self.usage = Reporting::Cached,
            "tiny" => self.tiny = true,
            "crlf" => self.crlf = true,
            "bom" => self.bom = true,
            "noise" => self.noise = true,
            "tools" => self.tools = true,
            _ => self.number(word),
        }
    }

    fn number(&mut self, word: &str) {
        let digits = word.trim_start_matches(|c: char| c.is_ascii_lowercase());
        let Ok(number) = digits.parse::<u32>() else { return };
        match &word[..word.len() - digits.len()] {
            "n" => self.pieces = number,
            "i" => self.pause = Duration::from_millis(number.into()),
            "b" => self.filling = number as usize,
            "s" => self.refuse = u16::try_from(number).ok(),
            "ra" => self.retry_after = RetryAfter::Seconds(number),
            "at" => self.end_at = Some(number),
            "slice" => self.slice = Some(number.max(1) as usize),
            "first" => self.first = number,
            _ => {}
        }
    }

    /// The behaviour at the `number`-th call for a marker, from 1.
    #[must_use]
    pub fn at_call(&self, number: u32) -> Self {
        if number <= self.first {
            return self.clone();
        }
        let Self { pieces, pause, filling, tiny, .. } = *self;
        Self { pieces, pause, filling, tiny, ..Self::default() }
    }

    /// Pieces that are sent.
    pub fn sent(&self) -> u32 {
        match self.end {
            End::Whole | End::Filter => self.pieces,
            _ => self.end_at.unwrap_or(self.pieces / 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_how_to_behave() {
        let script = Script::read("x-s429-ra3-first2-n7-i0-slice1-crlf");
        assert_eq!((script.refuse, script.retry_after), (Some(429), RetryAfter::Seconds(3)));
        assert_eq!((script.pieces, script.pause, script.slice, script.crlf), (7, Duration::ZERO, Some(1), true));
        assert_eq!(script.at_call(2), script);
        assert_eq!(script.at_call(3), Script { pieces: 7, pause: Duration::ZERO, ..Script::default() });
        assert_eq!(Script::read("cut-n9").sent(), 4);
        assert_eq!(Script::read("plain"), Script::default());
    }
}
