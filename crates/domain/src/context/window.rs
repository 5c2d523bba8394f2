//! The window of a model, and how much of it a conversation may fill.

use serde::{Deserialize, Serialize};

use crate::catalog::Model;

/// Part of the window that is kept free since counts are estimates.
const MARGIN: u64 = 25;
/// Largest part of the window that an answer is given without having asked for it.
const SHARE: u64 = 4;

/// A window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// All of it, in tokens.
    pub length: u64,
    /// Tokens for the answer.
    pub reserved: u64,
    /// Tokens that stay free, since counts are estimates.
    pub margin: u64,
    /// Most tokens of a request that the provider is known to take, where it refused a longer one.
    pub learned: Option<u64>,
}

impl Window {
    /// The window of a model for an answer of at most `max_tokens`.
    pub fn of(model: &Model, max_tokens: Option<u32>, learned: Option<u64>) -> Self {
        let length = u64::from(model.context_length);
        let wanted = max_tokens.map_or_else(|| u64::from(model.max_output).min(length / SHARE), u64::from);
        Self { length, reserved: wanted.min(length / 2), margin: length / MARGIN, learned }
    }

    /// Tokens that a request may have.
    pub fn budget(&self) -> u64 {
        let budget = self.length.saturating_sub(self.reserved).saturating_sub(self.margin);
        self.learned.map_or(budget, |learned| learned.min(budget))
    }

    /// Most tokens that the answer can have after a request of `used` tokens.
    pub fn room(&self, used: u64) -> u64 {
        self.length.saturating_sub(self.margin).saturating_sub(used).max(1)
    }
}
