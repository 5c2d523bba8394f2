//! The hosts that are known by name, and how they differ: data, no code. `docs/PROVIDERS.md` says how to add one.

/// How a host differs from the common dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// Usage has to be asked for with `stream_options`.
    pub usage_on_request: bool,
    /// Every answer ends with `[DONE]`: one that doesn't was cut, even after its finish reason.
    pub ends_with_done: bool,
    /// Name of the field for the most tokens of an answer.
    pub max_tokens_field: &'static str,
    /// Name of the field for the seed.
    pub seed_field: &'static str,
    /// Role of the system prompt.
    pub system_role: &'static str,
    /// Parameters that the host refuses.
    pub refuses: &'static [&'static str],
    /// Beginnings of the names of models that refuse sampling parameters.
    pub fixed_sampling: &'static [&'static str],
    /// How the effort of reasoning is asked for.
    pub effort: Effort,
    /// The shape of an answer can be a schema, not only any JSON.
    pub json_schema: bool,
    /// It has models that take pictures.
    pub images: bool,
    /// It has models that take PDF.
    pub pdf: bool,
    /// A refusal has a field of its own.
    pub refusals: bool,
    /// Ids of tool calls have nine characters.
    pub short_ids: bool,
    /// Instructions stand at the beginning only, both sides take turns, and results of tools are followed by an answer.
    pub strict_turns: bool,
    /// It wants the reasoning back that led to calls of tools.
    pub echoes_reasoning: bool,
    /// The host writes its reasoning into the text, between `<think>` tags.
    pub think_tags: bool,
    /// The host works without a key.
    pub key_optional: bool,
    /// What to ask for to see whether a key is good: a path that answers only to a good one.
    pub key_check_path: &'static str,
}

/// How the effort of reasoning is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Not at all.
    No,
    /// `reasoning_effort: "high"`.
    Field,
    /// `reasoning: {effort: "high"}`.
    Object,
    /// `thinking: {type: "enabled"}`.
    Thinking,
    /// `enable_thinking: true`.
    Switch,
}

impl Quirks {
    /// The common dialect.
    pub const COMMON: Self = Self {
        usage_on_request: true,
        ends_with_done: false,
        max_tokens_field: "max_tokens",
        seed_field: "seed",
        system_role: "system",
        refuses: &[],
        fixed_sampling: &[],
        effort: Effort::Field,
        json_schema: true,
        images: true,
        pdf: false,
        refusals: false,
        short_ids: false,
        strict_turns: false,
        echoes_reasoning: false,
        think_tags: false,
        key_optional: false,
        key_check_path: "models",
    };
    /// A host whose answers are known to end with `[DONE]`.
    const KNOWN: Self = Self { ends_with_done: true, ..Self::COMMON };
    const LOCAL: Self = Self { key_optional: true, ..Self::KNOWN };
}

/// A host that is known by name.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// Name for people.
    pub display_name: &'static str,
    /// Base URL of its documentation.
    pub base_url: &'static str,
    /// How it differs.
    pub quirks: Quirks,
}

const fn host(name: &'static str, display_name: &'static str, base_url: &'static str, quirks: Quirks) -> Preset {
    Preset { name, display_name, base_url, quirks }
}

const PRESETS: [Preset; 12] = [
    host(
        "openai",
        "OpenAI",
        "https://api.openai.com/v1",
        Quirks {
            // Reasoning models refuse `max_tokens`; the others take the newer name as well.
            max_tokens_field: "max_completion_tokens",
            fixed_sampling: &["o1", "o3", "o4", "gpt-5"],
            pdf: true,
            refusals: true,
            ..Quirks::KNOWN
        },
    ),
    host(
        "deepseek",
        "DeepSeek",
        "https://api.deepseek.com/v1",
        Quirks {
            effort: Effort::Thinking,
            json_schema: false,
            images: false,
            refuses: &["seed", "parallel_tool_calls"],
            echoes_reasoning: true,
            ..Quirks::KNOWN
        },
    ),
    host(
        "qwen",
        "Qwen (DashScope)",
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        Quirks { effort: Effort::Switch, json_schema: false, ..Quirks::KNOWN },
    ),
    host(
        "moonshot",
        "Moonshot",
        "https://api.moonshot.cn/v1",
        Quirks {
            effort: Effort::No,
            json_schema: false,
            refuses: &["seed", "parallel_tool_calls"],
            echoes_reasoning: true,
            ..Quirks::KNOWN
        },
    ),
    host(
        "zhipu",
        "Zhipu",
        "https://open.bigmodel.cn/api/paas/v4",
        Quirks {
            effort: Effort::Thinking,
            json_schema: false,
            refuses: &["seed", "presence_penalty", "frequency_penalty", "parallel_tool_calls"],
            ..Quirks::KNOWN
        },
    ),
    host(
        "mistral",
        "Mistral",
        "https://api.mistral.ai/v1",
        Quirks {
            // It refuses fields that it doesn't know, and sends usage unasked.
            usage_on_request: false,
            seed_field: "random_seed",
            effort: Effort::No,
            short_ids: true,
            strict_turns: true,
            ..Quirks::KNOWN
        },
    ),
    host(
        "groq",
        "Groq",
        "https://api.groq.com/openai/v1",
        Quirks { max_tokens_field: "max_completion_tokens", ..Quirks::KNOWN },
    ),
    host(
        "openrouter",
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        Quirks {
            effort: Effort::Object,
            pdf: true,
            // Its list of models is open to everybody.
            key_check_path: "key",
            ..Quirks::KNOWN
        },
    ),
    host("xai", "xAI", "https://api.x.ai/v1", Quirks::KNOWN),
    host(
        "ollama",
        "Ollama",
        "http://127.0.0.1:11434/v1",
        Quirks { refuses: &["parallel_tool_calls"], ..Quirks::LOCAL },
    ),
    host("llamacpp", "llama.cpp", "http://127.0.0.1:8081/v1", Quirks { effort: Effort::No, ..Quirks::LOCAL }),
    host("vllm", "vLLM", "http://127.0.0.1:8000/v1", Quirks::LOCAL),
];

/// All known hosts.
pub const fn presets() -> &'static [Preset] {
    &PRESETS
}

/// The host with a name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}
