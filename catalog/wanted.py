"""What the catalogue holds, and what a person has decided about it.

A model that both lists report as retired is refused by the generator: take it out of here then.
"""

# Our provider, the prefix in litellm's list, the model. The first usable one is what a person gets who chose none.
WANTED = [
    ("openai", "", "gpt-6.1-sol"), ("openai", "", "gpt-6.1-terra"), ("openai", "", "gpt-6-astra"),
    ("openai", "", "gpt-6-luna"), ("openai", "", "gpt-5.5"), ("openai", "", "gpt-5.4"), ("openai", "", "gpt-5.4-mini"),
    ("openai", "", "gpt-5.2"), ("openai", "", "gpt-4.1"), ("openai", "", "gpt-4.1-mini"), ("openai", "", "gpt-4o"),
    ("openai", "", "gpt-4o-mini"),
    ("anthropic", "", "claude-sonnet-5-5"), ("anthropic", "", "claude-opus-5-5"), ("anthropic", "", "claude-haiku-5-5"),
    ("anthropic", "", "claude-opus-4-8"), ("anthropic", "", "claude-sonnet-4-6"), ("anthropic", "", "claude-haiku-4-5"),
    ("gemini", "gemini/", "gemini-4-argon"), ("gemini", "gemini/", "gemini-3.8-flash"),
    ("gemini", "gemini/", "gemini-3.5-flash-lite"), ("gemini", "gemini/", "gemini-2.5-pro"),
    ("gemini", "gemini/", "gemini-2.5-flash"), ("gemini", "gemini/", "gemini-2.5-flash-lite"),
    ("deepseek", "deepseek/", "deepseek-v4-flash"), ("deepseek", "deepseek/", "deepseek-v4-pro"),
    ("qwen", "dashscope/", "qwen3.8-max"), ("qwen", "dashscope/", "qwen3.8-flash"),
    ("qwen", "dashscope/", "qwen3.7-plus"), ("qwen", "dashscope/", "qwen3-coder-plus"),
    ("moonshot", "moonshot/", "kimi-k3"), ("moonshot", "moonshot/", "kimi-k3.1-pro"),
    ("moonshot", "moonshot/", "kimi-k2.6"),
    ("zhipu", "zai/", "glm-5.3"), ("zhipu", "zai/", "glm-5.3-flash"), ("zhipu", "zai/", "glm-5v-turbo"),
    ("mistral", "mistral/", "mistral-large-4"), ("mistral", "mistral/", "mistral-medium-latest"),
    ("mistral", "mistral/", "mistral-small-latest"),
    ("groq", "groq/", "openai/gpt-oss-120b"), ("groq", "groq/", "openai/gpt-oss-20b"),
    ("groq", "groq/", "qwen/qwen3.8-27b"),
    ("xai", "xai/", "grok-4.7"), ("xai", "xai/", "grok-4.3"),
    ("openrouter", "groq/", "openai/gpt-oss-120b"), ("openrouter", "groq/", "openai/gpt-oss-20b"),
    # On their way out: kept for those who use them, after all others.
    ("anthropic", "", "claude-sonnet-4-5"),
    ("openai", "", "gpt-5"), ("openai", "", "gpt-5-mini"), ("openai", "", "gpt-5-nano"), ("openai", "", "o3"),
]

# genai-prices' names of our providers.
GENAI = {"gemini": "google", "xai": "x-ai", "moonshot": "moonshotai", "zhipu": "zai"}

# Where the lists differ: whose price is taken, and why.
SAME_ABROAD = "genai-prices doesn't list this seller; others there ask the same or less"
REVIEWED = {
    ("anthropic", "claude-sonnet-4-5"): ("litellm", "prompts over 200k, for which the other has prices, are refused now"),
    ("mistral", "mistral-large-4"): ("genai-prices", "it dates the price cut of 2026-10-29, which litellm lacks"),
    ("openrouter", "openai/gpt-oss-120b"): ("genai-prices", "litellm doesn't list this seller"),
    ("openrouter", "openai/gpt-oss-20b"): ("genai-prices", "litellm doesn't list this seller"),
    ("qwen", "qwen3-coder-plus"): ("litellm", SAME_ABROAD),
    ("qwen", "qwen3.7-plus"): ("litellm", SAME_ABROAD),
    ("qwen", "qwen3.8-flash"): ("litellm", SAME_ABROAD),
    ("qwen", "qwen3.8-max"): ("litellm", SAME_ABROAD),
    ("xai", "grok-4.3"): ("genai-prices", "the long-context price begins at 200,000 tokens, not after them"),
    ("xai", "grok-4.7"): ("genai-prices", "the long-context price begins at 200,000 tokens, not after them"),
    ("zhipu", "glm-5v-turbo"): ("litellm", "genai-prices doesn't list it"),
}
