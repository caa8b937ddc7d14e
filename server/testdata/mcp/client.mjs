// The official TypeScript SDK's client, as its users write one: it lists, calls, reads and gets, and prints what it got.
// MCP_URL and MCP_KEY name a service, or MCP_COMMAND a program (JSON).
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const env = process.env;
const client = new Client({ name: "typescript-sdk", version: "1.32.2" });
let transport;
if (env.MCP_COMMAND) {
  const [command, ...args] = JSON.parse(env.MCP_COMMAND);
  transport = new StdioClientTransport({ command, args, env });
} else {
  transport = new StreamableHTTPClientTransport(new URL(env.MCP_URL), {
    requestInit: { headers: { Authorization: "Bearer " + env.MCP_KEY } },
  });
}
await client.connect(transport);
const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);
const { tools } = await client.listTools();
const found = await call("search", { query: "How long may I send a pump back?", limit: 2 });
const first = found.structuredContent.results[0];
let progress = 0;
const fetched = await call("fetch", { id: first.id }, { onprogress: () => progress++ });
const cited = await call("cite", { passage_id: first.passages[0].id });
const logged = await call("log_event", { action_type: "test", conversation_id: "sdk run" });
const wrong = await call("search", { query: "x", limit: 1000 });
const templates = await client.listResourceTemplates();
const resources = await client.listResources();
const read = await client.readResource({ uri: "konstruct://documents/" + first.id });
const prompts = await client.listPrompts();
const prompt = await client.getPrompt({ name: "explain_run", arguments: { run: "sdk run" } });
let missing = null;
try {
  await client.readResource({ uri: "konstruct://documents/00000000-0000-4000-8000-000000000000" });
} catch (e) {
  missing = e.message;
}
console.log(JSON.stringify({
  version: transport.protocolVersion ?? "", tools: tools.map((t) => t.name), text: fetched.structuredContent.text,
  quote: cited.structuredContent.quote, event: logged.structuredContent.id,
  content: JSON.parse(found.content[0].text).results[0].id === first.id,
  wrong: wrong.isError && wrong.content[0].text, templates: templates.resourceTemplates.length,
  resources: resources.resources.length, read: read.contents[0].text, missing,
  prompts: prompts.prompts.map((p) => p.name), messages: prompt.messages.length, progress,
  untrusted: found._meta?.["konstruct/untrusted"],
}));
await client.close();
