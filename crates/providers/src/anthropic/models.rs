//! How Anthropic's models differ: data, by the beginnings of their names.

/// How a model is made to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It can't.
    No,
    /// With a budget of tokens.
    Budget,
    /// As much as it finds right, by effort.
    Adaptive,
}

/// How a model differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traits {
    pub(super) thinking: Thinking,
    /// The shape of the answer can be a schema.
    pub(super) json_schema: bool,
    /// It takes `temperature` or `top_p`, not both.
    pub(super) one_sampling: bool,
    /// Most tokens of an answer when nobody says: the dialect must name a limit.
    pub(super) max_tokens: u32,
}

const fn traits(thinking: Thinking, json_schema: bool, one_sampling: bool, max_tokens: u32) -> Traits {
    Traits { thinking, json_schema, one_sampling, max_tokens }
}

/// The first beginning that fits counts.
const MODELS: [(&str, Traits); 13] = [
    ("claude-3-7", traits(Thinking::Budget, false, false, 16_000)),
    ("claude-3-5", traits(Thinking::No, false, false, 8_192)),
    ("claude-3", traits(Thinking::No, false, false, 4_096)),
    ("claude-opus-4-0", traits(Thinking::Budget, false, false, 16_000)),
    ("claude-opus-4-2", traits(Thinking::Budget, false, false, 16_000)),
    ("claude-sonnet-4-0", traits(Thinking::Budget, false, false, 16_000)),
    ("claude-sonnet-4-2", traits(Thinking::Budget, false, false, 16_000)),
    ("claude-opus-4-1", traits(Thinking::Budget, true, true, 16_000)),
    ("claude-opus-4-5", traits(Thinking::Budget, true, true, 16_000)),
    ("claude-sonnet-4-5", traits(Thinking::Budget, true, true, 16_000)),
    ("claude-haiku-4-5", traits(Thinking::Budget, true, true, 16_000)),
    ("claude-", traits(Thinking::Adaptive, true, true, 16_000)),
    // Other hosts that speak the dialect.
    ("", traits(Thinking::No, false, false, 4_096)),
];

/// How a model differs.
pub(super) fn of(model: &str) -> Traits {
    MODELS.iter().find(|(beginning, _)| model.starts_with(beginning)).map_or(MODELS[12].1, |(_, traits)| *traits)
}
