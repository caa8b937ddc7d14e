// A client of the official SDK for TypeScript: client.mjs stdio COMMAND… or client.mjs http URL.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [kind, target, ...args] = process.argv.slice(2);
const { KONSTRUCT_TEST_SDKS, ...env } = process.env; // the tests' own, and no setting
const transport = kind === "stdio"
  ? new StdioClientTransport({ command: target, args, env })
  : new StreamableHTTPClientTransport(new URL(target),
    { requestInit: { headers: { Authorization: "Bearer " + process.env.MCP_KEY } } });
const client = new Client({ name: "node-client", version: "1" });
await client.connect(transport);
const call = async (name, args) => (await client.callTool({ name, arguments: args })).content[0].text;
console.log(await call("echo", { text: "grüße" }));
const failed = await client.callTool({ name: "fail", arguments: {} });
console.log(failed.isError, failed.content[0].text);
console.log(await call("remove", { text: "x" }));
await client.close();
