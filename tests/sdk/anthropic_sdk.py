"""The official SDK of Anthropic against a running product: address, token and a session come as arguments."""

import json
import sys

import anthropic
from anthropic import Anthropic

base, token, session = sys.argv[1:]
client = Anthropic(base_url=base, api_key=token, max_retries=0, timeout=60)
DEMO = "demo/demo"
WEATHER = {
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def raises(kind, word, call):
    try:
        call()
    except kind as error:
        assert error.body["error"]["type"] == word, error.body
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def models():
    assert DEMO in [model.id for model in client.models.list().data]
    assert client.models.retrieve(DEMO).type == "model"


def messages():
    turns = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
        {"role": "user", "content": [{"type": "text", "text": "and three?"}]},
    ]
    whole = client.messages.create(model=DEMO, max_tokens=1000, system="Be brief.", messages=turns)
    text = whole.content[0].text
    assert whole.stop_reason == "end_turn" and "I see 2 earlier message(s)" in text, whole
    assert whole.usage.input_tokens > 0 and whole.usage.output_tokens > 0
    # A session key of a person works as well as an API key.
    bearer = Anthropic(base_url=base, auth_token=token, api_key=None, max_retries=0)
    assert bearer.messages.create(model=DEMO, max_tokens=1000, system="Be brief.", messages=turns).content[0].text == text

    with client.messages.stream(model=DEMO, max_tokens=1000, system="Be brief.", messages=turns) as stream:
        assert "".join(stream.text_stream) == text
        final = stream.get_final_message()
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.usage.input_tokens == whole.usage.input_tokens and final.stop_reason == "end_turn"
    events = [event.type for event in client.messages.create(model=DEMO, max_tokens=1000, messages=turns, stream=True)]
    assert events[0] == "message_start" and events[-2:] == ["message_delta", "message_stop"]
    assert events.count("content_block_start") == events.count("content_block_stop") == 1

    # The SDK's other way to the same interface, and instructions in mid-conversation.
    turns.insert(2, {"role": "system", "content": "Answer in English."})
    beta = client.beta.messages.create(model=DEMO, max_tokens=1000, system="Be brief.", messages=turns, betas=["x-2026"])
    assert "I see 3 earlier message(s)" in beta.content[0].text, beta

    short = client.messages.create(model=DEMO, max_tokens=3, messages=turns)
    assert short.stop_reason == "max_tokens", short


def tools():
    turns = [{"role": "user", "content": "The weather in Köln?"}]
    first = client.messages.create(model="lab/teller", max_tokens=100, messages=turns, tools=[WEATHER])
    assert first.stop_reason == "tool_use" and [block.type for block in first.content] == ["tool_use"], first
    use = first.content[0]
    assert (use.name, use.input) == ("weather", {"city": "Köln"})
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "rain"}
    turns += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = client.messages.create(model="lab/teller", max_tokens=100, messages=turns, tools=[WEATHER])
    assert second.content[0].text == "Green Tea" and second.usage.input_tokens == 11
    with client.messages.stream(model="lab/teller", max_tokens=100, messages=turns[:1], tools=[WEATHER]) as stream:
        streamed = stream.get_final_message()
    assert streamed.content[0].input == {"city": "Köln"} and streamed.stop_reason == "tool_use"


def bounds():
    options = {"model": "lab/teller", "messages": [{"role": "user", "content": "Tea?"}]}
    short = client.messages.create(**options, max_tokens=1)
    assert (short.stop_reason, short.content[0].text) == ("max_tokens", "Green"), short
    # That dialect's hosts say only that it ended.
    stopped = client.messages.create(**options, max_tokens=9, stop_sequences=["Tea"])
    ends = (stopped.content[0].text, stopped.stop_reason, stopped.stop_sequence)
    assert ends == ("Green ", "end_turn", None), stopped
    options |= {"model": "sage/claude-sonnet-4-5", "max_tokens": 9, "stop_sequences": ["Coffee", "Tea"]}
    whole = client.messages.create(**options)
    with client.messages.stream(**options) as stream:
        streamed = stream.get_final_message()
    for stopped in [whole, streamed]:
        assert [block.text for block in stopped.content if block.type == "text"] == ["Green "], stopped
        assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "Tea"), stopped


def json_mode():
    schema = {"type": "object", "properties": {"tea": {"type": "string"}}, "required": ["tea"]}
    output_config = {"format": {"type": "json_schema", "schema": {**schema, "additionalProperties": False}}}
    options = {"max_tokens": 100, "messages": [{"role": "user", "content": "As JSON?"}], "output_config": output_config}
    whole = client.messages.create(model="lab/teller", **options)
    assert json.loads(whole.content[0].text) == {"tea": "green"}, whole
    refused = lambda: client.messages.create(model=DEMO, **options)
    raises(anthropic.BadRequestError, "invalid_request_error", refused)


def pictures():
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
    messages = [{"role": "user", "content": content}]
    ask = lambda: client.messages.create(model="lab/teller", max_tokens=100, messages=messages)
    assert ask().content[0].text == "Green Tea"
    source["data"] = "***"
    raises(anthropic.BadRequestError, "invalid_request_error", ask)


def thoughts():
    turns = [{"role": "user", "content": "The weather in Köln?"}]
    thinking = {"type": "enabled", "budget_tokens": 1024}
    options = {"model": "sage/claude-sonnet-4-5", "max_tokens": 4000, "tools": [WEATHER]}
    whole = client.messages.create(**options, thinking=thinking, messages=turns)
    assert [block.type for block in whole.content] == ["thinking", "redacted_thinking", "text", "tool_use"], whole
    with client.messages.stream(**options, thinking=thinking, messages=turns) as stream:
        streamed = stream.get_final_message()
    plain = lambda message: sorted((block.to_dict() for block in message.content), key=lambda block: block["type"])
    assert plain(streamed) == plain(whole), streamed
    for message in [whole, streamed]:
        use = next(block for block in message.content if block.type == "tool_use")
        result = {"type": "tool_result", "tool_use_id": use.id, "content": "rain"}
        loop = [*turns, {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
        assert client.messages.create(**options, thinking=thinking, messages=loop).content[-1].text == "Green Tea"
        # Another provider's model goes on from there too.
        other = client.messages.create(**{**options, "model": "lab/teller"}, messages=loop)
        assert other.content[0].text == "Green Tea"


def counting():
    turns = [{"role": "user", "content": "How many?"}]
    few = client.messages.count_tokens(model=DEMO, messages=turns).input_tokens
    more = client.messages.count_tokens(model=DEMO, messages=turns, system="Be brief.", tools=[WEATHER]).input_tokens
    assert 0 < few < more


def errors():
    turns = [{"role": "user", "content": "hi"}]

    def ask(client=client, **options):
        return client.messages.create(**{"model": DEMO, "max_tokens": 10, "messages": turns, **options})

    stranger = Anthropic(base_url=base, api_key="pat_nobody", max_retries=0)
    raises(anthropic.AuthenticationError, "authentication_error", lambda: ask(stranger))
    error = raises(anthropic.NotFoundError, "not_found_error", lambda: ask(model="nobody"))
    assert error.body["request_id"] == error.request_id
    raises(anthropic.BadRequestError, "invalid_request_error", lambda: ask(max_tokens=0))
    raises(anthropic.BadRequestError, "invalid_request_error", lambda: ask(messages=[]))
    raises(anthropic.RateLimitError, "rate_limit_error", lambda: ask(model="lab/broke"))
    raises(anthropic.APIStatusError, "rate_limit_error", lambda: list(ask(model="lab/broke", stream=True)))


def retries():
    turns = [{"role": "user", "content": "Are you there, anthropic of Python?"}]
    options = {"model": "moody2/shy", "max_tokens": 10, "messages": turns}
    assert client.with_options(max_retries=4).messages.create(**options).content[0].text == "Green Tea"
    turns[0]["content"] = "And now, anthropic of Python?"
    error = raises(anthropic.InternalServerError, "api_error", lambda: client.messages.create(**options))
    assert error.status_code == 502


def aborts():
    turns = [{"role": "user", "content": "long"}]
    options = {"model": "demo-n300-i10", "max_tokens": 1000, "messages": turns, "extra_headers": {"X-Session-Id": session}}
    with client.messages.create(**options, stream=True) as stream:
        for event in stream:
            if event.type == "content_block_delta":
                break
    try:
        client.messages.create(**options, timeout=0.5)
        raise AssertionError("it was not too slow")
    except anthropic.APITimeoutError:
        pass


for test in [models, messages, bounds, json_mode, tools, pictures, thoughts, counting, errors, retries, aborts]:
    test()
    print(test.__name__)
