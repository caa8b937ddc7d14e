/** Server-sent events, as the stream of events sends them. */

/** As many ids as are remembered: a stream that resumes may send the last three seconds again. */
const remembered = 10_000;

/** Reads a stream, and makes the next connection resume where this one ended. */
export class Messages {
  /** Milliseconds before the next connection. */
  retryMs = 1000;
  private readonly headers: Record<string, string>;
  private readonly seen = new Set<string>();
  private rest = "";
  private id = "";
  private data: string[] = [];

  constructor(headers: Record<string, string>) {
    this.headers = headers;
  }

  /** Forgets a message that the last connection broke off. */
  connected(): void {
    this.rest = this.id = "";
    this.data = [];
  }

  /** Yields the data of each message that the text completes, once. */
  *feed(text: string): Generator<string, void> {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop() ?? "";
    for (const line of lines) {
      const data = this.line(line.endsWith("\r") ? line.slice(0, -1) : line);
      if (data !== undefined) yield data;
    }
  }

  private line(line: string): string | undefined {
    if (line === "") {
      const data = this.data.join("\n");
      this.data = [];
      if (data === "") return undefined;
      if (this.id !== "") {
        this.headers["Last-Event-ID"] = this.id;
        if (this.seen.has(this.id)) return undefined;
        this.seen.add(this.id);
        if (this.seen.size > remembered) {
          for (const oldest of this.seen) {
            this.seen.delete(oldest);
            break;
          }
        }
      }
      return data;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "id") this.id = value;
    else if (name === "data") this.data.push(value);
    else if (name === "retry" && /^\d+$/.test(value)) this.retryMs = Number(value);
    return undefined;
  }
}
