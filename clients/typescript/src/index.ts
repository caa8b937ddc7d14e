/** The client of Konstruct: an audit trail of what agents do, and a knowledge base, over HTTP. */
export type { CallOptions, FileContent, WriteOptions } from "./call.ts";
export { items, Konstruct } from "./client.ts";
export type { KonstructOptions } from "./client.ts";
export * from "./errors.ts";
export { recordTool, withConversation } from "./tool.ts";
export type { Conversation, ToolOptions } from "./tool.ts";
export type * from "./types.ts";
