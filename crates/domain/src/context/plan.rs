//! Deciding what fits: a ladder of steps, each of which takes a little more away, climbed only as far as needed.
//!
//! 1. Ranges whose summary a person asked for give way to it.
//! 2. Old output of tools goes, oldest first.
//! 3. Other summaries stand for their ranges.
//! 4. Whole exchanges go, from the second one on; the first and the newest stay longest.
//! 5. Output of tools within the exchanges that must stay goes, and
//! 6. messages in them that need not stay become marks.
//! 7. Summaries go.
//!
//! Every step only takes away, and the steps don't depend on the window: so a larger window never shows less.

use thiserror::Error;

/// Tokens of a mark that stands for something left out; also what separates two of them.
pub const MARK_TOKENS: u64 = 40;

/// A message as the planner sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// What it costs.
    pub tokens: u64,
    /// How much of that is output of tools.
    pub tool_output: u64,
    /// Whether it must be shown.
    pub protected: bool,
    /// Number of its exchange, from 0; never less than that of the piece before.
    pub exchange: usize,
    /// Whether it holds the results of the calls in the piece before: neither can be without the other.
    pub answers_previous: bool,
}

/// A summary that may stand for the pieces from `first` to before `end`, which are whole exchanges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cover {
    /// First piece.
    pub first: usize,
    /// Piece after the last one.
    pub end: usize,
    /// What it costs.
    pub tokens: u64,
    /// Whether a person asked for it: it then stands for its range even if that would fit.
    pub by_request: bool,
}

/// What becomes of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is shown as it is.
    Kept,
    /// It is shown without its output of tools.
    WithoutToolOutput,
    /// A mark stands in its place.
    Marked,
    /// The cover of this number stands for it.
    Summarised(usize),
    /// It is left out.
    Dropped,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What becomes of each piece.
    pub fates: Vec<Fate>,
    /// What all of it costs, marks, summaries and fixed parts included.
    pub used: u64,
}

/// Not even what must be shown fits.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("what must be shown needs {needed} tokens, and there is room for {budget}")]
pub struct TooLong {
    /// Tokens that it needs.
    pub needed: u64,
    /// Tokens that there are.
    pub budget: u64,
}

/// Decides what is shown in `budget` tokens, of which `fixed` are taken (system prompt, tools).
///
/// # Errors
/// [`TooLong`] when the protected pieces and the fixed part don't fit.
pub fn plan(pieces: &[Piece], covers: &[Cover], fixed: u64, budget: u64) -> Result<Plan, TooLong> {
    let mut draft = Draft::new(pieces, covers, fixed, budget);
    draft.cover(true);
    draft.climb();
    if draft.used > budget {
        return Err(TooLong { needed: draft.used, budget });
    }
    Ok(Plan { fates: draft.fates, used: draft.used })
}

struct Draft<'a> {
    pieces: &'a [Piece],
    covers: &'a [Cover],
    budget: u64,
    fates: Vec<Fate>,
    used: u64,
}

impl<'a> Draft<'a> {
    fn new(pieces: &'a [Piece], covers: &'a [Cover], fixed: u64, budget: u64) -> Self {
        let used = pieces.iter().fold(fixed, |sum, piece| sum.saturating_add(piece.tokens));
        Self { pieces, covers, budget, fates: vec![Fate::Kept; pieces.len()], used }
    }

    fn fits(&self) -> bool {
        self.used <= self.budget
    }

    fn cost(&self, index: usize, fate: Fate) -> u64 {
        let piece = &self.pieces[index];
        match fate {
            Fate::Kept => piece.tokens,
            Fate::WithoutToolOutput => piece.tokens.saturating_sub(piece.tool_output) + MARK_TOKENS,
            Fate::Marked => MARK_TOKENS,
            Fate::Summarised(_) | Fate::Dropped => 0,
        }
    }

    fn is_dropped(&self, index: Option<usize>) -> bool {
        index.and_then(|index| self.fates.get(index)) == Some(&Fate::Dropped)
    }

    fn set(&mut self, index: usize, fate: Fate) {
        if fate == Fate::Dropped && self.fates[index] != Fate::Dropped {
            // One mark for each run of dropped pieces: this one begins a run, makes one longer, or joins two.
            let neighbours = [index.checked_sub(1), Some(index + 1)].map(|at| self.is_dropped(at));
            match neighbours {
                [false, false] => self.used += MARK_TOKENS,
                [true, true] => self.used -= MARK_TOKENS,
                _ => {}
            }
        }
        self.used = self.used - self.cost(index, self.fates[index]) + self.cost(index, fate);
        self.fates[index] = fate;
    }

    /// The pieces of each exchange.
    fn exchanges(&self) -> Vec<std::ops::Range<usize>> {
        let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
        for (index, piece) in self.pieces.iter().enumerate() {
            match ranges.last_mut() {
                Some(range) if self.pieces[range.start].exchange == piece.exchange => range.end = index + 1,
                _ => ranges.push(index..index + 1),
            }
        }
        ranges
    }

    fn must_stay(&self, exchange: &std::ops::Range<usize>) -> bool {
        exchange.end == self.pieces.len() || self.pieces[exchange.clone()].iter().any(|piece| piece.protected)
    }

    fn climb(&mut self) {
        let exchanges = self.exchanges();
        let old = exchanges.last().map_or(0, |last| last.start);
        self.drop_tool_output(0..old);
        self.cover(false);
        // The first exchange often says what all is about, so it goes last.
        let order = exchanges.iter().skip(1).chain(exchanges.first());
        for exchange in order.filter(|exchange| !self.must_stay(exchange)).cloned().collect::<Vec<_>>() {
            if self.fits() {
                return;
            }
            for index in exchange {
                if !matches!(self.fates[index], Fate::Summarised(_)) {
                    self.set(index, Fate::Dropped);
                }
            }
        }
        self.drop_tool_output(0..self.pieces.len());
        self.mark();
        if !self.fits() {
            self.uncover();
        }
    }

    fn drop_tool_output(&mut self, range: std::ops::Range<usize>) {
        for index in range {
            if self.fits() {
                return;
            }
            let piece = &self.pieces[index];
            if self.fates[index] == Fate::Kept && !piece.protected && piece.tool_output > MARK_TOKENS {
                self.set(index, Fate::WithoutToolOutput);
            }
        }
    }

    /// Lets summaries stand for their ranges: those that were asked for, or as many of the others as are needed.
    fn cover(&mut self, by_request: bool) {
        let mut order: Vec<usize> =
            (0..self.covers.len()).filter(|at| self.covers[*at].by_request == by_request).collect();
        // The one that stands for most first; of equals the newest.
        order.sort_by_key(|at| std::cmp::Reverse((self.covers[*at].end - self.covers[*at].first, *at)));
        for number in order {
            if !by_request && self.fits() {
                return;
            }
            let Cover { first, end, tokens, .. } = self.covers[number];
            let is_free = |fate: &Fate| !matches!(fate, Fate::Summarised(_));
            if !self.fates[first..end].iter().all(is_free) {
                continue;
            }
            let exchanges = self.exchanges();
            let within = exchanges.into_iter().filter(|range| range.start >= first && range.end <= end);
            let covered: Vec<usize> = within.filter(|range| !self.must_stay(range)).flatten().collect();
            let saved: u64 = covered.iter().map(|index| self.cost(*index, self.fates[*index])).sum();
            if covered.is_empty() || (!by_request && saved <= tokens) {
                continue;
            }
            covered.into_iter().for_each(|index| self.set(index, Fate::Summarised(number)));
            self.used = self.used.saturating_add(tokens);
        }
    }

    /// What need not stay in exchanges that must becomes a mark: calls together with their results.
    fn mark(&mut self) {
        let mut index = 0;
        while index < self.pieces.len() && !self.fits() {
            let end = index + 1 + self.pieces[index + 1..].iter().take_while(|piece| piece.answers_previous).count();
            let unit = index..end;
            let stays = |at: usize| matches!(self.fates[at], Fate::Kept | Fate::WithoutToolOutput);
            let worth =
                unit.clone().map(|at| self.cost(at, self.fates[at])).sum::<u64>() > MARK_TOKENS * unit.len() as u64;
            if worth && unit.clone().all(|at| stays(at) && !self.pieces[at].protected) {
                unit.for_each(|at| self.set(at, Fate::Marked));
            }
            index = end;
        }
    }

    fn uncover(&mut self) {
        for number in 0..self.covers.len() {
            let covered: Vec<usize> =
                (0..self.fates.len()).filter(|at| self.fates[*at] == Fate::Summarised(number)).collect();
            if covered.is_empty() || self.fits() {
                continue;
            }
            covered.into_iter().for_each(|index| self.set(index, Fate::Dropped));
            self.used -= self.covers[number].tokens;
        }
    }
}
