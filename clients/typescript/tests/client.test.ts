/** The client against a running service. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import * as konstruct from "../src/index.ts";
import { items, Konstruct } from "../src/index.ts";
import { client, faulty, finished, recorded, setting } from "./service.ts";

const handbook = new TextEncoder().encode("# Returns\n\nA pump is sent back within thirty days. Pack it dry.\n");

test("an event is created, listed and got", async () => {
  const c = client();
  const agent = randomUUID();
  const metadata = { none: null, text: "Grüße \u{1f600}", list: [1, 2.5] };
  const created = await c.createEvent({
    action_type: "tool_invocation",
    agent_id: agent,
    input_summary: '{"order":17}',
    created_at: "2026-11-29T12:00:00.123456Z",
    latency_ms: 12,
    metadata,
  });
  assert.ok(created.id);
  let etag = "";
  const event = await c.getEvent(created.id, {}, { onResponse: (r) => (etag = r.headers.get("ETag") ?? "") });
  assert.equal(event.created_at, "2026-11-29T12:00:00.123456Z");
  assert.equal(event.input_summary, '{"order":17}');
  assert.deepEqual(event.metadata, metadata);
  const page = await c.listEvents({ agent_id: agent, action_type: "tool_invocation" });
  assert.deepEqual(page.items.map((e) => e.id), [created.id]);
  assert.equal(page.next, undefined);
  await assert.rejects(c.getEvent(created.id, { ifNoneMatch: etag }), konstruct.NotModified);
});

test("pages follow each other", async () => {
  const c = client();
  const agent = randomUUID();
  const events = Array.from({ length: 5 }, (_, n) => ({ action_type: "step", agent_id: agent, metadata: { n } }));
  const { ids } = await c.createEvents({ events });
  const got: string[] = [];
  for await (const e of items((after) => c.listEvents({ agent_id: agent, limit: 2, after }))) got.push(e.id);
  assert.deepEqual(got.sort(), [...(ids as string[])].sort());
});

test("statistics take a list of groups", async () => {
  const { items } = await client().getStats({ by: ["agent", "action"] });
  assert.ok(items.every((s) => s.events > 0));
});

test("the stream has new events, and ends with its reader", async () => {
  const c = client();
  const agent = randomUUID();
  const writer = setInterval(() => void c.createEvent({ action_type: "step", agent_id: agent }), 100);
  const seen = new Set<string>();
  try {
    for await (const e of c.streamEvents({ agent_id: agent })) {
      assert.equal(e.agent_id, agent);
      seen.add(e.id);
      if (seen.size === 3) break;
    }
  } finally {
    clearInterval(writer);
  }
  assert.equal(seen.size, 3);
  const ended = new AbortController();
  setTimeout(() => ended.abort(new Error("enough")), 200);
  await assert.rejects(async () => {
    for await (const _ of c.streamEvents({ agent_id: randomUUID() }, { signal: ended.signal }));
  }, /enough/);
});

test("a document is uploaded, found and deleted", async () => {
  const c = client();
  const filename = `returns-${randomUUID()}.md`;
  const queued = await c.createDocument({ filename, file: handbook, metadata: { team: "ts" }, labels: ["legal"] });
  const document = await finished(c, queued.job_id);
  const got = await c.getDocument(document);
  assert.deepEqual([got.filename, got.metadata, got.labels, got.bytes], [
    filename,
    { team: "ts" },
    ["legal"],
    handbook.byteLength,
  ]);
  const { hits } = await c.search({ text: "When is a pump sent back?", top_k: 3, where: ["metadata.team=ts"] });
  assert.match(hits[0]?.content ?? "", /thirty days/);
  await c.deleteDocument(document);
  await assert.rejects(c.getDocument(document), konstruct.NotFoundError);
});

test("a file is sent again after a retry", async () => {
  const filename = `returns-${randomUUID()}.md`;
  const queued = await faulty("busy").createDocument({ filename, file: new Blob([handbook]) });
  const c = client();
  assert.equal((await c.getDocument(await finished(c, queued.job_id))).bytes, handbook.byteLength);
});

test("a large file comes in pieces", async () => {
  const c = client();
  const filename = `returns-${randomUUID()}.md`;
  const upload = await c.createUpload({ filename, size: handbook.byteLength });
  const offset = await c.appendUpload(upload.id, handbook.subarray(0, 20), { uploadOffset: 0 });
  assert.equal(offset, 20);
  await c.appendUpload(upload.id, handbook.subarray(20), { uploadOffset: offset });
  const queued = await c.completeUpload(upload.id);
  assert.equal((await c.getDocument(await finished(c, queued.job_id))).filename, filename);
});

test("an export is downloaded", async () => {
  const c = client();
  const agent = randomUUID();
  const made = await c.createEvent({ action_type: "step", agent_id: agent });
  let task = await c.createExport({ format: "jsonl", agent_id: agent });
  for (const until = Date.now() + 30_000; task.state === "open" && Date.now() < until; ) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    task = await c.getTask(task.id);
  }
  assert.equal(task.state, "done", task.reason ?? "it takes too long");
  let text = "";
  for await (const chunk of c.getTaskContent(task.id)) text += Buffer.from(chunk).toString();
  assert.ok(text.includes(String(made.id)));
});

test("a wrong field is named with its fix", async () => {
  await assert.rejects(client().createEvent({ action_type: "step", latency_ms: -1 }), (error: unknown) => {
    assert.ok(error instanceof konstruct.InvalidRequestError);
    assert.equal(error.status, 422);
    assert.deepEqual(error.errors.map((e) => e.location), ["body.latency_ms"]);
    assert.match(error.message, /body.latency_ms/);
    assert.ok(error.message.includes(error.problem.instance ?? "no instance"));
    return true;
  });
});

test("errors have types", async () => {
  const reader = client("KONSTRUCT_READER_KEY");
  await assert.rejects(reader.createEvent({ action_type: "step" }), (error: unknown) => {
    assert.ok(error instanceof konstruct.PermissionDeniedError);
    assert.match(error.detail, /events:write/);
    return true;
  });
  await assert.rejects(reader.getEvent(randomUUID()), konstruct.NotFoundError);
  const stranger = new Konstruct({ url: setting("KONSTRUCT_URL"), key: "kst_wrong" });
  await assert.rejects(stranger.getMe(), konstruct.AuthenticationError);
  const closed = client("KONSTRUCT_KEY", "KONSTRUCT_CLOSED_URL");
  await assert.rejects(closed.getMe({ maxRetries: 0 }), (error: unknown) => {
    assert.ok(error instanceof konstruct.UnreachableError);
    assert.match(error.message, /ECONNREFUSED.*Check the address/);
    return true;
  });
});

test("what is not the service is said", async () => {
  await assert.rejects(faulty("html").getMe(), /502 Bad Gateway: <h1>No backend<\/h1>/);
  await assert.rejects(faulty("other").getMe(), konstruct.UnexpectedAnswerError);
  assert.throws(() => client().getRun(".."), /path/);
});

test("two tenants do not see each other", async () => {
  const [one, other, agent] = [client(), client("KONSTRUCT_OTHER_KEY"), randomUUID()];
  const { id } = await one.createEvent({ action_type: "step", agent_id: agent });
  assert.notEqual((await one.getMe()).tenant_id, (await other.getMe()).tenant_id);
  await assert.rejects(other.getEvent(String(id)), konstruct.NotFoundError);
  assert.deepEqual((await other.listEvents({ agent_id: agent })).items, []);
});

test("busy answers are repeated", async () => {
  const agent = randomUUID();
  await faulty("busy").createEvent({ action_type: "step", agent_id: agent });
  assert.equal((await recorded(agent)).length, 1);
  const c = faulty("busy");
  await assert.rejects(c.getMe({ maxRetries: 0 }), konstruct.RateLimitedError);
  await assert.rejects(c.getMe({ maxRetries: 0 }), konstruct.UnavailableError);
  await c.getMe({ maxRetries: 0 });
});

test("an event whose answer was lost is logged once", async () => {
  const agent = randomUUID();
  await faulty("lost").createEvent({ action_type: "step", agent_id: agent });
  await faulty("lost").createEvent({ action_type: "step", agent_id: agent, id: "01a21c98-3e96-7514-a13c-9aa196ceea0b" });
  assert.equal((await recorded(agent)).length, 2);
});

test("a key that may exist is not created again", async () => {
  const name = `lost ${randomUUID()}`;
  const key = { name, permissions: ["events:read" as const] };
  await assert.rejects(faulty("lost").createKey(key), konstruct.UnreachableError);
  const c = client();
  let found = 0;
  for await (const k of items((after) => c.listKeys({ after }))) if (k.name === name) found++;
  assert.equal(found, 1);
});

test("a long wait is an error at once", async () => {
  const began = Date.now();
  await assert.rejects(faulty("late").getMe({ maxWaitMs: 29_000 }), konstruct.RateLimitedError);
  assert.ok(Date.now() - began < 5000);
});

test("a call ends with its signal and its deadline", async () => {
  const c = client();
  await assert.rejects(c.getMe({ signal: AbortSignal.abort(new Error("stopped")) }), /stopped/);
  const slow = new Konstruct({
    url: setting("KONSTRUCT_URL"),
    key: setting("KONSTRUCT_KEY"),
    maxRetries: 1,
    fetch: (_, init) =>
      new Promise((_resolve, reject) => init?.signal?.addEventListener("abort", () => reject(init.signal?.reason))),
  });
  await assert.rejects(slow.getMe({ timeoutMs: 50 }), /50 ms passed/);
});
