"""A gate between an agent and a small server, in this process, on a clock that is moved."""

import hashlib
import logging
import os
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import mcp_types as types
import pytest
from mcp import Client
from mcp.server.lowlevel import Server

from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.interfaces.mcp.gate import Gate
from vmstate.interfaces.mcp.upstream import Upstream, connect
from vmstate.interfaces.mcp.warden import Warden
from vmstate.keys import PrivateKey
from vmstate.ledger.transaction import loading_entry

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AGENT = "agent:7"
REASON = "look at ticket 4711"
LAW = """
[constitution]
name     = "agents"
version  = "1"
baseline = "observer"

[groups]
agents    = ["agent:*"]
approvers = ["carol"]

[principals.carol]
key = "{carol}"

[principals."agent:web"]
token = "sha256:{token}"

[principals."agent:other"]
token = "sha256:{other}"

[profiles.observer]
[profiles.operator]
above = "observer"
[profiles.guardian]
above = "operator"

[facts]
"risk" = {{ type = "decimal", min = "0", max = "1" }}

[escalations.operator_on_request]
from     = "observer"
to       = "operator"
trigger  = "operator_request"
ttl      = "1h"
renewals = 1
needs.requester = ["agents"]
needs.reason    = {{ min_length = 10 }}

[escalations.guardian_on_request]
from    = "operator"
to      = "guardian"
trigger = "operator_request"
ttl     = "15m"
needs.requester = ["agents"]
needs.approval  = {{ count = 1, of = ["approvers"] }}

[escalations.guardian_on_risk]
from    = "operator"
to      = "guardian"
trigger = "risk_seen"
ttl     = "15m"
needs.facts.risk = {{ min = "0.83" }}

[escalations.operator_with_one_use]
from     = "observer"
to       = "operator"
trigger  = "for_once"
ttl      = "1h"
max_uses = 1
needs.reason = {{ min_length = 10 }}

[requests]
waits        = "1h"
usable_for   = "15m"
open_at_most = 3

[locks]
by   = ["approvers"]
lift = ["approvers"]

[endings]
timeout_expired  = {{ to = "previous" }}
operator_release = {{ by = ["holder"], to = "previous" }}
sovereign_revoke = {{ by = ["approvers"], to = "baseline" }}

[drill]
marker         = "DRILL/"
ttl            = "4h"
principal      = "agent:drill"
budget_ceiling = 10
currency       = "UNITS"

[tools.desk]
visibility = "{visibility}"
approvers  = ["approvers"]
tools.look         = {{ profile = "observer" }}
tools."change*"    = {{ profile = "operator" }}
tools.change_long  = {{ profile = "operator", on_end = "finish" }}
tools.wipe         = {{ profile = "operator", each_call = true }}
resources."note:///open/*" = {{ profile = "observer" }}
resources."note:///*"      = {{ profile = "operator" }}
prompts.hello      = {{ profile = "operator" }}
"""
TOKEN, OTHER = "swordfish-swordfish-swordfish", "starfish-starfish-starfish"


def digest(token):
    return hashlib.sha256(token.encode()).hexdigest()


def _law_text(visibility="hide"):
    carol = PrivateKey.derive("carol").public
    return LAW.format(carol=carol, visibility=visibility, token=digest(TOKEN), other=digest(OTHER))


@dataclass
class Behind:
    """The server behind the gate: what it was asked, and what it is to answer."""

    seen: list = field(default_factory=list)
    beside: list = field(default_factory=list)  # what came with each call of a tool
    tools: list = field(
        default_factory=lambda: ["look", "change", "change_slow", "change_long", "wipe", "secret"]
    )
    running: anyio.Event = field(default_factory=anyio.Event)
    go_on: anyio.Event = field(default_factory=anyio.Event)
    cancelled: int = 0
    pause: float = 0.0  # seconds before each step of a call

    async def list_tools(self, _context, _params):
        schema = {"type": "object"}
        tools = [types.Tool(name=n, description=n.upper(), input_schema=schema) for n in self.tools]
        return types.ListToolsResult(tools=tools)

    async def call_tool(self, context, params):
        self.seen.append((params.name, params.arguments))
        self.beside.append(dict(params.meta or {}))
        steps = (params.arguments or {}).get("steps", 0)
        for step in range(1, steps + 1):
            await anyio.sleep(self.pause)
            await context.session.report_progress(step, steps, f"step {step}")
        if params.name in {"change_slow", "change_long"}:
            self.running.set()
            try:
                await self.go_on.wait()
            except anyio.get_cancelled_exc_class():
                self.cancelled += 1
                raise
        return types.CallToolResult(content=[types.TextContent(type="text", text="done")])

    async def list_resources(self, _context, _params):
        uris = ("note:///open/a", "note:///b", "other:///c")
        return types.ListResourcesResult(
            resources=[types.Resource(name=uri, uri=uri) for uri in uris]
        )

    async def list_templates(self, _context, _params):
        templates = ("note:///open/{name}", "note:///{name}", "{anything}")
        return types.ListResourceTemplatesResult(
            resource_templates=[types.ResourceTemplate(name=t, uri_template=t) for t in templates]
        )

    async def read_resource(self, _context, params):
        self.seen.append((params.uri, None))
        return types.ReadResourceResult(
            contents=[types.TextResourceContents(uri=params.uri, text="written")]
        )

    async def list_prompts(self, _context, _params):
        return types.ListPromptsResult(prompts=[types.Prompt(name="hello")])

    async def get_prompt(self, _context, params):
        self.seen.append((params.name, params.arguments))
        return types.GetPromptResult(messages=[])

    def server(self):
        return Server(
            "behind",
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_list_resources=self.list_resources,
            on_list_resource_templates=self.list_templates,
            on_read_resource=self.read_resource,
            on_list_prompts=self.list_prompts,
            on_get_prompt=self.get_prompt,
        )


@dataclass
class Desks:
    """A ledger, a gate over it, and whoever is at it."""

    vm: Authority
    clock: VirtualClock
    behind: Behind
    warden: Warden
    principal: str = AGENT
    gate: Gate | None = None

    agent = AGENT

    def wait(self, **duration):
        self.clock.advance(timedelta(**duration))

    def operator(self, principal=AGENT, **fields):
        asked = {"trigger": "operator_request", "reason": REASON, **fields}
        receipt = self.vm.escalate(principal, "operator", **asked)
        assert receipt.granted
        return receipt.lease

    def receipts(self, type_=None):
        return [r for r in self.vm.receipts() if type_ is None or r.type == type_]

    def approve(self, request, by="carol"):
        """What an approver does: sign the open request."""
        return self.vm.approve(request, by, PrivateKey.derive(by))

    def amend(self, text):
        """Put another law in force, as another process would."""
        law = read_constitution(text.encode())
        now = self.clock.read()
        entry = loading_entry(law, None)
        self.vm.ledger.transact(lambda change: change.put_in_force(law, entry, now))

    @asynccontextmanager
    async def open(self, *, target=None, watching=False):
        """The gate, in front of the server of this process or of `target`."""
        async with self._upstream(target) as upstream, anyio.create_task_group() as group:
            self.gate = Gate(self.vm, self.warden, upstream, self._who)
            if watching:
                group.start_soon(self.gate.watch)
            yield self.gate
            group.cancel_scope.cancel()

    @asynccontextmanager
    async def agent_at(self, *, mode="auto", target=None, watching=False, **options):
        async with (
            self.open(target=target, watching=watching) as gate,
            Client(gate.server(), mode=mode, **options) as client,
        ):
            yield client

    @asynccontextmanager
    async def _upstream(self, target):
        async def changed(kind):
            await self.gate.upstream_changed(kind)

        if target is not None:
            async with connect(target, changed) as upstream:
                yield upstream
            return
        async with Client(self.behind.server(), cache=None) as client:
            yield Upstream(client, is_child=True)

    def _who(self):
        return self.principal


@pytest.fixture
def law_text():
    """The law as text: `law_text(visibility)`."""
    return _law_text


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def make_desks(tmp_path):
    made = []

    def make(visibility="hide", *, server="desk", changes=(), extra=""):
        clock = VirtualClock(NOON)
        text = _law_text(visibility)
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        law = read_constitution(f"{text}{extra}".encode())
        vm = Authority.create(law, tmp_path / f"ledger-{len(made)}.db", clock=clock)
        made.append(vm)
        return Desks(vm, clock, Behind(), Warden(vm, server))

    level = logging.getLogger("mcp").level
    yield make
    logging.getLogger("mcp").setLevel(level)
    for vm in made:
        vm.close()


@pytest.fixture
def desks(make_desks):
    return make_desks()


# ---- servers that npm has -----------------------------------------------------------------------

NODE_MODULES = Path(os.environ.get("VMSTATE_MCP_SERVERS", "node_modules"))
REQUIRED = "VMSTATE_REQUIRE_MCP_SERVERS"  # set to 1, their absence is a failure


@pytest.fixture
def npm_server():
    """The start of a server from npm; without it its test is left out, loudly, or fails."""

    def find(name):
        path = NODE_MODULES / "@modelcontextprotocol" / name / "dist" / "index.js"
        if shutil.which("node") and path.exists():
            return path.resolve()
        missing = f"there is no {path}: npm install @modelcontextprotocol/{name}"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{REQUIRED}=1, and {missing}")
        pytest.skip(f"LEFT OUT, servers from npm behind the gate: {missing}")

    return find
