// The official SDK of OpenAI for Node against a running product.

import assert from "node:assert/strict";

import { all, base, CITY, DEMO, firstText, OpenAI, PNG, raises, run, session, token } from "./common.mjs";

const options = { baseURL: `${base}/v1`, apiKey: token, maxRetries: 0, timeout: 60_000 };
const client = new OpenAI(options);
const completions = client.chat.completions;
const WEATHER = { type: "function", function: { name: "weather", description: "The weather.", parameters: CITY } };
const user = (content) => [{ role: "user", content }];

async function refused(kind, code, call) {
  const error = await raises(kind, call);
  assert.equal(error.code, code, error.message);
  return error;
}

async function models() {
  const listed = await all(client.models.list());
  assert(listed.some((model) => model.id === DEMO));
  assert.equal((await client.models.retrieve(DEMO)).owned_by, "demo");
  await refused(OpenAI.NotFoundError, "model_not_found", () => client.models.retrieve("nobody/nothing"));
}

async function wholeAndStreamed() {
  const messages = [
    { role: "system", content: "Be brief." },
    { role: "user", content: "one" },
    { role: "assistant", content: "two" },
    { role: "developer", content: "In mid-conversation." },
    { role: "user", content: [{ type: "text", text: "and three?" }] },
  ];
  const whole = await completions.create({ model: DEMO, messages, temperature: 0.5, user: "ann", seed: 1 });
  const { message, finish_reason } = whole.choices[0];
  assert.equal(finish_reason, "stop");
  assert.match(message.content, /and three\?.*I see 3 earlier message\(s\)/);
  const { usage } = whole;
  assert(usage.prompt_tokens > 0 && usage.completion_tokens > 0);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);

  const asked = { model: DEMO, messages, stream: true };
  const chunks = await all(completions.create({ ...asked, stream_options: { include_usage: true } }));
  const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
  assert.equal(text, message.content);
  assert.equal(chunks[0].choices[0].delta.role, "assistant");
  assert.equal(chunks.at(-2).choices[0].finish_reason, "stop");
  assert.deepEqual([chunks.at(-1).choices, chunks.at(-1).usage], [[], usage]);
  assert(chunks.slice(0, -1).every((chunk) => chunk.usage === null));
  const plain = await all(completions.create(asked));
  assert(plain.every((chunk) => !chunk.usage && chunk.choices.length === 1));

  const helped = completions.stream({ model: DEMO, messages });
  let heard = "";
  helped.on("content", (piece) => (heard += piece));
  const final = await helped.finalChatCompletion();
  assert.deepEqual([final.choices[0].message.content, heard], [message.content, message.content]);

  const { data, response, request_id } = await completions.create({ model: DEMO, messages }).withResponse();
  assert.equal(data.choices[0].message.content, message.content);
  assert.equal(response.headers.get("x-request-id"), request_id);
}

async function bounds() {
  const ask = async (more) => (await completions.create({ model: "lab/teller", messages: user("Tea?"), ...more })).choices[0];
  const short = await ask({ max_completion_tokens: 1 });
  assert.deepEqual([short.finish_reason, short.message.content], ["length", "Green"]);
  assert.equal((await ask({ max_tokens: 1 })).finish_reason, "length");
  for (const stop of ["Tea", ["x", "Tea"]]) {
    const stopped = await ask({ stop });
    assert.deepEqual([stopped.finish_reason, stopped.message.content], ["stop", "Green "]);
  }
  const cut = await all(completions.create({ model: DEMO, messages: user("hi"), stream: true, max_tokens: 3 }));
  assert.equal(cut.at(-1).choices[0].finish_reason, "length");
}

async function json() {
  const schema = { type: "object", properties: { tea: { type: "string" } }, required: ["tea"], additionalProperties: false };
  const as = (format) => ({ model: "lab/teller", messages: user("As JSON?"), response_format: format });
  const named = { type: "json_schema", json_schema: { name: "tea", schema, strict: true } };
  for (const format of [{ type: "json_object" }, named]) {
    const { message } = (await completions.create(as(format))).choices[0];
    assert.deepEqual(JSON.parse(message.content), { tea: "green" });
  }
  const parsed = (await completions.parse(as(named))).choices[0].message.parsed;
  assert.deepEqual(parsed, { tea: "green" });
  // Who can't keep to a schema says so before it is asked.
  const refusal = await refused(OpenAI.BadRequestError, "validation_failed", () =>
    completions.create({ ...as(named), model: DEMO }),
  );
  assert.equal(refusal.param, "response_format");
}

async function tools() {
  const messages = user("The weather in Köln?");
  const ask = () => completions.create({ model: "lab/teller", messages, tools: [WEATHER], tool_choice: "auto" });
  const first = (await ask()).choices[0];
  assert.deepEqual([first.finish_reason, first.message.content], ["tool_calls", null]);
  const call = first.message.tool_calls[0];
  assert.deepEqual([call.function.name, JSON.parse(call.function.arguments)], ["weather", { city: "Köln" }]);
  const streamed = await completions.stream({ model: "lab/teller", messages, tools: [WEATHER] }).finalChatCompletion();
  assert.deepEqual(JSON.parse(streamed.choices[0].message.tool_calls[0].function.arguments), { city: "Köln" });
  messages.push(first.message, { role: "tool", tool_call_id: call.id, content: "rain" });
  const second = await ask();
  assert.equal(second.choices[0].message.content, "Green Tea");
  assert.equal(second.usage.prompt_tokens, 11);

  // The SDK's own loop: it runs the function and asks again.
  const weather = { ...WEATHER.function, function: () => "rain", parse: JSON.parse };
  const loop = completions.runTools({ model: "lab/teller", messages: user("Again?"), tools: [{ type: "function", function: weather }] });
  assert.equal(await loop.finalContent(), "Green Tea");
}

async function pictures() {
  const content = [
    { type: "text", text: "What is it?" },
    { type: "image_url", image_url: { url: `data:image/png;base64,${PNG}`, detail: "low" } },
  ];
  const { choices } = await completions.create({ model: "lab/teller", messages: user(content) });
  assert.equal(choices[0].message.content, "Green Tea");
  content[1].image_url.url = "data:image/png;base64,***";
  await refused(OpenAI.BadRequestError, "validation_failed", () =>
    completions.create({ model: "lab/teller", messages: user(content) }),
  );
}

async function errors() {
  const ask = (more, by = completions) => by.create({ model: DEMO, messages: user("hi"), ...more });
  const stranger = new OpenAI({ ...options, apiKey: "pat_nobody" });
  const unknown = await refused(OpenAI.AuthenticationError, "invalid_api_key", () => ask({}, stranger.chat.completions));
  assert.equal(unknown.status, 401);
  const missing = await refused(OpenAI.NotFoundError, "model_not_found", () => ask({ model: "nobody/nothing" }));
  assert.deepEqual([missing.status, missing.param], [404, "model"]);
  const wrong = await refused(OpenAI.BadRequestError, "validation_failed", () => ask({ temperature: 7 }));
  assert.deepEqual([wrong.param, wrong.type], ["temperature", "invalid_request_error"]);
  assert(wrong.requestID);
  await refused(OpenAI.BadRequestError, "validation_failed", () => ask({ n: 2 }));
  await refused(OpenAI.BadRequestError, "validation_failed", () => ask({ messages: [] }));
  const poor = await refused(OpenAI.RateLimitError, "insufficient_quota", () => ask({ model: "lab/broke" }));
  assert.equal(poor.headers.get("x-should-retry"), "false");
  // A stream that fails says so; it never just ends.
  await refused(OpenAI.APIError, "insufficient_quota", () => all(ask({ model: "lab/broke", stream: true })));
}

async function retries() {
  const asked = { model: "moody3/shy", messages: user("Are you there, openai of Node?") };
  const { choices } = await completions.create(asked, { maxRetries: 4 });
  assert.equal(choices[0].message.content, "Green Tea");
  asked.messages[0].content = "And now, openai of Node?";
  assert.equal((await raises(OpenAI.InternalServerError, () => completions.create(asked))).status, 502);
}

async function aborts() {
  const headers = { "x-session-id": session };
  const stream = await completions.create({ model: "demo-n300-i10", messages: user("long"), stream: true }, { headers });
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) break;
  }
  assert(stream.controller.signal.aborted);
  const controller = new AbortController();
  const prompt = "long, openai of Node";
  const asked = completions.create({ model: "demo-n300-i10", messages: user(prompt) }, { headers, signal: controller.signal });
  const aborted = raises(OpenAI.APIUserAbortError, () => asked);
  await firstText(prompt);
  controller.abort();
  await aborted;
}

async function responses() {
  const ask = (more) => client.responses.create({ model: DEMO, input: "remember seven", instructions: "Be brief.", ...more });
  const whole = await ask();
  assert.equal(whole.status, "completed");
  assert.match(whole.output_text, /remember seven/);
  assert(whole.usage.output_tokens > 0);
  const next = await ask({ input: "and now?", previous_response_id: whole.id });
  assert.match(next.output_text, /I see 2 earlier message\(s\)/);
  const events = await all(ask({ stream: true }));
  const kinds = events.map((event) => event.type);
  assert.deepEqual(kinds.slice(0, 2), ["response.created", "response.in_progress"]);
  assert.equal(kinds.at(-1), "response.completed");
  const text = events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta).join("");
  assert.deepEqual([text, events.at(-1).response.usage], [whole.output_text, whole.usage]);
  assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);

  const short = await ask({ max_output_tokens: 3 });
  assert.deepEqual([short.status, short.incomplete_details.reason], ["incomplete", "max_output_tokens"]);

  const tool = { type: "function", strict: false, ...WEATHER.function };
  const called = await client.responses.create({ model: "lab/teller", input: "The weather in Köln?", tools: [tool] });
  const call = called.output.at(-1);
  assert.deepEqual([call.type, JSON.parse(call.arguments)], ["function_call", { city: "Köln" }]);
  const result = { type: "function_call_output", call_id: call.call_id, output: "rain" };
  const given = { model: "lab/teller", tools: [tool] };
  const answered = await client.responses.create({ ...given, input: [result], previous_response_id: called.id });
  assert.equal(answered.output_text, "Green Tea");
  // Or with everything that was said, instead of the id.
  const said = [{ role: "user", content: "The weather in Köln?" }, ...called.output, result];
  assert.equal((await client.responses.create({ ...given, input: said })).output_text, "Green Tea");
  const streamed = await client.responses.stream({ ...given, input: "The weather in Köln?" }).finalResponse();
  assert.deepEqual(JSON.parse(streamed.output.at(-1).arguments), { city: "Köln" });

  const picture = { type: "input_image", detail: "auto", image_url: `data:image/png;base64,${PNG}` };
  const seen = [{ role: "user", content: [{ type: "input_text", text: "What is it?" }, picture] }];
  assert.equal((await client.responses.create({ model: "lab/teller", input: seen })).output_text, "Green Tea");

  const wrong = () => ask({ previous_response_id: "resp_none" });
  await refused(OpenAI.BadRequestError, "validation_failed", wrong);
  await refused(OpenAI.NotFoundError, "model_not_found", () => ask({ model: "nobody" }));
}

async function thoughts() {
  const given = { model: "sage/claude-sonnet-4-5", reasoning: { effort: "low" } };
  const whole = await client.responses.create({ ...given, input: "Tea?" });
  const streamed = await client.responses.stream({ ...given, input: "Tea?" }).finalResponse();
  for (const { output } of [whole, streamed]) {
    assert.deepEqual(output.map((item) => item.type), ["reasoning", "message"]);
    assert.equal(output[0].summary[0].text, "Tea is a plant.");
  }
  // What was signed goes back with the answer that it belongs to.
  const next = await client.responses.create({ ...given, input: "More?", previous_response_id: whole.id });
  assert.equal(next.output_text, "Green Tea");
  const said = [...user("Tea?"), ...whole.output, ...user("More?")];
  assert.equal((await client.responses.create({ ...given, input: said })).output_text, "Green Tea");

  const chat = { model: given.model, messages: user("Tea?"), reasoning_effort: "low" };
  const chunks = await all(completions.create({ ...chat, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.reasoning_content ?? "").join(""), "Tea is a plant.");
  const { message } = (await completions.create(chat)).choices[0];
  assert.equal(message.reasoning_content, "Tea is a plant.");
  const again = await completions.create({ ...chat, messages: [...chat.messages, message, ...user("More?")] });
  assert.equal(again.choices[0].message.content, "Green Tea");
}

await run(models, wholeAndStreamed, bounds, json, tools, pictures, thoughts, errors, retries, aborts, responses);
