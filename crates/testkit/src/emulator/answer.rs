//! One answer as it is written to the connection.

use std::{collections::VecDeque, io, ops::Range};

use axum::body::Bytes;
use futures::{Stream, stream};
use tokio::time::{Duration, sleep};

use super::{
    Desk, Ended,
    dialect::{Billed, Dialect},
    script::{End, Reporting, Script, Silence},
};

/// How often a provider that has nothing to say writes a comment.
const PING: Duration = Duration::from_millis(50);

/// Tiny pieces in one write.
const BURST: u32 = 2_000;
/// The tiny pieces, over and over: none is like its neighbours, so that one that is lost or doubled shows.
const LETTERS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

/// An answer about to be sent.
pub(super) struct Answer {
    pub(super) desk: Desk,
    pub(super) id: usize,
    pub(super) dialect: Dialect,
    pub(super) script: Script,
    pub(super) billed: Billed,
    /// What each piece begins with: marker and number of the call.
    pub(super) name: String,
}

/// Notes that the caller has gone, unless the call has ended otherwise.
pub(super) struct Gone(Desk, usize);

impl Gone {
    pub(super) fn of(answer: &Answer) -> Self {
        Self(answer.desk.clone(), answer.id)
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.end(self.1, Ended::HungUp);
    }
}

/// One step of an answer.
enum Step {
    Open,
    Write(String),
    Text(String),
    /// Tiny pieces with these numbers.
    Burst(Range<u32>),
    Usage(Billed),
    Pings,
    Stall,
    BreakOff,
}

struct Sending {
    answer: Answer,
    steps: VecDeque<Step>,
    bytes: Bytes,
    _gone: Gone,
}

impl Answer {
    /// The bytes of the body.
    pub(super) fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let gone = Gone::of(&self);
        let sending = Sending { steps: self.steps(), bytes: Bytes::new(), _gone: gone, answer: self };
        stream::unfold(sending, Sending::next)
    }

    fn steps(&self) -> VecDeque<Step> {
        let (script, dialect) = (&self.script, self.dialect);
        let mut steps = VecDeque::new();
        match script.silence {
            Silence::AfterHead => return [Step::Stall].into(),
            Silence::OnlyPings => return [Step::Pings].into(),
            _ => steps.push_back(Step::Open),
        }
        if script.tiny {
            return self.tiny_steps();
        }
        let half = Billed { output: self.billed.output / 2, ..self.billed };
        for index in 0..script.sent() {
            if script.noise && index % 3 == 1 {
                steps.push_back(Step::Write(dialect.noise()));
            }
            let filling = "x".repeat(script.filling);
            steps.push_back(Step::Text(format!("{}.{index} 你好 👩‍👩‍👧‍👦 {filling}\n", self.name)));
            match script.silence {
                Silence::AfterPiece => return steps.into_iter().chain([Step::Stall]).collect(),
                Silence::Pings => return steps.into_iter().chain([Step::Pings]).collect(),
                _ => {}
            }
            if index == script.pieces / 2 {
                match script.usage {
                    Reporting::Twice => steps.push_back(Step::Usage(half)),
                    Reporting::Middle => steps.push_back(Step::Usage(self.billed)),
                    _ => {}
                }
            }
        }
        match script.end {
            End::Fin => return steps,
            End::Cut => return steps.into_iter().chain([Step::BreakOff]).collect(),
            End::Error => return steps.into_iter().chain([Step::Write(dialect.error())]).collect(),
            End::Whole | End::Filter => {}
        }
        if script.tools {
            steps.push_back(Step::Write(dialect.tool_call()));
        }
        steps.push_back(Step::Write(dialect.finish(script.end == End::Filter)));
        match script.usage {
            Reporting::Once | Reporting::Twice | Reporting::Cached => steps.push_back(Step::Usage(self.billed)),
            Reporting::Zero => steps.push_back(Step::Usage(Billed::default())),
            Reporting::Never | Reporting::Middle | Reporting::Late => {}
        }
        steps.push_back(Step::Write(dialect.done()));
        if script.usage == Reporting::Late {
            steps.push_back(Step::Usage(self.billed));
        }
        steps
    }

    /// A beginning that says whose it is, then letters, then a good end.
    fn tiny_steps(&self) -> VecDeque<Step> {
        let bursts = (1..self.script.pieces).step_by(BURST as usize);
        let bursts = bursts.map(|from| Step::Burst(from..(from + BURST).min(self.script.pieces)));
        let end = [Step::Write(self.dialect.finish(false)), Step::Usage(self.billed), Step::Write(self.dialect.done())];
        [Step::Open, Step::Text(format!("{}.0 ", self.name))].into_iter().chain(bursts).chain(end).collect()
    }
}

impl Sending {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        while self.bytes.is_empty() {
            let Some(step) = self.steps.pop_front() else {
                let how = if matches!(self.answer.script.end, End::Whole | End::Filter) {
                    Ended::Sent
                } else {
                    Ended::BrokenOff
                };
                self.answer.desk.end(self.answer.id, how);
                return None;
            };
            let text = match step {
                Step::Open => {
                    let (dialect, billed) = (self.answer.dialect, self.answer.billed);
                    self.answer.desk.note(self.answer.id, |call| call.billed = dialect.billed_at_first(billed));
                    dialect.opening(billed)
                }
                Step::Write(text) => text,
                Step::Text(text) => {
                    sleep(self.answer.script.pause).await;
                    self.answer.desk.note(self.answer.id, |call| call.text.push_str(&text));
                    self.answer.dialect.piece(&text)
                }
                Step::Burst(numbers) => {
                    // Each letter's event is written once and sent a thousand times.
                    let events = LETTERS.map(|letter| self.answer.dialect.piece(letter));
                    let letters = numbers.map(|number| number as usize % LETTERS.len());
                    let text: String = letters.clone().map(|letter| LETTERS[letter]).collect();
                    self.answer.desk.note(self.answer.id, |call| call.text.push_str(&text));
                    letters.map(|letter| events[letter].as_str()).collect()
                }
                Step::Usage(billed) => {
                    self.answer.desk.note(self.answer.id, |call| call.billed = Some(billed));
                    self.answer.dialect.usage(billed)
                }
                Step::Pings => {
                    sleep(PING).await;
                    self.steps.push_back(Step::Pings);
                    ": ping\n\n".to_owned()
                }
                Step::Stall => std::future::pending().await,
                Step::BreakOff => {
                    self.answer.desk.end(self.answer.id, Ended::BrokenOff);
                    return Some((Err(io::Error::other("broken off on purpose")), self));
                }
            };
            let text = if self.answer.script.crlf { text.replace('\n', "\r\n") } else { text };
            let begins = std::mem::take(&mut self.answer.script.bom);
            self.bytes = if begins { format!("\u{feff}{text}").into() } else { text.into() };
        }
        let piece = self.answer.script.slice.unwrap_or(usize::MAX).min(self.bytes.len());
        let piece = self.bytes.split_to(piece);
        Some((Ok(piece), self))
    }
}
