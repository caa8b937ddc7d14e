/** HTTP: credentials, retries, and answers as values or errors. */
import type { Call, CallOptions, Prepared } from "./call.ts";
import { prepare } from "./call.ts";
import { NotModified, problemError, UnexpectedAnswerError, UnreachableError } from "./errors.ts";
import { Messages } from "./sse.ts";
import type { Problem } from "./types.ts";

/** Where the service is, and how a client treats it. */
export interface Settings {
  url: string;
  key: string;
  timeoutMs: number;
  maxRetries: number;
  maxWaitMs: number;
  fetch: typeof fetch;
}

const userAgent = "konstruct-typescript/0.1.0";

/** Without a byte for this long a stream is connected anew: the service sends one every 15 seconds. */
const streamSilenceMs = 45_000;

/** What fetch says when there was no connection, so that nothing was sent. */
const neverSent = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "UND_ERR_CONNECT_TIMEOUT"]);

/** One attempt's deadline, which the caller's signal ends too. */
class Deadline {
  private readonly controller = new AbortController();
  private readonly outer: AbortSignal | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(outer: AbortSignal | undefined) {
    this.outer = outer;
    if (outer?.aborted) this.forward();
    outer?.addEventListener("abort", this.forward);
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  private readonly forward = (): void => this.controller.abort(this.outer?.reason);

  /** Starts it again. */
  start(ms: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.controller.abort(new Error(`${ms} ms passed without a byte`)), ms);
  }

  /** Stops it while the caller takes its time. */
  stop(): void {
    clearTimeout(this.timer);
  }

  /** Ends it for good. */
  end(): void {
    this.stop();
    this.outer?.removeEventListener("abort", this.forward);
  }
}

/** An answer whose body is read under a deadline, which the reader ends. */
interface Answer {
  response: Response;
  deadline: Deadline;
}

/** Sends calls. */
export class Transport {
  readonly settings: Settings;

  constructor(settings: Settings) {
    this.settings = settings;
  }

  async json<T>(call: Call, options: CallOptions): Promise<T> {
    const { response, text } = await this.whole(call, options);
    try {
      const value: unknown = JSON.parse(text);
      if (typeof value === "object" && value !== null) return value as T;
    } catch {
      // said below
    }
    throw new UnexpectedAnswerError(
      `${call.method} ${response.url} was answered with something else than the API has: ${text.slice(0, 200)}`,
    );
  }

  async text(call: Call, options: CallOptions): Promise<string> {
    return (await this.whole(call, options)).text;
  }

  async bytes(call: Call, options: CallOptions): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.file(call, options)) chunks.push(chunk);
    return new Uint8Array(Buffer.concat(chunks));
  }

  async number(call: Call, options: CallOptions, header: string): Promise<number> {
    const { response } = await this.whole(call, options);
    const value = response.headers.get(header);
    if (value === null || !/^\d+$/.test(value)) throw new UnexpectedAnswerError(`the answer's ${header} is no number`);
    return Number(value);
  }

  async nothing(call: Call, options: CallOptions): Promise<void> {
    await this.whole(call, options);
  }

  async *file(call: Call, options: CallOptions): AsyncGenerator<Uint8Array, void> {
    const { response, deadline } = await this.send(prepare(call, options), options);
    const silence = options.timeoutMs ?? this.settings.timeoutMs;
    try {
      for await (const chunk of chunksOf(response)) {
        deadline.stop();
        yield chunk;
        deadline.start(silence);
      }
    } catch (error) {
      throw this.unreachable(error, options);
    } finally {
      deadline.end();
    }
  }

  async *stream<T>(call: Call, options: CallOptions): AsyncGenerator<T, void> {
    const prepared = prepare(call, options);
    const messages = new Messages(prepared.headers);
    for (;;) {
      const { response, deadline } = await this.send(prepared, options);
      messages.connected();
      deadline.start(streamSilenceMs);
      const decoder = new TextDecoder();
      try {
        for await (const chunk of chunksOf(response)) {
          deadline.stop();
          for (const data of messages.feed(decoder.decode(chunk, { stream: true }))) yield message<T>(data);
          deadline.start(streamSilenceMs);
        }
      } catch (error) {
        if (error instanceof UnexpectedAnswerError || options.signal?.aborted) throw error;
        // the next connection resumes
      } finally {
        deadline.end();
      }
      await pause(messages.retryMs, options.signal);
    }
  }

  /** Sends a call, and reads the answer's whole text. */
  private async whole(call: Call, options: CallOptions): Promise<{ response: Response; text: string }> {
    const prepared = prepare(call, options);
    for (let n = 0; ; n++) {
      const { response, deadline } = await this.send(prepared, options);
      try {
        return { response, text: await response.text() };
      } catch (error) {
        if (!prepared.repeatable || options.signal?.aborted || n >= this.retries(options)) {
          throw this.unreachable(error, options);
        }
        await pause(backoff(n), options.signal);
      } finally {
        deadline.end();
      }
    }
  }

  /** Sends a call until it succeeds, or may not be repeated. */
  private async send(prepared: Prepared, options: CallOptions): Promise<Answer> {
    for (let n = 0; ; n++) {
      const deadline = new Deadline(options.signal);
      deadline.start(options.timeoutMs ?? this.settings.timeoutMs);
      let wait: number | undefined;
      let answered = false;
      try {
        const response = await this.settings.fetch(this.settings.url + prepared.path, {
          method: prepared.method,
          headers: { Authorization: `Bearer ${this.settings.key}`, "User-Agent": userAgent, ...prepared.headers },
          body: prepared.body,
          redirect: "manual",
          signal: deadline.signal,
        });
        if (response.ok) {
          options.onResponse?.(response);
          answered = true;
          return { response, deadline };
        }
        wait = this.waitAfter(prepared, options, response, n);
        if (wait === undefined) throw await refusal(response);
        await response.body?.cancel();
      } catch (error) {
        if (!isTransport(error, deadline.signal)) throw error;
        const repeatable = prepared.repeatable || neverSent.has(codeOf(error));
        if (!repeatable || n >= this.retries(options) || options.signal?.aborted) {
          throw this.unreachable(error, options);
        }
        wait = backoff(n);
      } finally {
        if (!answered) deadline.end(); // otherwise whoever reads the body ends it
      }
      await pause(wait, options.signal);
    }
  }

  private retries(options: CallOptions): number {
    return options.maxRetries ?? this.settings.maxRetries;
  }

  /** Milliseconds to wait before the next attempt, or undefined when there is none. */
  private waitAfter(prepared: Prepared, options: CallOptions, response: Response, n: number): number | undefined {
    const again = response.status === 429 || (response.status === 503 && prepared.repeatable);
    if (!again || n >= this.retries(options)) return undefined;
    const after = response.headers.get("Retry-After") ?? "";
    const wait = /^\d+$/.test(after) ? Number(after) * 1000 : backoff(n); // the service sends seconds
    return wait <= (options.maxWaitMs ?? this.settings.maxWaitMs) ? wait : undefined;
  }

  /** The error of a request without an answer; the caller's own reason where the caller ended it. */
  private unreachable(error: unknown, options: CallOptions): unknown {
    if (options.signal?.aborted) return options.signal.reason;
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const reason = cause instanceof Error ? cause.message || codeOf(error) || cause.name : String(cause);
    return new UnreachableError(
      `${this.settings.url} can't be reached: ${reason}. Check the address, and that the service runs.`,
      { cause: error },
    );
  }
}

function backoff(n: number): number {
  return Math.min(200 * 2 ** n, 10_000) * (0.5 + Math.random() / 2);
}

/** Whether fetch failed: other errors are the caller's, or the service's. */
function isTransport(error: unknown, signal: AbortSignal): boolean {
  return signal.aborted || (error instanceof TypeError && error.cause !== undefined);
}

function codeOf(error: unknown): string {
  const cause = error instanceof Error ? (error.cause as { code?: unknown } | undefined) : undefined;
  return typeof cause?.code === "string" ? cause.code : "";
}

async function* chunksOf(response: Response): AsyncGenerator<Uint8Array, void> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined); // whoever stops reading closes the connection
  }
}

/** The error of an answer other than success. */
async function refusal(response: Response): Promise<Error> {
  if (response.status === 304) return new NotModified("what ifNoneMatch named is current");
  const text = await response.text();
  try {
    const problem = JSON.parse(text) as Partial<Problem> | null;
    if (typeof problem?.title === "string" && typeof problem.detail === "string") {
      return problemError({ ...problem, status: response.status } as Problem);
    }
  } catch {
    // A proxy's answer, or one from before the service reads HTTP.
  }
  const title = response.statusText || "Refused";
  return problemError({
    status: response.status,
    title,
    detail: text.split(/\s+/).join(" ").trim().slice(0, 300) || title,
  });
}

function message<T>(data: string): T {
  try {
    return JSON.parse(data) as T;
  } catch {
    throw new UnexpectedAnswerError(`a message of the stream is not what the API has: ${data.slice(0, 200)}`);
  }
}

/** Waits, unless the signal ends it. */
function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", end);
      resolve();
    }, ms);
    if (signal?.aborted) end();
    else signal?.addEventListener("abort", end, { once: true });
  });
}
