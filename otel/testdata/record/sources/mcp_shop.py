"""A small MCP server over stdio with one tool, for the coding agents' MCP cases."""

import json
import sys

TOOL = {"name": "opening_hours", "description": "Says when a shop is open.",
        "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "annotations": {"readOnlyHint": True}}

for line in sys.stdin:
    try:
        told = json.loads(line)
    except ValueError:
        continue
    if "id" not in told:
        continue
    method, params = told.get("method"), told.get("params") or {}
    if method == "initialize":
        result = {"protocolVersion": params.get("protocolVersion", "2025-06-18"), "capabilities": {"tools": {}},
                  "serverInfo": {"name": "shop", "version": "1.0.0"}}
    elif method == "tools/list":
        result = {"tools": [TOOL]}
    elif method == "tools/call":
        city = params["arguments"]["city"]
        result = {"content": [{"type": "text", "text": f"Open from nine to five in {city}"}], "isError": False}
    elif method == "ping":
        result = {}
    else:
        print(json.dumps({"jsonrpc": "2.0", "id": told["id"],
                          "error": {"code": -32601, "message": "Method not found"}}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": told["id"], "result": result}), flush=True)
