// The official `openai` package for Node, unmodified, against a running `bud serve`.
// BUD_URL, BUD_KEY and BUD_MODEL say where and what. test_openai_node.py runs this file once and
// reads its TAP.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const model = process.env.BUD_MODEL;
const make = (more = {}) =>
  new OpenAI({ baseURL: process.env.BUD_URL, apiKey: process.env.BUD_KEY, maxRetries: 0, timeout: 60_000, ...more });
const client = make();
const ask = { model, messages: [{ role: "user", content: "Write a story about a cat who finds a key." }],
              temperature: 0, max_completion_tokens: 24 };
const hello = { ...ask, messages: [{ role: "user", content: "Hello" }], max_completion_tokens: undefined };

const refused = async (call, kind) => {
  const error = await call().then(() => assert.fail("it was answered"), (e) => e);
  assert.equal(error.constructor, kind, String(error));
  return error;
};

test("models", async () => {
  const ids = [];
  for await (const m of client.models.list()) ids.push(m.id);
  assert.deepEqual(ids, [model]);
  assert.equal((await client.models.retrieve(model)).object, "model");
});

test("completion", async () => {
  const reply = await client.completions.create({ model, prompt: "Once upon a time", temperature: 0, max_tokens: 8 });
  assert.equal(reply.object, "text_completion");
  assert.equal(reply.choices[0].finish_reason, "length");
  assert.equal(reply.usage.completion_tokens, 8);
  assert.ok(reply.choices[0].text.trim());
});

test("completion stream", async () => {
  const body = { model, prompt: "Once upon a time", temperature: 0, max_tokens: 8 };
  let text = "";
  for await (const c of await client.completions.create({ ...body, stream: true })) text += c.choices[0].text;
  assert.equal(text, (await client.completions.create(body)).choices[0].text);
});

test("chat", async () => {
  const reply = await client.chat.completions.create(ask);
  assert.equal(reply.object, "chat.completion");
  assert.equal(reply.choices[0].message.role, "assistant");
  assert.equal(reply.choices[0].message.refusal, null);
  assert.ok(reply.choices[0].message.content.trim());
  assert.equal(reply.usage.completion_tokens, 24);
  assert.match(reply._request_id, /^req_/);
});

test("chat stream with usage", async () => {
  const stream = await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } });
  const chunks = [];
  for await (const c of stream) chunks.push(c);
  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  const whole = await client.chat.completions.create(ask);
  assert.deepEqual(last.usage, whole.usage);
  assert.ok(chunks.every((c) => c.usage === null && c.id === last.id && c.object === "chat.completion.chunk"));
  assert.equal(chunks[0].choices[0].delta.role, "assistant");
  assert.equal(chunks.at(-1).choices[0].finish_reason, "length");
  assert.equal(chunks.map((c) => c.choices[0].delta.content ?? "").join(""), whole.choices[0].message.content);
});

test("stream helper", async () => {
  const runner = client.chat.completions.stream(hello);
  let text = "";
  runner.on("content", (piece) => (text += piece));
  const final = await runner.finalChatCompletion();
  assert.equal(final.choices[0].finish_reason, "stop");
  assert.equal(final.choices[0].message.content, text);
});

test("log-probabilities", async () => {
  const { choices } = await client.chat.completions.create({ ...ask, logprobs: true, top_logprobs: 2 });
  const content = choices[0].logprobs.content;
  assert.equal(content.length, 24);
  assert.ok(content.every((t) => t.logprob <= 0 && t.top_logprobs.length === 2));
});

test("several at once", async () => {
  const body = { ...ask, max_completion_tokens: 4 };
  const replies = await Promise.all(Array.from({ length: 20 }, () => client.chat.completions.create(body)));
  assert.equal(new Set(replies.map((r) => r.choices[0].message.content)).size, 1);
});

test("wrong key", async () => {
  const e = await refused(() => make({ apiKey: "sk-bud-" + "A".repeat(43) }).models.list(), OpenAI.AuthenticationError);
  assert.deepEqual([e.status, e.code, e.type], [401, "invalid_api_key", "authentication_error"]);
  assert.ok(e.requestID);
});

test("unknown model", async () => {
  for (const stream of [false, true]) {
    const e = await refused(() => client.chat.completions.create({ ...ask, model: "nope", stream }), OpenAI.NotFoundError);
    assert.deepEqual([e.status, e.code, e.param], [404, "model_not_found", "model"]);
  }
});

test("wrong and unknown values", async () => {
  for (const [change, code, param] of [
    [{ temperature: 9 }, undefined, "temperature"],
    [{ temprature: 1 }, "unknown_parameter", "temprature"],
    [{ messages: [{ role: "wizard", content: "x" }] }, undefined, "messages[0].role"],
    [{ response_format: { type: "json_object" } }, "unsupported_parameter", "response_format"],
    [{ max_completion_tokens: 100_000 }, "context_length_exceeded", "messages"],
  ]) {
    const e = await refused(() => client.chat.completions.create({ ...ask, ...change }), OpenAI.BadRequestError);
    assert.equal(e.param, param);
    if (code) assert.equal(e.code, code);
  }
});

test("abort of a stream", async () => {
  const stream = await client.chat.completions.create(
    { ...ask, max_completion_tokens: 900, ignore_eos: true, stream: true },
    { headers: { "X-Client-Request-Id": "node-abort" } });
  let n = 0;
  for await (const c of stream) {
    assert.equal(c.model, model);
    if (++n === 3) stream.controller.abort();
  }
  assert.ok(n >= 3 && n < 900, `${n} chunks`);
});

test("abort before the answer", async () => {
  const controller = new AbortController();
  const call = client.chat.completions.create(
    { ...ask, max_completion_tokens: 900, ignore_eos: true },
    { signal: controller.signal, headers: { "X-Client-Request-Id": "node-abort-early" } });
  setTimeout(() => controller.abort(), 50);
  await refused(() => call, OpenAI.APIUserAbortError);
  assert.ok((await client.chat.completions.create({ ...ask, max_completion_tokens: 1 })).id);
});
