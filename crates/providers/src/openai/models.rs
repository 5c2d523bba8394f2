//! Which of OpenAI's models is asked in which dialect: data, by the beginnings of their names.

/// A dialect of OpenAI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `chat/completions`.
    Chat,
    /// `responses`: reasoning models keep their thoughts between calls of tools only there.
    Responses,
}

/// The first beginning that fits counts.
const MODELS: [(&str, Api); 9] = [
    ("gpt-5-chat", Api::Chat),
    ("gpt-5-search", Api::Chat),
    ("gpt-5", Api::Responses),
    ("o1", Api::Responses),
    ("o3", Api::Responses),
    ("o4", Api::Responses),
    ("codex", Api::Responses),
    ("computer-use", Api::Responses),
    ("", Api::Chat),
];

/// The dialect that a model is asked in.
pub fn api(model: &str) -> Api {
    MODELS.iter().find(|(beginning, _)| model.starts_with(beginning)).map_or(Api::Chat, |(_, api)| *api)
}

/// Whether a model reasons, which is why it takes no sampling parameters.
pub(crate) fn reasons(model: &str) -> bool {
    api(model) == Api::Responses && !model.starts_with("computer-use")
}
