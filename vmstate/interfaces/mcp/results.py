"""Answers as results of tools: a model reads results, and its client may keep errors to itself.

`_meta.vmstate` of a result is the gate's own, whatever the server behind put there: of a refusal it
says `refused`, of what the server answered by which receipt and lease it was asked.
"""

from typing import Protocol

import mcp_types as types
from pydantic import BaseModel

from vmstate.errors import VmstateError
from vmstate.interfaces.mcp.refusal import Refusal

META = "vmstate"  # the key of `_meta` under which a gate says what a result is


class Listed(Protocol):
    """What is needed of a tool of ours to list it."""

    @property
    def description(self) -> str: ...
    @property
    def takes(self) -> type[BaseModel]: ...
    @property
    def gives(self) -> type[BaseModel]: ...
    @property
    def reads(self) -> bool: ...


def refused(refusal: Refusal) -> types.CallToolResult:
    """A refusal, for models that read and for programs that parse."""
    text = types.TextContent(type="text", text=refusal.sentence)
    return types.CallToolResult(
        content=[text],
        structured_content=refusal.body(),
        is_error=True,
        meta={META: {"refused": True, "receipt": refusal.receipt}},
    )


def failed(error: VmstateError) -> types.CallToolResult:
    """Something that could not be decided or done, as the result of a tool."""
    text = types.TextContent(type="text", text=str(error))
    body = {"error": type(error).__name__, "message": str(error)}
    return types.CallToolResult(content=[text], structured_content=body, is_error=True)


def own_result(answer: BaseModel) -> types.CallToolResult:
    """What a tool of vmstate's own gives."""
    body = answer.model_dump(mode="json")
    text = types.TextContent(type="text", text=answer.model_dump_json(exclude_none=True))
    denied = body.get("status") == "denied" or body.get("success") is False
    return types.CallToolResult(content=[text], structured_content=body, is_error=denied)


def own_tool(name: str, tool: Listed) -> types.Tool:
    """How a tool of vmstate's own is listed."""
    return types.Tool(
        name=name,
        description=tool.description,
        input_schema=tool.takes.model_json_schema(),
        output_schema=tool.gives.model_json_schema(),
        annotations=types.ToolAnnotations(read_only_hint=tool.reads, open_world_hint=False),
    )
