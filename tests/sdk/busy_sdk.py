"""What the official SDKs do where the account may only have one answer in the making: they wait as long as they are told."""

import sys

import anthropic
import openai

base, token, _ = sys.argv[1:]
OPENAI = openai.OpenAI(base_url=f"{base}/v1", api_key=token, timeout=60)
ANTHROPIC = anthropic.Anthropic(base_url=base, api_key=token, timeout=60)
TURNS = [{"role": "user", "content": "hi"}]


def busy(kind, ask):
    """Asks while another answer is in the making: refused once, and answered to who is patient."""
    stream = OPENAI.chat.completions.create(model="demo-n300-i10", messages=TURNS, stream=True)
    try:
        ask(0)
        raise AssertionError("it was not refused")
    except kind as error:
        assert error.status_code == 429 and error.response.headers["retry-after"] == "5", error
    assert ask(3)
    assert [chunk for chunk in stream][-1].choices[0].finish_reason == "stop"


def of_openai(retries):
    patient = OPENAI.with_options(max_retries=retries)
    return patient.chat.completions.create(model="demo/demo", messages=TURNS).choices[0].message.content


def of_anthropic(retries):
    patient = ANTHROPIC.with_options(max_retries=retries)
    return patient.messages.create(model="demo/demo", max_tokens=1000, messages=TURNS).content[0].text


busy(openai.RateLimitError, of_openai)
busy(anthropic.RateLimitError, of_anthropic)
