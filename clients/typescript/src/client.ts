/** The client, and pages as one list. */
import { Operations } from "./operations.ts";
import { Transport } from "./transport.ts";

/** Where the service is, and how a client treats it. */
export interface KonstructOptions {
  /** The service's address, otherwise KONSTRUCT_URL, otherwise http://127.0.0.1:7117. */
  url?: string;
  /** An API key, otherwise KONSTRUCT_KEY. */
  key?: string;
  /** Milliseconds without an answer before a call fails; 30,000 by default. */
  timeoutMs?: number;
  /** How often a call is repeated after 429, 503 or a lost connection, where it has no second effect; 4 by default. */
  maxRetries?: number;
  /** The longest Retry-After that a call waits for, in milliseconds; 60,000 by default. */
  maxWaitMs?: number;
  /** A fetch of yours, with its proxies and certificates. */
  fetch?: typeof fetch;
}

/** The service. */
export class Konstruct extends Operations {
  constructor(options: KonstructOptions = {}) {
    const key = options.key ?? process.env["KONSTRUCT_KEY"];
    if (!key) throw new TypeError("there is no key: pass key, or set KONSTRUCT_KEY");
    const url = options.url ?? process.env["KONSTRUCT_URL"] ?? "http://127.0.0.1:7117";
    super(
      new Transport({
        url: url.replace(/\/+$/, ""),
        key,
        timeoutMs: options.timeoutMs ?? 30_000,
        maxRetries: options.maxRetries ?? 4,
        maxWaitMs: options.maxWaitMs ?? 60_000,
        fetch: options.fetch ?? globalThis.fetch,
      }),
    );
  }
}

/** Every item of a list, page by page: `items((after) => client.listEvents({ action_type: "step", after }))`. */
export async function* items<T>(
  page: (after: string | undefined) => Promise<{ items: T[]; next?: string }>,
): AsyncGenerator<T, void> {
  for (let after: string | undefined; ; ) {
    const { items, next } = await page(after);
    yield* items;
    if (next === undefined) return;
    after = next;
  }
}
