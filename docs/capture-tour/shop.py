"""A shop's MCP server over stdio, with the official SDK. A refund is a line in refunds.txt, in the folder of now."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("shop", version="1.0.0")


@server.tool()
def look_up_order(order: int) -> str:
    """Says what an order is about."""
    return f"Order {order}: one pump, 129.00 EUR, delivered on 2026-11-20, reported as broken."


@server.tool()
def refund_order(order: int, amount: float) -> str:
    """Pays the customer back."""
    with open("refunds.txt", "a") as refunds:
        print(f"order {order}: {amount:.2f} EUR", file=refunds)
    return f"Refunded {amount:.2f} EUR for order {order}."


server.run()
