/** Requests as values. */
import { randomUUID } from "node:crypto";

/** A file's content. A Blob of `openAsBlob` from node:fs is read as it is sent. */
export type FileContent = Blob | Uint8Array;

/** How one call differs from the client's settings. */
export interface CallOptions {
  /** Ends the call. */
  signal?: AbortSignal;
  /** Milliseconds without an answer before the call fails. */
  timeoutMs?: number;
  /** How often the call is repeated after 429, 503 or a lost connection. */
  maxRetries?: number;
  /** The longest Retry-After that the call waits for, in milliseconds. */
  maxWaitMs?: number;
  /** Called with each successful answer, for its status and headers (ETag, RateLimit, Deprecation). */
  onResponse?: (response: Response) => void;
}

/** Options of a call that changes something. */
export interface WriteOptions extends CallOptions {
  /** Unique for each request; otherwise one is drawn. A repetition with the same key has no second effect. */
  idempotencyKey?: string;
}

/** One request. */
export interface Call {
  method: string;
  path: string;
  query?: Record<string, unknown>;
  headers?: Record<string, string | number | undefined>;
  body?: unknown;
  form?: { file: FileContent; filename: string; [field: string]: unknown };
  content?: Uint8Array;
  takesKey?: boolean;
  ownIds?: Array<string | undefined>;
}

/** A call as each of its attempts sends it. */
export interface Prepared {
  method: string;
  path: string;
  headers: Record<string, string>;
  body: string | FormData | Uint8Array<ArrayBuffer> | undefined;
  /** Whether a repetition has no second effect. */
  repeatable: boolean;
}

/** Prepares a call: all of its attempts have the same key. */
export function prepare(call: Call, options: WriteOptions): Prepared {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(call.headers ?? {})) {
    if (value !== undefined) headers[name] = String(value);
  }
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(call.query ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined) query.append(name, String(one));
    }
  }
  let body: Prepared["body"];
  if (call.form !== undefined) {
    body = new FormData();
    const { file, filename, ...fields } = call.form;
    for (const [name, value] of Object.entries(fields)) {
      for (const one of Array.isArray(value) ? value : [value]) {
        if (one !== undefined) body.append(name, typeof one === "object" ? JSON.stringify(one) : String(one));
      }
    }
    const blob = file instanceof Blob ? file : new Blob([new Uint8Array(file)]);
    body.append("file", blob, filename);
  } else if (call.content !== undefined) {
    body = new Uint8Array(call.content);
    headers["Content-Type"] = "application/octet-stream";
  } else if (call.body !== undefined) {
    body = JSON.stringify(call.body);
    headers["Content-Type"] = "application/json";
  }
  // An event has an id of the caller's, or one that the service derives from the key; never both.
  const ids = call.ownIds ?? [];
  const own = ids.filter((id) => id !== undefined && id !== null);
  let key = call.takesKey ? options.idempotencyKey : undefined;
  if (call.takesKey && key === undefined && own.length === 0) key = randomUUID();
  if (key !== undefined) headers["Idempotency-Key"] = key;
  const search = query.toString();
  return {
    method: call.method,
    path: call.path + (search && "?" + search),
    headers,
    body,
    // A file is known by its source, and a piece of an upload by its offset.
    repeatable:
      call.method === "GET" ||
      key !== undefined ||
      call.form !== undefined ||
      call.content !== undefined ||
      (own.length > 0 && own.length === ids.length),
  };
}

/** A value as one segment of a path. */
export function segment(value: string): string {
  if (value === "" || value === "." || value === "..") {
    throw new TypeError(`${JSON.stringify(value)} can't be part of a path: pass an id or a name`);
  }
  return encodeURIComponent(value);
}
