/** A wrapper that records a function as a tool call. */
import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";

import type { CallOptions } from "./call.ts";
import type { Konstruct } from "./client.ts";
import { TrailNotWrittenError } from "./errors.ts";
import { asText, cut, plain } from "./plain.ts";
import type { CreateToolCallRequest } from "./types.ts";

/** For which conversation, agent and user tools run. */
export interface Conversation {
  conversationId?: string;
  agentId?: string;
  userId?: string;
}

/** How a tool's calls are recorded. */
export interface ToolOptions extends Conversation {
  /**
   * What happens when a call can't be recorded: "log" (the default) calls warn, "raise" throws a TrailNotWrittenError,
   * which has the function's result. An error of the function is thrown in both cases.
   */
  unwritten?: "log" | "raise";
  /** Gets what "log" says; console.warn by default. */
  warn?: (message: string, error: unknown) => void;
  /** How long it tries to record a call, which then waits: by default three times, 5 seconds each. */
  call?: CallOptions;
}

const conversations = new AsyncLocalStorage<Conversation>();

/** Runs a function for a conversation, agent and user: its tools say so. What is left out stays as it was. */
export function withConversation<R>(conversation: Conversation, run: () => R): R {
  const inner = { ...conversations.getStore() };
  for (const [name, value] of Object.entries(conversation)) {
    if (value !== undefined) inner[name as keyof Conversation] = value;
  }
  return conversations.run(inner, run);
}

/**
 * Returns a function that does what fn does, and records each of its calls as a tool call: name, arguments, result or
 * error, duration, and what withConversation says. The function's own result and error reach the caller unchanged,
 * whatever happens to the trail.
 */
export function recordTool<A extends unknown[], R>(
  client: Konstruct,
  name: string,
  fn: (...args: A) => R,
  options: ToolOptions = {},
): (...args: A) => Promise<Awaited<R>> {
  const recorded = async function (this: unknown, ...args: A): Promise<Awaited<R>> {
    const started = new Date();
    const clock = performance.now();
    const given: CreateToolCallRequest = {
      id: uuid7(started),
      name,
      type: "function",
      arguments: argumentsText(args), // before the function can change them
      created_at: started.toISOString(),
      ...described(options),
    };
    let result: Awaited<R>;
    try {
      result = await fn.apply(this, args);
    } catch (failure) {
      const [error, message] = failureText(failure);
      const call = { ...given, latency_ms: since(clock), error, metadata: { "exception.message": message } };
      await write(client, call, options.call).catch((e: unknown) => warn(name, options, e));
      throw failure;
    }
    const call = { ...given, latency_ms: since(clock) };
    if (result !== undefined && result !== null) call.result = asText(result);
    try {
      await write(client, call, options.call);
    } catch (error) {
      if (options.unwritten !== "raise") warn(name, options, error);
      else throw new TrailNotWrittenError(notOnTheTrail(name, error), result, { cause: error });
    }
    return result;
  };
  Object.defineProperty(recorded, "name", { value: fn.name, configurable: true });
  return recorded;
}

async function write(client: Konstruct, call: CreateToolCallRequest, options: CallOptions = {}): Promise<void> {
  const { gap } = await client.createToolCall(call, { timeoutMs: 5000, maxRetries: 2, maxWaitMs: 5000, ...options });
  if (gap) throw new Error("the service recorded a gap in its place");
}

function warn(name: string, options: ToolOptions, error: unknown): void {
  try {
    (options.warn ?? console.warn)(notOnTheTrail(name, error), error);
  } catch {
    // Whoever logs must not hide the tool's result either.
  }
}

function notOnTheTrail(name: string, error: unknown): string {
  return `the call of ${name} is not on the trail: ${error instanceof Error ? error.message : String(error)}`;
}

/** The conversation's fields of a call: what withConversation says, otherwise the tool's own. */
function described(own: Conversation): Partial<CreateToolCallRequest> {
  const now = conversations.getStore();
  const fields = {
    conversation_id: now?.conversationId ?? own.conversationId,
    agent_id: now?.agentId ?? own.agentId,
    user_id: now?.userId ?? own.userId,
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

/** The arguments as JSON: one object is itself, as tools are called with one; everything else is a list. */
function argumentsText(args: unknown[]): string {
  const [first] = args;
  const one = args.length === 1 && typeof first === "object" && first !== null && !Array.isArray(first);
  return asText(plain(one ? first : args));
}

/** An error's type and message; anything can be thrown. */
function failureText(failure: unknown): [string, string] {
  try {
    if (failure instanceof Error) {
      return [cut(failure.name || failure.constructor.name).slice(0, 1000), cut(failure.message).slice(0, 4000)];
    }
    return [typeof failure, asText(failure).slice(0, 4000)];
  } catch {
    return ["Error", "it could not be described"];
  }
}

/** Milliseconds since a clock's time. To the service 0 is unknown. */
function since(clock: number): number {
  return Math.min(Math.max(Math.floor(performance.now() - clock), 1), 2 ** 31 - 1);
}

/** An id by RFC 9562, version 7: the millisecond, then random bits. A retry has the same. */
function uuid7(at: Date): string {
  const raw = randomBytes(16);
  raw.writeUIntBE(Math.max(at.getTime(), 0), 0, 6);
  raw[6] = 0x70 | ((raw[6] ?? 0) & 0x0f);
  raw[8] = 0x80 | ((raw[8] ?? 0) & 0x3f);
  return raw.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
