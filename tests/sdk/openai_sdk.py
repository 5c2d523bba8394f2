"""The official SDK of OpenAI against a running product: address, token and a session come as arguments."""

import json
import sys

import openai
from openai import OpenAI
from pydantic import BaseModel

base, token, session = sys.argv[1:]
client = OpenAI(base_url=f"{base}/v1", api_key=token, max_retries=0, timeout=60)
DEMO = "demo/demo"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def raises(kind, code, call):
    try:
        call()
    except kind as error:
        assert error.code == code, error.body
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def models():
    listed = client.models.list().data
    assert DEMO in [model.id for model in listed]
    assert client.models.retrieve(DEMO).owned_by == "demo"
    raises(openai.NotFoundError, "model_not_found", lambda: client.models.retrieve("nobody/nothing"))


def completions():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": [{"type": "text", "text": "and three?"}]},
    ]
    whole = client.chat.completions.create(model=DEMO, messages=messages, temperature=0.5, user="ann", seed=1)
    choice = whole.choices[0]
    assert choice.finish_reason == "stop" and "and three?" in choice.message.content, whole
    # The demo says how many messages it was shown before the last one.
    assert "I see 2 earlier message(s)" in choice.message.content, choice.message.content
    assert whole.usage.prompt_tokens > 0 and whole.usage.completion_tokens > 0
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole.usage.prompt_tokens_details.cached_tokens == 0

    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=DEMO, messages=messages, stream=True, stream_options=options))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == choice.message.content
    assert len(chunks) > 10 and not chunks[-1].choices
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-2].choices[0].finish_reason == "stop"

    short = client.chat.completions.create(model="demo", messages=messages, max_completion_tokens=3)
    assert short.choices[0].finish_reason == "length", short

    plain = list(client.chat.completions.create(model=DEMO, messages=messages, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in plain)


def bounds():
    messages = [{"role": "user", "content": "Tea?"}]

    def ask(**options):
        return client.chat.completions.create(model="lab/teller", messages=messages, **options).choices[0]

    short = ask(max_completion_tokens=1)
    assert (short.finish_reason, short.message.content) == ("length", "Green"), short
    assert ask(max_tokens=1).finish_reason == "length"
    for stop in ["Tea", ["x", "Tea"]]:
        stopped = ask(stop=stop)
        assert (stopped.finish_reason, stopped.message.content) == ("stop", "Green "), stopped


class Tea(BaseModel):
    tea: str


def json_mode():
    messages = [{"role": "user", "content": "As JSON?"}]
    options = {"model": "lab/teller", "messages": messages}
    whole = client.chat.completions.create(**options, response_format={"type": "json_object"})
    assert json.loads(whole.choices[0].message.content) == {"tea": "green"}, whole
    parsed = client.chat.completions.parse(**options, response_format=Tea)
    assert parsed.choices[0].message.parsed == Tea(tea="green"), parsed
    assert client.responses.parse(model="lab/teller", input="As JSON?", text_format=Tea).output_parsed == Tea(tea="green")
    # Who can't keep to a schema says so before it is asked.
    options["model"] = DEMO
    refused = lambda: client.chat.completions.parse(**options, response_format=Tea)
    assert raises(openai.BadRequestError, "validation_failed", refused).param == "response_format"


def tools():
    messages = [{"role": "user", "content": "The weather in Köln?"}]
    first = client.chat.completions.create(model="lab/teller", messages=messages, tools=[WEATHER], tool_choice="auto")
    assert first.choices[0].finish_reason == "tool_calls" and first.choices[0].message.content is None
    call = first.choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "Köln"}')
    messages.append(first.choices[0].message)
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "rain"})
    second = client.chat.completions.create(model="lab/teller", messages=messages, tools=[WEATHER])
    assert second.choices[0].message.content == "Green Tea", second
    assert second.usage.prompt_tokens == 11

    with client.chat.completions.stream(model="lab/teller", messages=messages[:1], tools=[WEATHER]) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion().choices[0]
    assert streamed.finish_reason == "tool_calls"
    assert streamed.message.tool_calls[0].function.arguments == '{"city": "Köln"}'


def pictures():
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    messages = [{"role": "user", "content": content}]
    assert client.chat.completions.create(model="lab/teller", messages=messages).choices[0].message.content == "Green Tea"
    content[1]["image_url"]["url"] = "data:image/png;base64,***"
    wrong = lambda: client.chat.completions.create(model="lab/teller", messages=messages)
    raises(openai.BadRequestError, "validation_failed", wrong)


def errors():
    messages = [{"role": "user", "content": "hi"}]

    def ask(client=client, **options):
        return client.chat.completions.create(**{"model": DEMO, "messages": messages, **options})

    stranger = OpenAI(base_url=f"{base}/v1", api_key="pat_nobody", max_retries=0)
    raises(openai.AuthenticationError, "invalid_api_key", lambda: ask(stranger))
    raises(openai.NotFoundError, "model_not_found", lambda: ask(model="nobody/nothing"))
    error = raises(openai.BadRequestError, "validation_failed", lambda: ask(temperature=7))
    assert error.param == "temperature" and error.type == "invalid_request_error" and error.request_id
    raises(openai.BadRequestError, "validation_failed", lambda: ask(n=2))
    raises(openai.BadRequestError, "validation_failed", lambda: ask(messages=[]))
    raises(openai.BadRequestError, "validation_failed", lambda: ask(messages=[{"role": "nobody", "content": "x"}]))
    error = raises(openai.RateLimitError, "insufficient_quota", lambda: ask(model="lab/broke"))
    assert error.response.headers["x-should-retry"] == "false"
    # A stream that fails says so; it never just ends.
    raises(openai.APIError, "insufficient_quota", lambda: list(ask(model="lab/broke", stream=True)))


def retries():
    messages = [{"role": "user", "content": "Are you there, openai of Python?"}]
    patient = client.with_options(max_retries=4)
    answer = patient.chat.completions.create(model="moody1/shy", messages=messages)
    assert answer.choices[0].message.content == "Green Tea", answer
    messages[0]["content"] = "And now, openai of Python?"
    ask = lambda: client.chat.completions.create(model="moody1/shy", messages=messages)
    assert raises(openai.InternalServerError, "provider_error", ask).status_code == 502


def aborts():
    messages = [{"role": "user", "content": "long"}]
    headers = {"X-Session-Id": session}
    options = {"model": "demo-n300-i10", "messages": messages, "extra_headers": headers}
    with client.chat.completions.create(**options, stream=True) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    try:
        client.chat.completions.create(**options, timeout=0.5)
        raise AssertionError("it was not too slow")
    except openai.APITimeoutError:
        pass


def responses():
    whole = client.responses.create(model=DEMO, input="remember seven", instructions="Be brief.")
    assert whole.status == "completed" and "remember seven" in whole.output_text, whole
    assert whole.usage.output_tokens > 0
    next_one = client.responses.create(model=DEMO, input="and now?", previous_response_id=whole.id)
    assert "I see 2 earlier message(s)" in next_one.output_text, next_one.output_text

    events = list(client.responses.create(model=DEMO, input="remember seven", instructions="Be brief.", stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-1] == "response.completed"
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))

    tool = {"type": "function", "strict": False, **WEATHER["function"]}
    called = client.responses.create(model="lab/teller", input="The weather in Köln?", tools=[tool])
    call = called.output[-1]
    assert (call.type, call.name, call.arguments) == ("function_call", "weather", '{"city": "Köln"}')
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    answered = client.responses.create(
        model="lab/teller", input=[result], tools=[tool], previous_response_id=called.id
    )
    assert answered.output_text == "Green Tea", answered
    with client.responses.stream(model="lab/teller", input="The weather in Köln?", tools=[tool]) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_response()
    assert "response.function_call_arguments.done" in kinds
    assert streamed.output[-1].arguments == '{"city": "Köln"}'

    # Or with everything that was said, instead of the id.
    said = [{"role": "user", "content": "The weather in Köln?"}, *called.output, result]
    assert client.responses.create(model="lab/teller", input=said, tools=[tool]).output_text == "Green Tea"
    short = client.responses.create(model=DEMO, input="remember seven", max_output_tokens=3)
    assert (short.status, short.incomplete_details.reason) == ("incomplete", "max_output_tokens"), short
    picture = {"type": "input_image", "detail": "auto", "image_url": PICTURE}
    seen = [{"role": "user", "content": [{"type": "input_text", "text": "What is it?"}, picture]}]
    assert client.responses.create(model="lab/teller", input=seen).output_text == "Green Tea"

    raises(
        openai.BadRequestError,
        "validation_failed",
        lambda: client.responses.create(model=DEMO, input="x", previous_response_id="resp_none"),
    )
    raises(openai.NotFoundError, "model_not_found", lambda: client.responses.create(model="nobody", input="x"))


def thoughts():
    options = {"model": "sage/claude-sonnet-4-5", "reasoning": {"effort": "low"}}
    with client.responses.stream(**options, input="Tea?") as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_response()
    assert kinds.index("response.reasoning_summary_text.done") < kinds.index("response.output_text.delta")
    whole = client.responses.create(**options, input="Tea?")
    for response in [whole, streamed]:
        assert [item.type for item in response.output] == ["reasoning", "message"], response
        assert response.output[0].summary[0].text == "Tea is a plant."
    # What was signed goes back with the answer that it belongs to.
    assert client.responses.create(**options, input="More?", previous_response_id=whole.id).output_text == "Green Tea"
    said = [{"role": "user", "content": "Tea?"}, *whole.output, {"role": "user", "content": "More?"}]
    assert client.responses.create(**options, input=said).output_text == "Green Tea"

    chat = {"model": options["model"], "messages": [{"role": "user", "content": "Tea?"}], "reasoning_effort": "low"}
    chunks = list(client.chat.completions.create(**chat, stream=True))
    thought = "".join(getattr(chunk.choices[0].delta, "reasoning_content", None) or "" for chunk in chunks)
    message = client.chat.completions.create(**chat).choices[0].message
    assert thought == message.reasoning_content == "Tea is a plant.", chunks
    chat["messages"] += [message, {"role": "user", "content": "More?"}]
    assert client.chat.completions.create(**chat).choices[0].message.content == "Green Tea"


for test in [models, completions, bounds, json_mode, tools, pictures, thoughts, errors, retries, aborts, responses]:
    test()
    print(test.__name__)
