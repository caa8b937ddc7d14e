/** The wrapper against a running service. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import { recordTool, TrailNotWrittenError, withConversation } from "../src/index.ts";
import { asText, plain } from "../src/plain.ts";
import { client, faulty, metadata, recorded } from "./service.ts";

test("a function is recorded", async () => {
  const agentId = randomUUID();
  const lookup = recordTool(client(), "lookup_order", function lookup({ order }: { order: number }) {
    return { order, state: "shipped" };
  });
  const conversation = { conversationId: "c-17", agentId, userId: "ada" };
  const result = await withConversation(conversation, () => lookup({ order: 17 }));
  assert.equal(result.state, "shipped");
  assert.equal(lookup.name, "lookup");
  const [event, ...more] = await recorded(agentId);
  assert.ok(event);
  assert.equal(more.length, 0);
  assert.equal(event.action_type, "tool_invocation");
  assert.equal(event.input_summary, '{"order":17}');
  assert.equal(event.output_summary, '{"order":17,"state":"shipped"}');
  assert.equal(event.user_id, "ada");
  assert.equal(metadata(event)["gen_ai.tool.name"], "lookup_order");
  assert.equal(metadata(event)["gen_ai.conversation.id"], "c-17");
  assert.ok((event.latency_ms ?? 0) >= 1);
});

test("an error is recorded and thrown, from plain and asynchronous functions", async () => {
  const agentId = randomUUID();
  const failure = new RangeError("no such order");
  for (const fn of [
    () => {
      throw failure;
    },
    async () => {
      throw failure;
    },
  ]) {
    const tool = recordTool(client(), "lookup", fn, { agentId, unwritten: "raise" });
    await assert.rejects(tool(), (error: unknown) => error === failure);
  }
  await assert.rejects(
    recordTool(client(), "lookup", () => Promise.reject("plain text"), { agentId })(),
    (error: unknown) => error === "plain text",
  );
  const events = await recorded(agentId);
  assert.deepEqual(
    events.map((e) => [metadata(e)["error.type"], metadata(e)["exception.message"], e.output_summary]).sort(),
    [
      ["RangeError", "no such order", undefined],
      ["RangeError", "no such order", undefined],
      ["string", "plain text", undefined],
    ],
  );
});

test("arguments are those of the call, and this is the caller's", async () => {
  const agentId = randomUUID();
  const shop = {
    stock: 2,
    drain: recordTool(
      client(),
      "drain",
      function (this: { stock: number }, queue: number[], by: number) {
        const taken = queue.splice(0).length * by;
        return (this.stock -= taken);
      } as (queue: number[], by: number) => number,
      { agentId },
    ),
  };
  assert.equal(await shop.drain([1, 2], 1), 0);
  const [event] = await recorded(agentId);
  assert.equal(event?.input_summary, "[[1,2],1]");
  assert.equal(event?.output_summary, "0");
});

test("values that are no JSON are recorded", async () => {
  const agentId = randomUUID();
  const cycle: unknown[] = [1];
  cycle.push(cycle);
  let deep: unknown[] = [];
  for (let i = 0; i < 10_000; i++) deep = [deep];
  const value = {
    cycle,
    deep,
    big: 10n ** 30n,
    huge: 2n ** 100_000n,
    nan: NaN,
    date: new Date("2026-01-02T00:00:00Z"),
    map: new Map<unknown, unknown>([["a", 1], [{ b: 2 }, 3]]),
    set: new Set([1]),
    bytes: new TextEncoder().encode("ab"),
    error: new TypeError("no"),
    symbol: Symbol("s"),
    half: "\ud800",
    nul: "a\0b",
    missing: undefined,
    get broken(): never {
      throw new Error("no");
    },
  };
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  const same = recordTool(client(), "same", (v: unknown) => v, { agentId });
  const result = await same([value, proxy]);
  assert.equal((result as unknown[])[0], value);
  const text = (await recorded(agentId))[0]?.output_summary ?? "";
  const [got, gone] = JSON.parse(text) as [Record<string, unknown>, string];
  assert.match(String(gone), /TypeError while it was recorded/);
  assert.match(String(got), /Error while it was recorded/);
  const { broken: _, ...rest } = Object.getOwnPropertyDescriptors(value);
  const safe = plain(Object.defineProperties({}, rest)) as Record<string, unknown>;
  assert.deepEqual(safe["cycle"], [1, "… [cycle]"]);
  assert.equal(safe["big"], "1000000000000000000000000000000");
  assert.match(String(safe["huge"]), /bits/);
  assert.equal(safe["nan"], "NaN");
  assert.equal(safe["date"], "2026-01-02T00:00:00.000Z");
  assert.deepEqual({ ...(safe["map"] as object) }, { a: 1, '{"b":2}': 3 });
  assert.deepEqual(safe["set"], [1]);
  assert.match(String(safe["bytes"]), /^2 bytes, sha256 fb8e20fc/);
  assert.equal(safe["error"], "TypeError: no");
  assert.equal("missing" in safe, false);
});

test("values of any size are recorded", async () => {
  const agentId = randomUUID();
  const grow = recordTool(client(), "grow", (text: string) => text.repeat(3), { agentId });
  assert.equal((await grow("\0ä".repeat(500_000))).length, 3_000_000);
  const [event] = await recorded(agentId);
  assert.match(event?.output_summary ?? "", /… \[cut: \d+ bytes, sha256 [0-9a-f]{64}\]$/);
  assert.ok(Buffer.byteLength(asText(Array.from({ length: 1_000_000 }, (_, i) => i))) <= 1 << 16);
  assert.ok(Buffer.byteLength(asText("a" + "ä".repeat(100_000))) <= 1 << 16);
  assert.doesNotMatch(asText("a" + "ä".repeat(100_000)), /\ufffd/);
});

test("a trail that can't be written hides nothing", async () => {
  const closed = client("KONSTRUCT_KEY", "KONSTRUCT_CLOSED_URL");
  for (const broken of [closed, client("KONSTRUCT_READER_KEY"), faulty("gap"), faulty("late")]) {
    const said: string[] = [];
    const warn = (message: string): void => {
      said.push(message);
      throw new Error("a logger that fails");
    };
    const divide = (a: bigint, b: bigint): bigint => a / b;
    assert.equal(await recordTool(broken, "divide", divide, { warn })(4n, 2n), 2n);
    assert.match(said[0] ?? "", /the call of divide is not on the trail: /);
    const raising = recordTool(broken, "divide", divide, { warn, unwritten: "raise" });
    await assert.rejects(raising(4n, 2n), (error: unknown) => {
      assert.ok(error instanceof TrailNotWrittenError);
      assert.equal(error.result, 2n);
      return true;
    });
    await assert.rejects(raising(4n, 0n), RangeError);
    assert.equal(said.length, 2);
  }
});

test("conversations nest, and do not mix", async () => {
  const agentId = randomUUID();
  const step = recordTool(
    client(),
    "step",
    async (n: number) => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      return n;
    },
    { agentId, conversationId: "own" },
  );
  await Promise.all([1, 2, 3].map((n) => withConversation({ conversationId: `c${n}` }, () => step(n))));
  await withConversation({ conversationId: "outer", userId: "ada" }, () =>
    withConversation({ conversationId: "inner" }, () => step(4)),
  );
  await step(5);
  const got = (await recorded(agentId)).map((e) => [e.output_summary, metadata(e)["gen_ai.conversation.id"], e.user_id]);
  assert.deepEqual(got.sort(), [
    ["1", "c1", undefined],
    ["2", "c2", undefined],
    ["3", "c3", undefined],
    ["4", "inner", "ada"],
    ["5", "own", undefined],
  ]);
});
