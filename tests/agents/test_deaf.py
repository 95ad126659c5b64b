"""An agent that is sent what it does not read: neither others nor its own authority wait for it."""

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import mcp_types as types
import pytest
from mcp.shared.message import SessionMessage

from vmstate.interfaces.mcp.upstream import Child

ODD = str(Path(__file__).with_name("odd.py"))
pytestmark = pytest.mark.anyio


class Raw:
    """A client of the handshake era that reads only when it is told to."""

    def __init__(self, put, get):
        self._put, self._get = put, get
        self._asked = 0

    async def say(self, method, params):
        said = types.JSONRPCNotification(jsonrpc="2.0", method=method, params=params)
        await self._put.send(SessionMessage(said))

    async def ask(self, method, params):
        self._asked += 1
        request = types.JSONRPCRequest(jsonrpc="2.0", id=self._asked, method=method, params=params)
        await self._put.send(SessionMessage(request))

    async def read(self):
        return (await self._get.receive()).message


@asynccontextmanager
async def raw_at(gate):
    put, incoming = anyio.create_memory_object_stream(10)
    outgoing, get = anyio.create_memory_object_stream(0)
    server = gate.server()
    options = server.create_initialization_options(gate.options())
    info = {"protocolVersion": "2025-06-18", "capabilities": {}}
    info["clientInfo"] = {"name": "raw", "version": "1"}
    async with put, get, anyio.create_task_group() as group:
        group.start_soon(server.run, incoming, outgoing, options)
        raw = Raw(put, get)
        await raw.ask("initialize", info)
        await raw.read()
        await raw.say("notifications/initialized", {})
        await raw.ask("tools/list", {})
        await raw.read()
        yield raw
        group.cancel_scope.cancel()


async def test_a_call_of_an_agent_that_reads_nothing_is_stopped_when_its_lease_ends(desks):
    with anyio.fail_after(5):
        async with desks.open(watching=True) as gate, raw_at(gate) as raw:
            desks.operator()
            await raw.ask("tools/call", {"name": "change_slow", "arguments": {}})
            await desks.behind.running.wait()
            await anyio.sleep(0.06)  # three looks of the watch: it says that the lease started
            desks.wait(hours=1)
            while not desks.receipts("auth_failure"):
                await anyio.sleep(0.01)
    assert desks.behind.cancelled == 1


async def test_what_a_server_says_of_its_progress_does_not_pile_up_before_who_reads_nothing(desks):
    arguments = {"steps": 3_000, "stays": True}
    target = Child((sys.executable, ODD, "plain"))
    with anyio.fail_after(30):
        async with desks.open(target=target) as gate, raw_at(gate) as raw:
            asked = {"name": "look", "arguments": arguments, "_meta": {"progressToken": 7}}
            await raw.ask("tools/call", asked)
            most, told = 0, [0]
            for _ in range(50):
                await anyio.sleep(0.01)
                most = max(most, len(asyncio.all_tasks()))
            while told[-1] != arguments["steps"]:  # the newest is told
                told.append((await raw.read()).params["progress"])
    assert most < 200
