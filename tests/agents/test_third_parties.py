"""Servers that others wrote, behind the gate, in the era that each speaks."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio
import pytest

from vmstate.interfaces.mcp.upstream import Child

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])
SERVERS = """
[tools.time]
tools.get_current_time = { profile = "observer" }
tools."*"              = { profile = "operator" }

[tools.fetch]
tools.fetch       = { profile = "operator" }
prompts.fetch     = { profile = "observer" }

[tools.everything]
tools.echo      = { profile = "observer" }
tools."get-sum" = { profile = "operator" }
tools."trigger-long-running-operation" = { profile = "operator" }
tools."*"       = { profile = "guardian" }

[tools.files]
tools."read_*"  = { profile = "observer" }
tools."list_*"  = { profile = "observer" }
tools."*"       = { profile = "operator" }
"""
SECONDS = 30


async def through(desks, agent, tool, arguments, *, free, free_arguments):
    """The whole story: read, be refused, climb, do it, the time is up, be refused."""
    names = {one.name for one in (await agent.list_tools()).tools}
    assert free in names
    assert tool not in names
    done = await agent.call_tool(free, free_arguments)
    assert not done.is_error, done.content
    refused = await agent.call_tool(tool, arguments)
    assert refused.structured_content["profile_needed"] == "operator"
    desks.operator()
    names = {one.name for one in (await agent.list_tools(cache_mode="refresh")).tools}
    assert tool in names
    done = await agent.call_tool(tool, arguments)
    assert not done.is_error, done.content
    desks.wait(hours=1)
    assert (await agent.call_tool(tool, arguments)).is_error
    return done


@pytest.fixture
def make_server(make_desks):
    return lambda name: make_desks(server=name, extra=SERVERS)


async def test_mcp_server_time(make_server):
    desks = make_server("time")
    convert = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    target = Child((sys.executable, "-m", "mcp_server_time"))
    with anyio.fail_after(SECONDS):
        async with desks.agent_at(target=target) as agent:
            free = {"timezone": "UTC"}
            await through(
                desks, agent, "convert_time", convert, free="get_current_time", free_arguments=free
            )


PAGE = b"<html><body><h1>Depot</h1><p>The lamp is in aisle seven.</p></body></html>"


class Page(BaseHTTPRequestHandler):
    """One page, for whoever asks, and the same where a robots.txt would be."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_):
        pass


@pytest.fixture
def page():
    """The address of a page that is served on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/lamp.html"
        server.shutdown()
        thread.join()


async def test_mcp_server_fetch(make_server, page):
    desks = make_server("fetch")
    flags = ("--ignore-robots-txt", "--allow-private-ips")
    target = Child((sys.executable, "-m", "mcp_server_fetch", *flags))
    with anyio.fail_after(SECONDS):
        async with desks.agent_at(target=target) as agent:
            names = {one.name for one in (await agent.list_tools()).tools}
            assert "fetch" not in names
            refused = await agent.call_tool("fetch", {"url": page})
            assert refused.structured_content["profile_needed"] == "operator"
            got = await agent.get_prompt("fetch", {"url": page})
            assert "aisle seven" in got.messages[0].content.text
            desks.operator()
            done = await agent.call_tool("fetch", {"url": page})
            assert not done.is_error, done.content
            assert "aisle seven" in done.content[0].text
            desks.wait(hours=1)
            assert (await agent.call_tool("fetch", {"url": page})).is_error


@ERAS
async def test_server_everything_of_npm(make_server, npm_server, mode):
    desks = make_server("everything")
    target = Child(("node", str(npm_server("server-everything")), "stdio"))
    with anyio.fail_after(SECONDS):
        async with desks.agent_at(target=target, mode=mode) as agent:
            free = {"message": "hello"}
            done = await through(
                desks, agent, "get-sum", {"a": 2, "b": 3}, free="echo", free_arguments=free
            )
            assert "5" in done.content[0].text


async def test_server_filesystem_of_npm(make_server, npm_server, tmp_path):
    desks = make_server("files")
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    target = Child(("node", str(npm_server("server-filesystem")), str(shelf)))
    with anyio.fail_after(SECONDS):
        async with desks.agent_at(target=target) as agent:
            note = {"path": str(shelf / "note.txt"), "content": "written"}
            free = {"path": str(shelf)}
            await through(
                desks, agent, "write_file", note, free="list_directory", free_arguments=free
            )
    assert (shelf / "note.txt").read_text(encoding="utf-8") == "written"


async def test_the_end_of_a_lease_stops_a_third_partys_long_running_tool(make_server, npm_server):
    desks = make_server("everything")
    target = Child(("node", str(npm_server("server-everything")), "stdio"))
    desks.operator()
    with anyio.fail_after(SECONDS):
        async with desks.agent_at(target=target, watching=True) as agent:
            began, answers = anyio.Event(), []

            async def call():
                began.set()
                tool = "trigger-long-running-operation"
                answers.append(await agent.call_tool(tool, {"duration": 3_600}))

            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await began.wait()
                await anyio.sleep(0.2)  # so that the tool runs; if it did not, it would be refused
                desks.wait(hours=1)
    assert answers[0].structured_content["missing"][0]["kind"] == "profile"
