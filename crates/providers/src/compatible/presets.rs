//! The hosts that are known by name, and how they differ.

/// How a host differs from the common dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// Usage has to be asked for with `stream_options`.
    pub usage_on_request: bool,
    /// Name of the field for the most tokens of an answer.
    pub max_tokens_field: &'static str,
    /// Role of the system prompt.
    pub system_role: &'static str,
    /// The host writes its reasoning into the text, between `<think>` tags.
    pub think_tags: bool,
    /// The host works without a key.
    pub key_optional: bool,
    /// What to ask for to see whether a key is good: a path that answers only to a good one.
    pub key_check_path: &'static str,
    /// Beginnings of the names of models that refuse `temperature` and `top_p`.
    pub fixed_sampling: &'static [&'static str],
}

impl Quirks {
    /// The common dialect.
    pub const COMMON: Self = Self {
        usage_on_request: true,
        max_tokens_field: "max_tokens",
        system_role: "system",
        think_tags: false,
        key_optional: false,
        key_check_path: "models",
        fixed_sampling: &[],
    };
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

const fn hosted(name: &'static str, display_name: &'static str, base_url: &'static str) -> Preset {
    Preset { name, display_name, base_url, quirks: Quirks::COMMON }
}

const fn local(name: &'static str, display_name: &'static str, base_url: &'static str) -> Preset {
    Preset { name, display_name, base_url, quirks: Quirks { key_optional: true, ..Quirks::COMMON } }
}

const PRESETS: [Preset; 12] = [
    Preset {
        // Reasoning models refuse `max_tokens`; the others take the newer name as well.
        quirks: Quirks {
            max_tokens_field: "max_completion_tokens",
            fixed_sampling: &["o1", "o3", "o4", "gpt-5"],
            ..Quirks::COMMON
        },
        ..hosted("openai", "OpenAI", "https://api.openai.com/v1")
    },
    hosted("deepseek", "DeepSeek", "https://api.deepseek.com/v1"),
    hosted("qwen", "Qwen (DashScope)", "https://dashscope.aliyuncs.com/compatible-mode/v1"),
    hosted("moonshot", "Moonshot", "https://api.moonshot.cn/v1"),
    hosted("zhipu", "Zhipu", "https://open.bigmodel.cn/api/paas/v4"),
    Preset {
        // It refuses fields that it doesn't know, and sends usage unasked.
        quirks: Quirks { usage_on_request: false, ..Quirks::COMMON },
        ..hosted("mistral", "Mistral", "https://api.mistral.ai/v1")
    },
    hosted("groq", "Groq", "https://api.groq.com/openai/v1"),
    Preset {
        // Its list of models is open to everybody.
        quirks: Quirks { key_check_path: "key", ..Quirks::COMMON },
        ..hosted("openrouter", "OpenRouter", "https://openrouter.ai/api/v1")
    },
    hosted("xai", "xAI", "https://api.x.ai/v1"),
    local("ollama", "Ollama", "http://127.0.0.1:11434/v1"),
    local("llamacpp", "llama.cpp", "http://127.0.0.1:8081/v1"),
    local("vllm", "vLLM", "http://127.0.0.1:8000/v1"),
];

/// All known hosts.
pub const fn presets() -> &'static [Preset] {
    &PRESETS
}

/// The host with a name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}
