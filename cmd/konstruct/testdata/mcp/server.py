"""A server of the official SDK for Python, over stdio."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("python-server", version="4.5.6")


@server.tool()
def add(a: int, b: int) -> int:
    return a + b


server.run()
