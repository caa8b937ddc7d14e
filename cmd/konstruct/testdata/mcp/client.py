"""A client of the official SDK for Python: client.py stdio MODE COMMAND… or client.py http MODE URL."""

import asyncio
import os
import sys

import httpx2
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client


async def main():
    kind, mode, target = sys.argv[1:4]
    if kind == "stdio":
        server = stdio_client(StdioServerParameters(command=target, args=sys.argv[4:], env=dict(os.environ)))
    else:
        headers = {"Authorization": "Bearer " + os.environ["MCP_KEY"]}
        server = streamable_http_client(target, http_client=httpx2.AsyncClient(headers=headers, timeout=60))
    async with Client(server, mode=mode) as client:
        print((await client.call_tool("echo", {"text": "grüße"})).content[0].text)
        failed = await client.call_tool("fail", {})
        print(failed.is_error, failed.content[0].text)
        print((await client.call_tool("remove", {"text": "x"})).content[0].text)


asyncio.run(main())
