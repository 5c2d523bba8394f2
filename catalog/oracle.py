#!/usr/bin/env python3
"""Writes what genai-prices, which is not our code, makes of some usages: the expectations of the cost tests.

    pip install genai-prices==0.2.3 && python3 catalog/oracle.py > crates/domain/src/catalog/oracle.csv
"""

import datetime
import json
import pathlib
import sys

from genai_prices import Usage, calc_price

sys.dont_write_bytecode = True
from wanted import GENAI, REVIEWED

MODELS = json.loads(pathlib.Path(__file__).with_name("models.json").read_text())
# Input in all, cached, written to the cache, output.
USAGES = [(1_000, 400, 0, 100), (1, 0, 0, 1), (250_000, 100_000, 0, 7_777), (300_000, 1_234, 0, 65_000), (50_000, 0, 0, 0)]
WRITES = [(12_345, 2_345, 5_000, 678), (280_000, 0, 280_000, 1)]
# Within DeepSeek's dear hours, whose prices the catalogue has.
MOMENT = datetime.datetime(2026, 11, 24, 8, 30, tzinfo=datetime.timezone.utc)

print("model,input,cached,written,output,nanos")
for model in MODELS:
    provider, name = model["provider"], model["name"]
    if provider in ("demo", "qwen") or REVIEWED.get((provider, name), ("",))[0] == "litellm":
        continue
    for used in USAGES + (WRITES if "cache_write" in model["prices"][-1] else []):
        if used[1] and "cached_input" not in model["prices"][-1]:
            continue
        tokens = dict(zip(("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"), used))
        total = calc_price(Usage(**tokens), name, provider_id=GENAI.get(provider, provider),
                           genai_request_timestamp=MOMENT).total_price * 10**9
        print(f"{provider}/{name}", *used, int(total.quantize(1, "ROUND_HALF_UP")), sep=",")
