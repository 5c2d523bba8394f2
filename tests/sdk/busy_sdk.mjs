// What the official SDKs do where the account may only have one answer in the making: they wait as long as they are told.

import assert from "node:assert/strict";

import { all, Anthropic, base, DEMO, OpenAI, raises, run, token } from "./common.mjs";

const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey: token, timeout: 60_000 });
const anthropic = new Anthropic({ baseURL: base, apiKey: token, timeout: 60_000 });
const messages = [{ role: "user", content: "hi" }];

/** Asks while another answer is in the making: refused once, and answered to who is patient. */
async function busy(kind, ask) {
  const stream = await openai.chat.completions.create({ model: "demo-n300-i10", messages, stream: true });
  const error = await raises(kind, () => ask(0));
  assert.deepEqual([error.status, error.headers.get("retry-after")], [429, "5"]);
  assert(await ask(3));
  assert.equal((await all(stream)).at(-1).choices[0].finish_reason, "stop");
}

async function ofOpenai() {
  await busy(OpenAI.RateLimitError, (maxRetries) =>
    openai.chat.completions.create({ model: DEMO, messages }, { maxRetries }),
  );
}

async function ofAnthropic() {
  await busy(Anthropic.RateLimitError, (maxRetries) =>
    anthropic.messages.create({ model: DEMO, max_tokens: 1000, messages }, { maxRetries }),
  );
}

await run(ofOpenai, ofAnthropic);
