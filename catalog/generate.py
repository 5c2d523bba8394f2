#!/usr/bin/env python3
"""Makes crates/domain/src/catalog/models.json from two public price lists.

A model goes in only where both lists have it and agree within one per cent; the rest is left out and named on
standard error. Needs network access to PyPI, and nothing else:

    python3 catalog/generate.py > crates/domain/src/catalog/models.json
"""

import datetime
import glob
import json
import subprocess
import sys
import tempfile
import zipfile

# Our provider, the prefix in litellm's list, the model.
WANTED = [
    ("openai", "", "gpt-5.2"), ("openai", "", "gpt-5.1"), ("openai", "", "gpt-5"), ("openai", "", "gpt-5-mini"),
    ("openai", "", "gpt-5-nano"), ("openai", "", "gpt-4.1"), ("openai", "", "gpt-4.1-mini"), ("openai", "", "gpt-4o"),
    ("openai", "", "gpt-4o-mini"), ("openai", "", "o3"), ("openai", "", "o4-mini"),
    ("deepseek", "deepseek/", "deepseek-chat"), ("deepseek", "deepseek/", "deepseek-reasoner"),
    ("qwen", "dashscope/", "qwen-max"), ("qwen", "dashscope/", "qwen-plus"), ("qwen", "dashscope/", "qwen-turbo"),
    ("moonshot", "moonshot/", "kimi-k2-0905-preview"), ("moonshot", "moonshot/", "kimi-k2-thinking"),
    ("mistral", "mistral/", "mistral-large-latest"), ("mistral", "mistral/", "mistral-medium-latest"),
    ("mistral", "mistral/", "mistral-small-latest"), ("mistral", "mistral/", "codestral-latest"),
    ("groq", "groq/", "llama-3.3-70b-versatile"), ("groq", "groq/", "llama-3.1-8b-instant"),
    ("groq", "groq/", "openai/gpt-oss-120b"), ("groq", "groq/", "openai/gpt-oss-20b"),
    ("xai", "xai/", "grok-4"), ("xai", "xai/", "grok-3"), ("xai", "xai/", "grok-3-mini"),
    ("zhipu", "zai/", "glm-4.6"), ("zhipu", "zai/", "glm-4.5"),
]
# Their names of our providers.
GENAI = {"xai": "x-ai", "moonshot": "moonshotai", "qwen": "qwen", "zhipu": "zai"}
# Built in, first, and free.
DEMO = {"provider": "demo", "name": "demo", "display_name": "Polyphony demo", "context_length": 32768,
        "max_output": 4096, "prices": {"input": 0, "output": 0}, "price_version": "demo-1", "capabilities": ["text"]}


def nanos(dollars_per_token):
    """Nano-dollars for a million tokens."""
    return round(float(dollars_per_token) * 1e6 * 1e9)


def capabilities(entry):
    names = {"supports_vision": "vision", "supports_function_calling": "tools", "supports_reasoning": "reasoning"}
    return ["text"] + [name for key, name in names.items() if entry.get(key)]


def main():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "litellm", "genai-prices"],
                       check=True)
        wheels = {path.rsplit("/", 1)[1].split("-")[0]: path for path in glob.glob(folder + "/*.whl")}
        with zipfile.ZipFile(wheels["litellm"]) as wheel:
            listed = json.load(wheel.open("litellm/model_prices_and_context_window_backup.json"))
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", folder + "/lib", wheels["genai_prices"]],
                       check=True)
        sys.path.insert(0, folder + "/lib")
        from genai_prices import Usage, calc_price

        today = datetime.datetime.now(datetime.timezone.utc)
        models = [DEMO]
        for provider, prefix, name in WANTED:
            entry = listed.get(prefix + name)
            if not entry:
                print(f"left out: {provider}/{name} is not in litellm's list", file=sys.stderr)
                continue
            prices = {"input": nanos(entry["input_cost_per_token"]), "output": nanos(entry["output_cost_per_token"])}
            if entry.get("cache_read_input_token_cost"):
                prices["cached_input"] = nanos(entry["cache_read_input_token_cost"])
            try:
                one = calc_price(Usage(input_tokens=100_000, output_tokens=100_000), name,
                                 provider_id=GENAI.get(provider, provider), genai_request_timestamp=today)
                other = float(one.total_price)
            except LookupError:
                print(f"left out: {provider}/{name} is not in genai-prices", file=sys.stderr)
                continue
            ours = (prices["input"] + prices["output"]) / 1e9 / 10
            if abs(ours - other) > 0.01 * max(ours, other):
                print(f"left out: {provider}/{name} costs ${ours:.4f} here and ${other:.4f} there", file=sys.stderr)
                continue
            models.append({
                "provider": provider, "name": name, "display_name": name,
                "context_length": entry.get("max_input_tokens") or entry["max_tokens"],
                "max_output": min(entry.get("max_output_tokens") or 4096, entry.get("max_input_tokens") or entry["max_tokens"]),
                "prices": prices, "price_version": f"{today:%Y-%m-%d}", "capabilities": capabilities(entry),
            })
    print("[\n" + ",\n".join("  " + json.dumps(model) for model in models) + "\n]")


main()
