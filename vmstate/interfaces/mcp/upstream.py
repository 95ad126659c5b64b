"""The server behind the gate: a command of ours, or an address, with credentials that stay here.

The child gets the environment that the SDK thinks safe and the variables that the gate is told to
pass on, no others. On Linux it is killed with the gate and with all that it started, whatever kills
the gate (`keeper.py`); elsewhere it sees the end of its input. A child that dies is an error of
every call, at once, and never a hang.
"""

import logging
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
import httpx2
import mcp_types as types
from mcp import Client, MCPError, StdioServerParameters
from mcp.client import Transport
from mcp.client.session import ClientSession, IncomingMessage
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.subscriptions import PromptsListChanged, ResourcesListChanged, ToolsListChanged
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import TypeAdapter, ValidationError

from vmstate.errors import InputError, VmstateError
from vmstate.interfaces import keeper
from vmstate.interfaces.mcp.refusal import FORBIDDEN

START_SECONDS = 30.0  # in which a server has to say who it is
ANSWER_SECONDS = 300.0  # in which a server has to answer, or to say how far it is
RESERVED = "io.modelcontextprotocol/"  # keys of `_meta` that belong to one connection

_CALLED: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)
_READ: TypeAdapter[types.ReadResourceResult | types.InputRequiredResult] = TypeAdapter(
    types.ReadResourceResult | types.InputRequiredResult
)
_PROMPTED: TypeAdapter[types.GetPromptResult | types.InputRequiredResult] = TypeAdapter(
    types.GetPromptResult | types.InputRequiredResult
)

_Result = TypeVar("_Result")
Changed = Callable[[str], Awaitable[None]]

GONE = "the server behind the gate has ended or can't be reached"


class UpstreamGone(VmstateError):  # noqa: N818 -- reads as what happened
    """The server behind the gate has ended, or can't be reached."""


class UpstreamSilent(UpstreamGone):
    """The server behind the gate lives, and did not answer in time."""


_Progress = tuple[float, float | None, str | None]


@dataclass(slots=True)
class _Telling:
    """Tells an agent how far its call is: while it is still being told, only the newest is kept.

    A server may say so without pause, and an agent need not read.
    """

    out: ProgressFnT | None
    _newest: _Progress | None = None
    _is_busy: bool = False

    async def tell(self, progress: _Progress) -> None:
        self._newest = progress
        if self.out is None or self._is_busy:
            return
        self._is_busy = True
        try:
            while (newest := self._newest) is not None:
                self._newest = None
                await self.out(*newest)
        finally:
            self._is_busy = False


@dataclass(slots=True)
class Upstream:
    """A connection to the server; `gone` is set once a child has ended, for good.

    What it does not answer within `answer_seconds` is called off; what it says of its progress
    begins them anew.
    """

    client: Client
    is_child: bool
    answer_seconds: float = ANSWER_SECONDS
    gone: anyio.Event = field(default_factory=anyio.Event)

    @property
    def capabilities(self) -> types.ServerCapabilities:
        return self.client.server_capabilities

    @property
    def session(self) -> ClientSession:
        return self.client.session

    async def call_tool(
        self, params: types.CallToolRequestParams, tell: ProgressFnT | None
    ) -> types.CallToolResult | types.InputRequiredResult:
        # Not `session.call_tool`: that checks the result against the tool's schema, which the
        # agent's own client does, and lists all tools for it.
        asked = params.model_copy(update={"meta": own_meta(params.meta), "task": None})
        request = types.CallToolRequest(params=asked)
        waiting, telling = anyio.CancelScope(), _Telling(tell)

        async def heard(progress: float, total: float | None, message: str | None) -> None:
            waiting.deadline = anyio.current_time() + self.answer_seconds
            await telling.tell((progress, total, message))

        return await self._ask(
            lambda: self.session.send_request(request, _CALLED, progress_callback=heard), waiting
        )

    async def read_resource(
        self, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult | types.InputRequiredResult:
        asked = params.model_copy(update={"meta": own_meta(params.meta)})
        request = types.ReadResourceRequest(params=asked)
        return await self._ask(lambda: self.session.send_request(request, _READ))

    async def get_prompt(
        self, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult | types.InputRequiredResult:
        asked = params.model_copy(update={"meta": own_meta(params.meta)})
        request = types.GetPromptRequest(params=asked)
        return await self._ask(lambda: self.session.send_request(request, _PROMPTED))

    async def list_tools(self, cursor: str | None) -> types.ListToolsResult:
        return await self._ask(lambda: self.session.list_tools(params=_page(cursor)))

    async def list_resources(self, cursor: str | None) -> types.ListResourcesResult:
        return await self._ask(lambda: self.session.list_resources(params=_page(cursor)))

    async def list_templates(self, cursor: str | None) -> types.ListResourceTemplatesResult:
        return await self._ask(lambda: self.session.list_resource_templates(params=_page(cursor)))

    async def list_prompts(self, cursor: str | None) -> types.ListPromptsResult:
        return await self._ask(lambda: self.session.list_prompts(params=_page(cursor)))

    async def _ask(
        self, ask: Callable[[], Awaitable[_Result]], waiting: anyio.CancelScope | None = None
    ) -> _Result:
        """What the server answers; UpstreamGone if it can't, or answers what is no answer.

        UpstreamSilent once `waiting` is over, which begins here.
        """
        if self.gone.is_set():
            raise UpstreamGone(GONE)
        waiting = waiting or anyio.CancelScope()
        waiting.deadline = anyio.current_time() + self.answer_seconds
        try:
            with waiting:
                return await ask()
        except (
            anyio.ClosedResourceError,
            anyio.BrokenResourceError,
            httpx2.TransportError,
        ) as error:
            self._lose()
            raise UpstreamGone(GONE) from error
        except MCPError as error:
            if error.error.code == FORBIDDEN:  # which says that vmstate refused, and it did not
                told = error.error
                raise MCPError(types.INTERNAL_ERROR, told.message, told.data) from error
            if error.error.code != types.CONNECTION_CLOSED:
                raise
            self._lose()
            raise UpstreamGone(GONE) from error
        except ValidationError as error:
            faults = error.error_count()
            what = f"the server behind the gate answered what is no answer: {faults} faults"
            raise UpstreamGone(what) from error
        seconds = f"{self.answer_seconds:g} s"
        raise UpstreamSilent(f"the server behind the gate did not answer in {seconds}: called off")

    def _lose(self) -> None:
        if self.is_child:
            self.gone.set()  # an address may answer again, a child that ended does not


@dataclass(frozen=True, slots=True)
class Child:
    """A command to run; `passed` names variables of our environment that it gets."""

    command: tuple[str, ...]
    passed: tuple[str, ...] = ()
    answer_seconds: float = ANSWER_SECONDS


@dataclass(frozen=True, slots=True)
class Address:
    """A server that is reached over HTTP; the token is the gate's, and no agent sees it."""

    url: str
    token: str | None = field(default=None, repr=False)
    answer_seconds: float = ANSWER_SECONDS


@asynccontextmanager
async def connect(target: Child | Address, changed: Changed) -> AsyncIterator[Upstream]:
    """Start or reach the server and shake hands, in the newest era that it speaks.

    `changed` is called with `tools`, `resources` or `prompts` when the server says that its list
    of them has changed.

    Raises:
        InputError: it can't be started, or is no MCP server.
    """

    async def heard(message: IncomingMessage) -> None:
        kind = _CHANGES.get(type(message))
        if kind is not None:
            await changed(kind)

    # Lines that are no messages are dropped by the SDK, which logs them whole: not here.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    started = False
    try:
        with anyio.CancelScope() as whole:
            async with anyio.create_task_group() as group, AsyncExitStack() as stack:
                group.start_soon(_give_up, whole, lambda: started)
                transport = await _transport(target, stack)
                client = Client(transport, cache=None, message_handler=heard)
                await stack.enter_async_context(client)
                started = True
                if client.protocol_version in MODERN_PROTOCOL_VERSIONS:
                    group.start_soon(_listen, client, changed)
                try:
                    yield Upstream(client, isinstance(target, Child), target.answer_seconds)
                finally:
                    group.cancel_scope.cancel()
    except (OSError, MCPError, httpx2.HTTPError, ExceptionGroup) as error:
        if started:
            raise
        inner = _innermost(error)
        if isinstance(inner, InputError):
            raise inner from error  # it was never started, and this says why
        raise InputError(
            f"{_named(target)} is no MCP server that answers: {_told(inner)}"
        ) from error
    if not started:
        seconds = int(START_SECONDS)
        raise InputError(f"{_named(target)} is no MCP server: nothing came in {seconds} s")


async def _give_up(whole: anyio.CancelScope, started: Callable[[], bool]) -> None:
    await anyio.sleep(START_SECONDS)
    if not started():
        whole.cancel()


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _listen(client: Client, changed: Changed) -> None:
    """Hear of changed lists where the era has them on a stream of their own."""
    with suppress(MCPError, SubscriptionLost, anyio.ClosedResourceError, TimeoutError):
        async with client.listen(
            tools_list_changed=True, prompts_list_changed=True, resources_list_changed=True
        ) as events:
            async for event in events:
                await changed(_EVENTS.get(type(event), "tools"))


async def _transport(target: Child | Address, stack: AsyncExitStack) -> Transport:
    if isinstance(target, Address):
        headers = {} if target.token is None else {"Authorization": f"Bearer {target.token}"}
        timeout = httpx2.Timeout(START_SECONDS, read=max(ANSWER_SECONDS, target.answer_seconds))
        client = httpx2.AsyncClient(headers=headers, timeout=timeout)
        http = await stack.enter_async_context(client)
        return streamable_http_client(target.url, http_client=http)
    missing = [name for name in target.passed if name not in os.environ]
    if missing:
        raise InputError(f"{missing[0]} is not set: it can't be passed on")
    command = target.command
    if shutil.which(command[0]) is None:
        raise InputError(f"{command[0]} is no command that can be run")
    if sys.platform == "linux":
        command = (sys.executable, "-I", "-S", keeper.__file__, "tie", str(os.getpid()), *command)
    return stdio_client(
        StdioServerParameters(
            command=command[0],
            args=list(command[1:]),
            env={name: os.environ[name] for name in target.passed},
            # By default a byte that is no text ends the SDK's reader, and nobody is told of it.
            encoding_error_handler="replace",
        )
    )


def _named(target: Child | Address) -> str:
    """How it is called in messages: of an address without what may be a secret in it."""
    if isinstance(target, Child):
        return target.command[0]
    parts = urlsplit(target.url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _told(error: BaseException) -> str:
    if isinstance(error, httpx2.HTTPStatusError):
        return f"the answer is {error.response.status_code}"  # its own words repeat the address
    return str(error)


def _page(cursor: str | None) -> types.PaginatedRequestParams | None:
    return None if cursor is None else types.PaginatedRequestParams(cursor=cursor)


def own_meta(meta: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What one side said beside its message, without what belongs to its connection with us."""
    kept = {
        key: value
        for key, value in (meta or {}).items()
        if not key.startswith(RESERVED) and key not in {"progressToken", "progress_token"}
    }
    return kept or None


_CHANGES = {
    types.ToolListChangedNotification: "tools",
    types.ResourceListChangedNotification: "resources",
    types.PromptListChangedNotification: "prompts",
}
_EVENTS = {
    ToolsListChanged: "tools",
    ResourcesListChanged: "resources",
    PromptsListChanged: "prompts",
}
