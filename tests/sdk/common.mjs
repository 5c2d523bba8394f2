// What the scripts for Node share: the SDKs, the running product, and how errors are expected. Address, token and a
// session come as arguments.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

// Modules that are imported by name are only looked for beside a script; the SDKs are elsewhere.
const require = createRequire(`${process.env.SDKS}/`);

export const OpenAI = require("openai");
export const Anthropic = require("@anthropic-ai/sdk");
export const [base, token, session] = process.argv.slice(2);
export const DEMO = "demo/demo";
export const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
export const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

/** Expects an error of this class of the SDK's own. */
export async function raises(kind, call) {
  try {
    await call();
  } catch (error) {
    assert(error instanceof kind, `${error.constructor.name}: ${error.message}`);
    return error;
  }
  return assert.fail(`${kind.name} was not raised`);
}

/** Calls the product's own interface. */
async function own(path) {
  const response = await fetch(`${base}/api/v1${path}`, { headers: { authorization: `Bearer ${token}` } });
  assert.equal(response.status, 200, path);
  return response;
}

/** The answer to a prompt of the session, as soon as there is one. */
async function answerTo(prompt) {
  for (;;) {
    const { data } = await (await own(`/messages/session/${session}?limit=100&tree=true`)).json();
    const asked = data.find((message) => message.content === prompt);
    const answer = data.find((message) => asked && message.parent_id === asked.id);
    if (answer) return answer.id;
  }
}

/** Resolves when the first text of the answer to this prompt of the session has come, whoever waits for the whole. */
export async function firstText(prompt) {
  const { body } = await own(`/chat/streams/${await answerTo(prompt)}`);
  let seen = "";
  for await (const bytes of body.pipeThrough(new TextDecoderStream())) {
    seen += bytes;
    if (seen.includes("event: stream\n")) return;
  }
  assert.fail("the stream ended without text");
}

/** Everything that comes through a stream. */
export async function all(stream) {
  const items = [];
  for await (const item of await stream) items.push(item);
  return items;
}

/** Runs functions one after the other, and names each one that succeeded. */
export async function run(...tests) {
  for (const test of tests) {
    await test();
    console.log(test.name);
  }
}
