/** The running service that the tests ask: its address and keys are in the environment. */
import { randomUUID } from "node:crypto";

import { items, Konstruct } from "../src/index.ts";
import type { Event } from "../src/index.ts";

/** A setting of the tests. */
export function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: go test ./server -run TestTheTypeScriptClient sets it`);
  return value;
}

/** A client of the service. */
export function client(key = "KONSTRUCT_KEY", url = "KONSTRUCT_URL", path = ""): Konstruct {
  return new Konstruct({ url: setting(url) + path, key: setting(key) });
}

/** A client of an address that fails in a way of its own. */
export function faulty(fault: string): Konstruct {
  return client("KONSTRUCT_KEY", "KONSTRUCT_FAULTY_URL", `/${fault}.${randomUUID()}`);
}

/** An agent's events, in no order that matters: several may be of one millisecond. */
export async function recorded(agent: string): Promise<Event[]> {
  const c = client();
  const events: Event[] = [];
  for await (const e of items((after) => c.listEvents({ agent_id: agent, after }))) events.push(e);
  return events;
}

/** An event's metadata. */
export function metadata(e: Event): Record<string, unknown> {
  return e.metadata as Record<string, unknown>;
}

/** Waits until a job is done, and returns its document. */
export async function finished(c: Konstruct, jobId: string): Promise<string> {
  for (const until = Date.now() + 30_000; Date.now() < until; ) {
    const job = await c.getJob(jobId);
    if (job.state === "done" && job.document_id !== null) return job.document_id;
    if (job.state === "failed") throw new Error(`the job failed: ${job.reason}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("the job takes too long");
}
