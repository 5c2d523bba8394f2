// The official SDK of Anthropic for Node against a running product.

import assert from "node:assert/strict";

import { all, Anthropic, base, CITY, DEMO, firstText, PNG, raises, run, session, token } from "./common.mjs";

const options = { baseURL: base, apiKey: token, maxRetries: 0, timeout: 60_000 };
const client = new Anthropic(options);
const WEATHER = { name: "weather", description: "The weather.", input_schema: CITY };
const user = (content) => [{ role: "user", content }];
const ask = (more, by = client) => by.messages.create({ model: DEMO, max_tokens: 1000, messages: user("hi"), ...more });

async function refused(kind, type, call) {
  const error = await raises(kind, call);
  assert.equal(error.error.error.type, type, error.message);
  return error;
}

async function models() {
  assert((await all(client.models.list())).some((model) => model.id === DEMO));
  assert.equal((await client.models.retrieve(DEMO)).type, "model");
}

async function wholeAndStreamed() {
  const messages = [
    { role: "user", content: "one" },
    { role: "assistant", content: [{ type: "text", text: "two" }] },
    { role: "user", content: [{ type: "text", text: "and three?", cache_control: { type: "ephemeral" } }] },
  ];
  const system = [{ type: "text", text: "Be brief.", cache_control: { type: "ephemeral" } }];
  const whole = await ask({ messages, system, metadata: { user_id: "ann" } });
  const { text } = whole.content[0];
  assert.match(text, /and three\?.*I see 2 earlier message\(s\)/);
  assert.equal(whole.stop_reason, "end_turn");
  assert(whole.usage.input_tokens > 0 && whole.usage.output_tokens > 0);
  // The SDK's other way to the same interface, and instructions in mid-conversation.
  const told = messages.toSpliced(2, 0, { role: "system", content: "Answer in English." });
  const beta = await client.beta.messages.create({ model: DEMO, max_tokens: 1000, messages: told, betas: ["x-2026"] });
  assert.match(beta.content[0].text, /I see 3 earlier message\(s\)/);
  const bearer = new Anthropic({ ...options, apiKey: null, authToken: token });
  assert.equal((await ask({ messages, system }, bearer)).content[0].text, text);

  const stream = client.messages.stream({ model: DEMO, max_tokens: 1000, messages, system });
  let heard = "";
  stream.on("text", (piece) => (heard += piece));
  const final = await stream.finalMessage();
  assert.deepEqual([heard, final.content[0].text, final.stop_reason], [text, text, "end_turn"]);
  assert.deepEqual([final.usage.input_tokens, final.usage.output_tokens], [whole.usage.input_tokens, whole.usage.output_tokens]);
  const kinds = (await all(ask({ messages, stream: true }))).map((event) => event.type);
  assert.equal(kinds[0], "message_start");
  assert.deepEqual(kinds.slice(-2), ["message_delta", "message_stop"]);
  assert.equal(kinds.filter((kind) => kind === "content_block_start").length, 1);
}

async function bounds() {
  assert.equal((await ask({ max_tokens: 3 })).stop_reason, "max_tokens");
  const short = await ask({ model: "lab/teller", max_tokens: 1 });
  assert.deepEqual([short.stop_reason, short.content[0].text], ["max_tokens", "Green"]);
  const end = ({ content, stop_reason, stop_sequence }) =>
    [content.find((block) => block.type === "text").text, stop_reason, stop_sequence];
  // That dialect's hosts say only that it ended.
  assert.deepEqual(end(await ask({ model: "lab/teller", stop_sequences: ["Tea"] })), ["Green ", "end_turn", null]);
  const stopped = { model: "sage/claude-sonnet-4-5", max_tokens: 9, stop_sequences: ["Coffee", "Tea"] };
  const stream = client.messages.stream({ ...stopped, messages: [{ role: "user", content: "Tea?" }] });
  for (const message of [await ask(stopped), await stream.finalMessage()]) {
    assert.deepEqual(end(message), ["Green ", "stop_sequence", "Tea"]);
  }
}

async function json() {
  const schema = { type: "object", properties: { tea: { type: "string" } }, required: ["tea"], additionalProperties: false };
  const output_config = { format: { type: "json_schema", schema } };
  const said = await ask({ model: "lab/teller", output_config });
  assert.deepEqual(JSON.parse(said.content[0].text), { tea: "green" });
  await refused(Anthropic.BadRequestError, "invalid_request_error", () => ask({ output_config }));
}

async function tools() {
  const messages = user("The weather in Köln?");
  const given = { model: "lab/teller", max_tokens: 100, messages, tools: [WEATHER] };
  const first = await client.messages.create(given);
  assert.deepEqual([first.stop_reason, first.content.length], ["tool_use", 1]);
  const { id, name, input } = first.content[0];
  assert.deepEqual([name, input], ["weather", { city: "Köln" }]);
  const streamed = await client.messages.stream(given).finalMessage();
  assert.deepEqual([streamed.content[0].input, streamed.stop_reason], [{ city: "Köln" }, "tool_use"]);
  const result = [{ type: "text", text: "rain" }];
  messages.push({ role: "assistant", content: first.content }, ...user([{ type: "tool_result", tool_use_id: id, content: result }]));
  const second = await client.messages.create(given);
  assert.deepEqual([second.content[0].text, second.usage.input_tokens], ["Green Tea", 11]);
}

async function pictures() {
  const picture = { type: "image", source: { type: "base64", media_type: "image/png", data: PNG } };
  const messages = user([picture, { type: "text", text: "What is it?" }]);
  assert.equal((await ask({ model: "lab/teller", messages })).content[0].text, "Green Tea");
  picture.source.data = "***";
  await refused(Anthropic.BadRequestError, "invalid_request_error", () => ask({ model: "lab/teller", messages }));
}

async function thoughts() {
  const messages = user("The weather in Köln?");
  const given = { model: "sage/claude-sonnet-4-5", max_tokens: 4000, messages, tools: [WEATHER], thinking: { type: "enabled", budget_tokens: 1024 } };
  const whole = await client.messages.create(given);
  assert.deepEqual(whole.content.map((block) => block.type), ["thinking", "redacted_thinking", "text", "tool_use"]);
  const streamed = await client.messages.stream(given).finalMessage();
  const same = (message) => [...message.content].sort((a, b) => a.type.localeCompare(b.type));
  assert.deepEqual(same(streamed), same(whole));
  for (const { content } of [whole, streamed]) {
    const { id } = content.find((block) => block.type === "tool_use");
    const result = { type: "tool_result", tool_use_id: id, content: "rain" };
    const loop = [...messages, { role: "assistant", content }, ...user([result])];
    const answered = await client.messages.create({ ...given, messages: loop });
    assert.equal(answered.content.at(-1).text, "Green Tea");
    // Another provider's model goes on from there too.
    assert.equal((await client.messages.create({ ...given, thinking: undefined, model: "lab/teller", messages: loop })).content[0].text, "Green Tea");
  }
}

async function counting() {
  const count = async (more) => (await client.messages.countTokens({ model: DEMO, messages: user("How many?"), ...more })).input_tokens;
  const few = await count();
  assert(few > 0 && (await count({ system: "Be brief.", tools: [WEATHER] })) > few);
}

async function errors() {
  const stranger = new Anthropic({ ...options, apiKey: "pat_nobody" });
  await refused(Anthropic.AuthenticationError, "authentication_error", () => ask({}, stranger));
  const missing = await refused(Anthropic.NotFoundError, "not_found_error", () => ask({ model: "nobody" }));
  assert.equal(missing.error.request_id, missing.requestID);
  await refused(Anthropic.BadRequestError, "invalid_request_error", () => ask({ max_tokens: 0 }));
  await refused(Anthropic.BadRequestError, "invalid_request_error", () => ask({ messages: [] }));
  await refused(Anthropic.BadRequestError, "invalid_request_error", () => ask({ temperature: 7 }));
  await refused(Anthropic.RateLimitError, "rate_limit_error", () => ask({ model: "lab/broke" }));
  await refused(Anthropic.APIError, "rate_limit_error", () => all(ask({ model: "lab/broke", stream: true })));
}

async function retries() {
  const asked = { model: "moody4/shy", max_tokens: 10, messages: user("Are you there, anthropic of Node?") };
  assert.equal((await client.messages.create(asked, { maxRetries: 4 })).content[0].text, "Green Tea");
  asked.messages[0].content = "And now, anthropic of Node?";
  assert.equal((await raises(Anthropic.InternalServerError, () => client.messages.create(asked))).status, 502);
}

async function aborts() {
  const headers = { "x-session-id": session };
  const stream = client.messages.stream({ model: "demo-n300-i10", max_tokens: 1000, messages: user("long") }, { headers });
  stream.on("text", () => stream.abort());
  await raises(Anthropic.APIUserAbortError, () => stream.done());
  const controller = new AbortController();
  const prompt = "long, anthropic of Node";
  const asked = client.messages.create(
    { model: "demo-n300-i10", max_tokens: 1000, messages: user(prompt) },
    { headers, signal: controller.signal },
  );
  const aborted = raises(Anthropic.APIUserAbortError, () => asked);
  await firstText(prompt);
  controller.abort();
  await aborted;
}

await run(models, wholeAndStreamed, bounds, json, tools, pictures, thoughts, counting, errors, retries, aborts);
