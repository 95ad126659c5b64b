"""Servers that do what no server should: the gate says so, lives, and repeats nothing."""

import io
import logging
import sys
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute

from vmstate.errors import InputError
from vmstate.interfaces.mcp import upstream as module
from vmstate.interfaces.mcp.upstream import Address, Child, connect

pytestmark = pytest.mark.anyio
ODD = Path(__file__).with_name("odd.py")
LAW = """
[tools.odd]
tools."*" = { profile = "observer" }
"""
GONE = {
    "error": "UpstreamGone",
    "message": "the server behind the gate has ended or can't be reached",
}


def odd(how="plain", *passed):
    return Child((sys.executable, str(ODD), how), passed)


@pytest.fixture
def desks(make_desks):
    return make_desks(server="odd", extra=LAW)


async def test_garbage_on_a_childs_output_is_dropped_and_never_repeated(desks):
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger().addHandler(handler)
    async with desks.agent_at(target=odd("garbage")) as agent:
        for _ in range(3):
            assert not (await agent.call_tool("babble", {})).is_error
    logging.getLogger().removeHandler(handler)
    assert "swordfish" not in said.getvalue()


async def test_bytes_that_are_no_text_on_a_childs_output_are_dropped_and_the_next_call_is_answered(
    desks,
):
    async with desks.agent_at(target=odd()) as agent:
        with anyio.fail_after(5):
            for tool in ("bytes", "look"):
                assert not (await agent.call_tool(tool, {})).is_error


async def test_a_child_that_dies_is_an_error_of_each_call_and_the_gate_lives(desks):
    async with desks.agent_at(target=odd()) as agent:
        with anyio.fail_after(10):
            for tool in ("die", "look", "look"):
                answer = await agent.call_tool(tool, {})
                assert answer.is_error
                assert answer.structured_content == GONE
            assert not (await agent.call_tool("vmstate_status", {})).is_error
            names = {tool.name for tool in (await agent.list_tools()).tools}
            assert "vmstate_status" in names
            assert "look" not in names


async def test_an_answer_that_is_none_is_an_error_and_the_gate_lives(desks):
    async with desks.agent_at(target=odd()) as agent:
        answer = await agent.call_tool("lie", {})
        assert answer.is_error
        assert answer.content[0].text.startswith("the server behind the gate answered what is no")
        assert not (await agent.call_tool("look", {})).is_error


async def test_a_server_that_lies_in_its_list_gains_nothing(desks):
    async with desks.agent_at(target=odd()) as agent:
        named = [tool.name for tool in (await agent.list_tools()).tools]
        assert "look\x00" not in named
        assert named.count("vmstate_status") == 1
        status = await agent.call_tool("vmstate_status", {})
        assert status.structured_content["principal"] == desks.agent


async def test_a_child_gets_the_variables_that_are_named_and_no_others(desks, monkeypatch):
    monkeypatch.setenv("ODD_SECRET", "swordfish")
    for target, given in ((odd(), "none"), (odd("plain", "ODD_SECRET"), "swordfish")):
        async with desks.agent_at(target=target) as agent:
            assert (await agent.call_tool("secret", {})).content[0].text == given


async def test_a_child_that_says_nothing_is_no_server(monkeypatch):
    monkeypatch.setattr(module, "START_SECONDS", 0.2)

    async def changed(_kind):
        pass

    with pytest.raises(InputError, match=r"is no MCP server: nothing came in 0 s"):
        async with connect(Child(("sleep", "60")), changed):
            pass


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Child(("true",), ("NOT_SET",)), "NOT_SET is not set: it can't be passed on"),
        (Child(("no-such-thing",)), "no-such-thing is no command that can be run"),
    ],
)
async def test_what_was_never_started_is_told_once_and_not_as_a_servers_answer(target, message):
    async def changed(_kind):
        pass

    with pytest.raises(InputError) as told:
        async with connect(target, changed):
            pass
    assert str(told.value) == message


async def test_an_address_that_refuses_is_told_without_what_may_be_a_secret_in_it():
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610 -- no Django

    async def refuse(stream):
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    async def changed(_kind):
        pass

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, refuse)
        with pytest.raises(InputError) as told:
            async with connect(Address(f"http://127.0.0.1:{port}/mcp?key=swordfish"), changed):
                pass
        group.cancel_scope.cancel()
    assert str(told.value).startswith(f"http://127.0.0.1:{port}/mcp is no MCP server that answers:")
    assert "swordfish" not in str(told.value)
