//! How Gemini's models differ: data, by the beginnings of their names.

/// How a model is made to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It can't.
    No,
    /// With a budget of tokens; it may be told not to think, where the number is 0.
    Budget {
        /// The least budget.
        least: u32,
    },
    /// By level.
    Level,
}

/// How a model differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traits {
    pub(super) thinking: Thinking,
    /// It refuses calls in the history that have no signature.
    pub(super) wants_signatures: bool,
}

const MODELS: [(&str, Traits); 5] = [
    ("gemini-3", Traits { thinking: Thinking::Level, wants_signatures: true }),
    ("gemini-2.5-pro", Traits { thinking: Thinking::Budget { least: 128 }, wants_signatures: false }),
    ("gemini-2.5-flash-image", Traits { thinking: Thinking::No, wants_signatures: false }),
    ("gemini-2.5", Traits { thinking: Thinking::Budget { least: 0 }, wants_signatures: false }),
    ("", Traits { thinking: Thinking::No, wants_signatures: false }),
];

/// How a model differs; the first beginning that fits counts.
pub(super) fn of(model: &str) -> Traits {
    MODELS.iter().find(|(beginning, _)| model.starts_with(beginning)).map_or(MODELS[4].1, |(_, traits)| *traits)
}
