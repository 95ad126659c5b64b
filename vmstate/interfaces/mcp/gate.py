"""The gate: any MCP server, and in front of it the constitution.

A call is decided when it is made, from the deadlines, whatever was listed before. Lists show what
may be called now, or everything with what it needs (`visibility`), and say for how long they hold.
A call that runs when its authority ends is stopped, unless its rule lets it finish.

    agent ── tools/call ─→ gate ─→ Warden: decide, write the receipt ─→ Upstream ─→ server
                            └──────── every 20 ms: has anything been written, is a deadline past?
"""

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import mcp_types as types
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import NotificationOptions, Server

from vmstate.constitution.tools import Kind
from vmstate.door import Door
from vmstate.errors import LedgerError, UnknownPrincipal, VmstateError
from vmstate.interfaces.mcp.audience import Audience
from vmstate.interfaces.mcp.beside import Params, as_approved, require_alone
from vmstate.interfaces.mcp.counting import UnderWay
from vmstate.interfaces.mcp.listed import Item, annotated, instructions, plain
from vmstate.interfaces.mcp.own import OWN, Caller, OwnTool
from vmstate.interfaces.mcp.refusal import FORBIDDEN, Refusal
from vmstate.interfaces.mcp.results import META, failed, own_result, own_tool, refused
from vmstate.interfaces.mcp.upstream import Upstream, UpstreamGone, own_meta
from vmstate.interfaces.mcp.warden import PREFIX, Judgement, Warden

log = logging.getLogger("vmstate")

LOOK_EVERY = 0.02  # seconds; how late an end that somebody else wrote may be noticed
FLUSH_EVERY = 1.0  # seconds between looks for counts that are due
THREADS = 8  # that decide and flush at one time; a commit waits for the disk, not for a processor
OWN_OF = {PREFIX + tool.name: tool for tool in OWN}

Who = Callable[[], str]
Context = ServerRequestContext[Any, Any]
Arguments = Mapping[str, Any] | None
_Result = TypeVar("_Result")


@dataclass(slots=True, eq=False)
class _Running:
    """A call under way, which the end of its authority stops."""

    principal: str
    kind: Kind
    name: str
    judged: Judgement
    scope: anyio.CancelScope


@dataclass(slots=True)
class Gate:
    """One server behind the constitution, for everybody whom `who` names."""

    door: Door
    warden: Warden
    upstream: Upstream
    who: Who
    _audiences: dict[str, Audience] = field(default_factory=dict)
    _held: dict[str, str] = field(default_factory=dict)
    _changed: set[str] = field(default_factory=set)
    _stir: anyio.Event = field(default_factory=anyio.Event)
    _queues: dict[str, anyio.Lock] = field(default_factory=dict)
    _under_way: UnderWay = field(default_factory=UnderWay)
    _running: set[_Running] = field(default_factory=set)
    _version: int | None = None
    _next_end: float = 0.0
    _limiter: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(THREADS))

    def server(self) -> Server[Any]:
        """What agents connect to; it has what the server behind has, and vmstate's own tools."""
        has = self.upstream.capabilities
        handlers: dict[str, Any] = {
            "on_list_tools": self.list_tools,
            "on_call_tool": self.call_tool,
            "on_subscriptions_listen": self.listen,
        }
        if has.resources is not None:
            handlers |= {
                "on_list_resources": self.list_resources,
                "on_list_resource_templates": self.list_templates,
                "on_read_resource": self.read_resource,
            }
        if has.prompts is not None:
            handlers |= {"on_list_prompts": self.list_prompts, "on_get_prompt": self.get_prompt}
        name = f"vmstate-gate/{self.warden.server}"
        return Server(
            name,
            version=version("vmstate"),
            instructions=instructions(self.upstream.client.instructions),
            **handlers,
        )

    def options(self) -> NotificationOptions:
        """What clients of the handshake era are told of."""
        return NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)

    # ---- what agents ask --------------------------------------------------------------------

    async def call_tool(
        self, context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        principal = self._meet(context)
        if (own := OWN_OF.get(params.name)) is not None:
            return await self._call_own(principal, own, params.arguments)
        try:
            with self._under_way.one_more(principal):
                judged = await self._judge(principal, "tool", params.name, params.arguments, params)
                if judged.refusal is not None:
                    return refused(judged.refusal)
                asked = context.meta and "progress_token" in context.meta
                progress = context.session.report_progress if asked else None
                ask = partial(self.upstream.call_tool, as_approved(judged.rule, params), progress)
                done = await self._guarded(principal, "tool", params.name, judged, ask)
        except VmstateError as error:
            return failed(error)
        if isinstance(done, Refusal):
            return refused(done)
        meta = own_meta(done.meta) or {}
        return done.model_copy(update={"meta": {**meta, META: _by(judged)}})

    async def read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult | types.InputRequiredResult:
        principal = self._meet(context)
        ask = self.upstream.read_resource
        return await self._ask_of(principal, "resource", params.uri, None, params, ask)

    async def get_prompt(
        self, context: Context, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult | types.InputRequiredResult:
        principal = self._meet(context)
        ask, arguments = self.upstream.get_prompt, params.arguments
        return await self._ask_of(principal, "prompt", params.name, arguments, params, ask)

    async def list_tools(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        principal = self._meet(context)
        cursor = params.cursor if params is not None else None
        own = [] if cursor is not None else [own_tool(name, tool) for name, tool in OWN_OF.items()]
        try:
            listed = await self.upstream.list_tools(cursor)
        except UpstreamGone:
            return types.ListToolsResult(tools=own)  # vmstate's own go on without the server
        holds = self._holds(principal)
        shown = self._shown(principal, "tool", [(tool.name, tool) for tool in listed.tools])
        tools = [tool for tool in shown if tool.name not in OWN_OF]
        return types.ListToolsResult(tools=[*tools, *own], next_cursor=listed.next_cursor, **holds)

    async def list_resources(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        principal = self._meet(context)
        cursor = params.cursor if params is not None else None
        listed = await self._listed(self.upstream.list_resources(cursor))
        holds = self._holds(principal)
        shown = self._shown(principal, "resource", [(r.uri, r) for r in listed.resources])
        return types.ListResourcesResult(resources=shown, next_cursor=listed.next_cursor, **holds)

    async def list_templates(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        principal = self._meet(context)
        cursor = params.cursor if params is not None else None
        listed = await self._listed(self.upstream.list_templates(cursor))
        # A template is decided by what stands before its first variable.
        pairs = [(t.uri_template.partition("{")[0], t) for t in listed.resource_templates]
        holds = self._holds(principal)
        shown = self._shown(principal, "resource", pairs)
        return types.ListResourceTemplatesResult(
            resource_templates=shown, next_cursor=listed.next_cursor, **holds
        )

    async def list_prompts(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListPromptsResult:
        principal = self._meet(context)
        cursor = params.cursor if params is not None else None
        listed = await self._listed(self.upstream.list_prompts(cursor))
        holds = self._holds(principal)
        shown = self._shown(principal, "prompt", [(p.name, p) for p in listed.prompts])
        return types.ListPromptsResult(prompts=shown, next_cursor=listed.next_cursor, **holds)

    async def listen(
        self, context: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        principal = self._meet(context)
        self._note(principal)
        return await self._audiences[principal].listen(context, params)

    # ---- what goes on meanwhile -------------------------------------------------------------

    async def upstream_changed(self, kind: str) -> None:
        """The server behind says that a list of its has changed."""
        async with anyio.create_task_group() as group:
            for audience in self._audiences.values():
                group.start_soon(audience.tell, kind)

    async def watch(self) -> None:
        """Notice each start and end of authority: tell who is concerned, stop what is over.

        Everything here that reads runs in one thread, because a ledger's version is a thread's own.
        It waits for nobody: neither for an agent that takes in nothing, nor for the disk.
        """
        async with anyio.create_task_group() as group:
            group.start_soon(self._flush)
            while True:
                self._stir = anyio.Event()
                try:
                    self._look()
                    self._stop_what_is_over()
                except LedgerError as error:
                    # Nobody can say what is held: what runs is stopped, and the gate lives.
                    log.warning("the gate can't use its ledger: %s", error)
                    for running in self._running:
                        running.scope.cancel()
                while self._changed:
                    principal = self._changed.pop()
                    group.start_soon(self._tell, principal)
                    group.start_soon(self._flush_of, principal)
                left = self._next_end - anyio.current_time()
                with anyio.move_on_after(left if 0 < left < LOOK_EVERY else LOOK_EVERY):
                    await self._stir.wait()

    # ---- inside -----------------------------------------------------------------------------

    async def _flush(self) -> None:
        """Write what is due. What can't be is counted on, and stops nothing that runs."""
        while True:
            await anyio.sleep(FLUSH_EVERY)
            try:
                await self._in_thread(self.warden.flush)
            except LedgerError as error:
                log.warning("the gate can't write what it has counted: %s", error)

    def _meet(self, context: Context) -> str:
        """Who calls, remembered as somebody to be told of changes."""
        principal = self.who()
        if principal not in self._audiences:
            self._audiences[principal] = Audience()
        self._audiences[principal].meet(context)
        return principal

    def _standing(self, principal: str) -> tuple[str, float | None]:
        """The profile held now, and for how many seconds at most; None at the baseline."""
        try:
            standing = self.door.standing(principal)
        except UnknownPrincipal:
            return self.door.constitution.baseline, None
        left = [standing.left(lease).total_seconds() for lease in standing.leases]
        return standing.profile, min(left, default=None)

    def _look(self) -> None:
        """Take note of those whose profile has changed since the last look.

        A lease begins with something written; that it has ended is asked of the clock each time.
        """
        seen, baseline = self.door.version(), self.door.constitution.baseline
        written = seen != self._version
        if written:
            self._next_end = math.inf
        for principal in tuple(self._audiences):
            before = self._held.get(principal, "")
            if written or not (before == baseline or self.door.may(principal, before)):
                self._note(principal)
        self._version = seen  # only now: a look that could not be finished is taken again

    def _note(self, principal: str) -> float | None:
        """Take note of what is held now, and for how many seconds at most.

        Lists are made after it: an authority that one showed is told of when it ends, however
        short it was.
        """
        profile, left = self._standing(principal)
        if left is not None:
            self._next_end = min(self._next_end, anyio.current_time() + left)
        if self._held.get(principal, profile) != profile:
            self._changed.add(principal)
            self._stir.set()
        self._held[principal] = profile
        return left

    async def _tell(self, principal: str) -> None:
        """Tell somebody whose profile is another now that their lists are others."""
        has, kinds = self.upstream.capabilities, ["tools"]
        kinds += ["resources"] if has.resources is not None else []
        kinds += ["prompts"] if has.prompts is not None else []
        await self._audiences[principal].tell(*kinds)

    async def _flush_of(self, principal: str) -> None:
        """Put on record what they did until then."""
        with suppress(LedgerError):  # what could not be written is counted on
            await self._in_thread(partial(self.warden.flush, of=(principal,)))

    def _stop_what_is_over(self) -> None:
        for running in self._running:
            began = (running.principal, running.kind, running.name, running.judged)
            if not self.warden.may_go_on(*began):
                running.scope.cancel()

    async def _judge(
        self, principal: str, kind: Kind, name: str, arguments: Arguments, params: Params
    ) -> Judgement:
        """One decision at a time for each principal, in the order in which they asked."""
        found = self.warden.found(kind, name)
        require_alone(None if found is None else found[1], name, params)
        queue = self._queues.setdefault(principal, anyio.Lock())
        async with queue:
            asked = (principal, kind, name, arguments)
            counted = self.warden.count(*asked)
            if counted is not None:
                return counted
            return await self._in_thread(partial(self.warden.decide, *asked))

    async def _guarded(
        self,
        principal: str,
        kind: Kind,
        name: str,
        judged: Judgement,
        ask: Callable[[], Awaitable[_Result]],
    ) -> _Result | Refusal:
        """What the server answers, or why it was stopped from answering."""
        running = _Running(principal, kind, name, judged, anyio.CancelScope())
        if judged.rule is None or judged.rule.on_end == "cancel":
            self._running.add(running)
        try:
            with running.scope:
                return await ask()
        finally:
            self._running.discard(running)
        return await self._in_thread(partial(self.warden.cut, principal, kind, name, judged))

    async def _ask_of(
        self,
        principal: str,
        kind: Kind,
        name: str,
        arguments: Arguments,
        params: Params,
        ask: Callable[[Params], Awaitable[_Result]],
    ) -> _Result:
        """A resource or prompt: a refusal is an error here, because these have no error results."""
        try:
            with self._under_way.one_more(principal):
                judged = await self._judge(principal, kind, name, arguments, params)
                if judged.refusal is not None:
                    raise _forbidden(judged.refusal)
                approved = partial(ask, as_approved(judged.rule, params))
                done = await self._guarded(principal, kind, name, judged, approved)
        except VmstateError as error:
            raise MCPError(types.INTERNAL_ERROR, str(error)) from error
        if isinstance(done, Refusal):
            raise _forbidden(done)
        return done

    async def _call_own(
        self, principal: str, tool: OwnTool, arguments: Arguments
    ) -> types.CallToolResult:
        caller = Caller(self.warden, principal, PREFIX)
        try:
            with self._under_way.one_more(principal):
                answer = await self._in_thread(partial(tool.call, caller, arguments))
        except VmstateError as error:
            return failed(error)
        self._stir.set()
        return own_result(answer)

    async def _listed(self, listing: Awaitable[_Result]) -> _Result:
        try:
            return await listing
        except VmstateError as error:
            raise MCPError(types.INTERNAL_ERROR, str(error)) from error

    def _shown(self, principal: str, kind: Kind, items: Iterable[tuple[str, Item]]) -> list[Item]:
        """What of a server's list is shown: what may be called, and the rest as the law says."""
        server = self.door.constitution.document.tools.get(self.warden.server)
        shown = []
        for name, item in items:
            may, rule = self.warden.may_call(principal, kind, name)
            if rule is None or server is None or not name.isprintable():
                continue  # what is not listed can never be called, whatever the profile
            said = plain(item)
            if may and not rule.each_call:
                shown.append(said)
            elif may or server.visibility == "annotate":
                shown.append(annotated(said, rule, may=may))
        return shown

    def _holds(self, principal: str) -> dict[str, Any]:
        """For how long a list holds: until the first lease ends; at the baseline not at all."""
        left = self._note(principal)
        ttl_ms = 0 if left is None else max(0, int(left * 1_000))
        return {"ttl_ms": ttl_ms, "cache_scope": "private"}

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)


def _forbidden(refusal: Refusal) -> MCPError:
    return MCPError(FORBIDDEN, refusal.sentence, refusal.body())


def _by(judged: Judgement) -> dict[str, Any]:
    return {"lease": judged.lease, "receipt": judged.receipt, "salt": judged.salt}
