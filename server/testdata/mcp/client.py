"""The official Python SDK's client, as its users write one: it lists, calls, reads and gets, and prints what it got.

MCP_URL and MCP_KEY name a service, or MCP_COMMAND a program (JSON); MCP_MODE is legacy (with a session), auto or a
revision.
"""

import asyncio
import json
import os

import httpx2
from mcp import Client, Implementation, MCPError, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client


def transport():
    if "MCP_COMMAND" in os.environ:
        program, *arguments = json.loads(os.environ["MCP_COMMAND"])
        return stdio_client(StdioServerParameters(command=program, args=arguments, env=dict(os.environ)))
    http = httpx2.AsyncClient(headers={"Authorization": "Bearer " + os.environ["MCP_KEY"]}, timeout=60)
    return streamable_http_client(os.environ["MCP_URL"], http_client=http)


async def main():
    heard = []

    async def progress(done, total, message):
        heard.append(done)

    async with Client(transport(), mode=os.environ["MCP_MODE"],
                      client_info=Implementation(name="python-sdk", version="2.3.0")) as client:
        tools = (await client.list_tools()).tools
        found = await client.call_tool("search", {"query": "How long may I send a pump back?", "limit": 2})
        document = found.structured_content["results"][0]["id"]
        passage = found.structured_content["results"][0]["passages"][0]["id"]
        fetched = await client.call_tool("fetch", {"id": document}, progress_callback=progress)
        cited = await client.call_tool("cite", {"passage_id": passage})
        logged = await client.call_tool("log_event", {"action_type": "test", "conversation_id": "sdk run"})
        wrong = await client.call_tool("search", {"query": "x", "limit": 1000})
        templates = await client.list_resource_templates()
        resources = await client.list_resources()
        read = await client.read_resource("konstruct://documents/" + document)
        prompts = await client.list_prompts()
        prompt = await client.get_prompt("explain_run", {"run": "sdk run"})
        try:
            await client.read_resource("konstruct://documents/00000000-0000-4000-8000-000000000000")
            missing = None
        except MCPError as e:
            missing = str(e)
        print(json.dumps({
            "version": client.protocol_version, "tools": [t.name for t in tools], "text": fetched.structured_content["text"],
            "quote": cited.structured_content["quote"], "event": logged.structured_content["id"],
            "content": json.loads(found.content[0].text)["results"][0]["id"] == document,
            "wrong": wrong.is_error and wrong.content[0].text, "templates": len(templates.resource_templates),
            "resources": len(resources.resources), "read": read.contents[0].text, "missing": missing,
            "prompts": [p.name for p in prompts.prompts], "messages": len(prompt.messages), "progress": len(heard),
            "untrusted": (found.meta or {}).get("konstruct/untrusted")}))


asyncio.run(main())
