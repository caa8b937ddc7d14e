/** Values of a program as text for the trail: JSON where they have it, and a description where they have not. */
import { createHash } from "node:crypto";

/** Limits of what is recorded of one value: levels of nesting, items in all, and bytes of text. */
const maxDepth = 32;
const maxItems = 10_000;
const maxText = 64 << 10;

/** A value that JSON.stringify takes. It never throws, and it stops at cycles and at the limits. */
export function plain(value: unknown): unknown {
  let left = maxItems;
  const convert = (v: unknown, depth: number, above: readonly unknown[]): unknown => {
    if (--left < 0) return "… [cut]";
    switch (typeof v) {
      case "string":
      case "boolean":
        return v;
      case "number":
        return Number.isFinite(v) ? v : String(v);
      case "bigint":
        return bigText(v);
      case "undefined":
        return null;
      case "symbol":
        return String(v);
      case "function":
        return `<function ${v.name || "without a name"}>`;
    }
    if (v === null) return null;
    if (above.includes(v)) return "… [cycle]";
    if (depth >= maxDepth) return "… [too deep]";
    try {
      return parts(v as object, depth + 1, [...above, v]);
    } catch (error) {
      return `<${typeName(v)}: ${typeName(error)} while it was recorded>`; // the value's own code failed
    }
  };
  const parts = (v: object, depth: number, above: readonly unknown[]): unknown => {
    if (v instanceof Date) return Number.isNaN(v.getTime()) ? "Invalid Date" : v.toISOString();
    if (v instanceof Error) return `${v.name}: ${v.message}`;
    if (v instanceof ArrayBuffer) return bytesText(new Uint8Array(v));
    if (ArrayBuffer.isView(v)) return bytesText(new Uint8Array(v.buffer, v.byteOffset, v.byteLength));
    if ("toJSON" in v && typeof v.toJSON === "function") return convert(v.toJSON(), depth, above);
    if (v instanceof Map) {
      const object: Record<string, unknown> = Object.create(null);
      for (const [key, x] of v) {
        if (left < 0) break;
        object[typeof key === "string" ? key : asText(key)] = convert(x, depth, above);
      }
      return object;
    }
    if (Array.isArray(v) || v instanceof Set) {
      const list: unknown[] = [];
      for (const x of v) {
        if (left < 0) break;
        list.push(convert(x, depth, above));
      }
      return list;
    }
    const object: Record<string, unknown> = Object.create(null);
    for (const key of Object.keys(v)) {
      if (left < 0) break;
      const x: unknown = (v as Record<string, unknown>)[key];
      if (x !== undefined) object[key] = convert(x, depth, above);
    }
    return object;
  };
  return convert(value, 0, []);
}

function bigText(v: bigint): string {
  return v < 2n ** 4096n && v > -(2n ** 4096n) ? String(v) : "<a bigint of more than 4096 bits>";
}

function bytesText(raw: Uint8Array): string {
  return `${raw.byteLength} bytes, sha256 ${createHash("sha256").update(raw).digest("hex")}`;
}

function typeName(v: unknown): string {
  try {
    return Object.getPrototypeOf(v)?.constructor?.name || typeof v;
  } catch {
    return typeof v;
  }
}

/** A value as the trail has it: text as it is, everything else as JSON. */
export function asText(value: unknown): string {
  return cut(typeof value === "string" ? value : JSON.stringify(plain(value)));
}

/**
 * Text that the trail takes: without NUL and halves of surrogate pairs, and at most 64 KiB of UTF-8. What is longer
 * ends in the same mark as the service's: its length in bytes and its SHA-256.
 */
export function cut(text: string): string {
  const safe = text.replace(/[\0\p{Surrogate}]/gu, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
  const raw = Buffer.from(safe, "utf8");
  if (raw.byteLength <= maxText) return safe;
  const mark = `… [cut: ${raw.byteLength} bytes, sha256 ${createHash("sha256").update(raw).digest("hex")}]`;
  let end = maxText - Buffer.byteLength(mark);
  while (((raw[end] ?? 0) & 0xc0) === 0x80) end--; // not inside a character
  return raw.toString("utf8", 0, end) + mark;
}
