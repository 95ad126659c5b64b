"""A server whose tool writes a stamp each millisecond for as long as it may."""

import time
from pathlib import Path

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server


async def list_tools(_context, _params):
    schema = {"type": "object"}
    return types.ListToolsResult(
        tools=[types.Tool(name=name, input_schema=schema) for name in ("read", "write")]
    )


async def call_tool(_context, params):
    path = (params.arguments or {}).get("stamps")
    while path is not None:
        with Path(path).open("a", encoding="ascii") as file:
            file.write(f"{time.time()}\n")
        await anyio.sleep(0.001)
    return types.CallToolResult(content=[types.TextContent(type="text", text="done")])


async def main():
    server = Server("stamping", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


anyio.run(main)
