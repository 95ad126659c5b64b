"""Who listens at a gate, and how each is told that a list has changed.

Clients of 2026-07-28 open a stream and hear of it there; clients of the handshake era are sent a
notification on their connection. Many ignore both: what is allowed is decided at each call, and a
list is only ever a help. So nothing waits for whoever does not take what they are told.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourcesListChanged,
    ToolsListChanged,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

SESSIONS = 1_000  # of the handshake era that one principal can have; older ones are not told
TOLD_WITHIN = 5.0  # seconds; a connection that does not take it by then is not told this time
_EVENTS: dict[str, type[ToolsListChanged | PromptsListChanged | ResourcesListChanged]] = {
    "tools": ToolsListChanged,
    "resources": ResourcesListChanged,
    "prompts": PromptsListChanged,
}


@dataclass(slots=True)
class Audience:
    """All connections of one principal."""

    bus: InMemorySubscriptionBus = field(default_factory=InMemorySubscriptionBus)
    # Strong references: a session is a proxy made for one request, and nobody else keeps it.
    sessions: OrderedDict[str, ServerSession] = field(default_factory=OrderedDict)
    listen: ListenHandler = field(init=False)
    _due: dict[str, None] = field(default_factory=dict)
    _telling: bool = False

    def __post_init__(self) -> None:
        self.listen = ListenHandler(self.bus)

    def meet(self, context: ServerRequestContext[Any, Any]) -> None:
        """Remember a connection of the handshake era, to be told later."""
        if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
            return
        headers = getattr(context.request, "headers", {})
        key = headers.get("mcp-session-id", "")
        self.sessions[key] = context.session
        self.sessions.move_to_end(key)
        while len(self.sessions) > SESSIONS:
            self.sessions.popitem(last=False)

    async def tell(self, *kinds: str) -> None:
        """Say that the lists of `tools`, `resources` or `prompts` have changed.

        What changes while somebody is still being told is told to everybody once that is over.
        """
        self._due |= dict.fromkeys(kinds)
        if self._telling:
            return
        self._telling = True
        try:
            while self._due:
                due, self._due = tuple(self._due), {}
                await self._tell(due)
        finally:
            self._telling = False

    async def _tell(self, kinds: Iterable[str]) -> None:
        for kind in kinds:
            await self.bus.publish(_EVENTS[kind]())
        async with anyio.create_task_group() as group:
            for session in self.sessions.values():
                group.start_soon(_send, session, kinds)


async def _send(session: ServerSession, kinds: Iterable[str]) -> None:
    with anyio.move_on_after(TOLD_WITHIN):
        for kind in kinds:
            match kind:
                case "tools":
                    await session.send_tool_list_changed()
                case "resources":
                    await session.send_resource_list_changed()
                case _:
                    await session.send_prompt_list_changed()
