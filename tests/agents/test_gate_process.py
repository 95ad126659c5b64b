"""The gate as a process of its own: stdio on both sides, third parties' servers behind it."""

import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from vmstate.authority import Authority
from vmstate.constitution.loading import load_constitution
from vmstate.interfaces.cli import main as cli
from vmstate.ledger.store import DrillMark

pytestmark = pytest.mark.anyio
BIN = Path(sys.executable).parent
VMSTATE = BIN / "vmstate"
ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])
SERVERS = """
[tools.git]
tools.git_status = { profile = "observer" }
tools.git_log    = { profile = "observer" }
tools."git_*"    = { profile = "operator" }

[tools.time]
tools.get_current_time = { profile = "observer" }
tools."*"              = { profile = "operator" }

[tools.everything]
tools.echo      = { profile = "observer" }
tools."get-sum" = { profile = "operator" }
tools.trigger-long-running-operation = { profile = "operator" }
tools."*"       = { profile = "guardian" }

[tools.files]
tools."read_*"  = { profile = "observer" }
tools."list_*"  = { profile = "observer" }
tools."*"       = { profile = "operator" }

[tools.odd]
tools."*" = { profile = "observer" }
"""
REASON = "look at ticket 4711"
SECONDS = 30


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    run(folder, "init")
    text = (folder / "constitution.toml").read_text(encoding="utf-8")
    (folder / "constitution.toml").write_text(text + SERVERS, encoding="utf-8")
    run(folder, "init")
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def run(folder, *words):
    return subprocess.run(
        [VMSTATE, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS
    )


@asynccontextmanager
async def at_gate(folder, server, *command, mode="auto", options=(), env=None, **client):
    gate = StdioServerParameters(
        command=str(VMSTATE),
        args=["gate", "--as", "agent:7", "--server", server, *options, "--", *map(str, command)],
        cwd=folder,
        env=env,
    )
    with (folder / "gate.log").open("w") as log, anyio.fail_after(SECONDS):
        async with Client(stdio_client(gate, errlog=log), mode=mode, **client) as agent:
            yield agent


async def climb(agent, ttl="1h"):
    asked = {"to": "operator", "reason": REASON, "ttl": ttl}
    answer = await agent.call_tool("vmstate_request_escalation", asked)
    assert answer.structured_content["status"] == "granted", answer.content
    return answer.structured_content["lease"]


async def through(agent, tool, arguments, *, free, free_arguments):
    """The whole story with one server: read, be refused, climb, do it, give back, be refused."""
    names = {one.name for one in (await agent.list_tools()).tools}
    assert free in names
    assert tool not in names
    done = await agent.call_tool(free, free_arguments)
    assert not done.is_error, done.content
    refused = await agent.call_tool(tool, arguments)
    assert refused.is_error
    assert refused.structured_content["profile_needed"] == "operator"
    lease = await climb(agent)
    names = {one.name for one in (await agent.list_tools(cache_mode="refresh")).tools}
    assert tool in names
    done = await agent.call_tool(tool, arguments)
    assert not done.is_error, done.content
    await agent.call_tool("vmstate_release", {"lease": lease})
    assert (await agent.call_tool(tool, arguments)).is_error
    return done


@ERAS
async def test_mcp_server_git(folder, mode):
    repo = folder / "repo"
    subprocess.run(["git", "init", "-q", repo], check=True)
    (repo / "a.txt").write_text("a", encoding="utf-8")
    where = {"repo_path": str(repo)}
    command = (sys.executable, "-m", "mcp_server_git", "--repository", repo)
    async with at_gate(folder, "git", *command, mode=mode) as agent:
        await through(
            agent, "git_add", {**where, "files": ["a.txt"]}, free="git_status", free_arguments=where
        )
    staged = subprocess.run(
        ["git", "-C", repo, "diff", "--cached", "--name-only"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert staged.stdout == "a.txt\n"
    assert run(folder, "audit").returncode == 0


async def test_mcp_server_time(folder):
    convert = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    command = (sys.executable, "-m", "mcp_server_time")
    async with at_gate(folder, "time", *command) as agent:
        await through(
            agent,
            "convert_time",
            convert,
            free="get_current_time",
            free_arguments={"timezone": "UTC"},
        )


@ERAS
async def test_server_everything_of_npm(folder, npm_server, mode):
    command = ("node", npm_server("server-everything"), "stdio")
    async with at_gate(folder, "everything", *command, mode=mode) as agent:
        done = await through(
            agent,
            "get-sum",
            {"a": 2, "b": 3},
            free="echo",
            free_arguments={"message": "hello"},
        )
        assert "5" in done.content[0].text


async def test_server_filesystem_of_npm(folder, npm_server):
    shelf = folder / "shelf"
    shelf.mkdir()
    command = ("node", npm_server("server-filesystem"), shelf)
    async with at_gate(folder, "files", *command) as agent:
        await through(
            agent,
            "write_file",
            {"path": str(shelf / "note.txt"), "content": "written"},
            free="list_directory",
            free_arguments={"path": str(shelf)},
        )
    assert (shelf / "note.txt").read_text(encoding="utf-8") == "written"


async def test_the_end_of_a_lease_stops_a_third_partys_long_running_tool(folder, npm_server):
    command = ("node", npm_server("server-everything"), "stdio")
    options = ("--requests", "waiting")
    async with at_gate(folder, "everything", *command, options=options) as agent:
        await climb(agent, ttl="1s")
        began = anyio.current_time()
        answer = await agent.call_tool("trigger-long-running-operation", {"duration": 30})
        assert answer.is_error
        assert answer.structured_content["missing"][0]["kind"] == "profile"
        assert anyio.current_time() - began < 2


# ---- servers that do what no server should ------------------------------------------------------

ODD = Path(__file__).with_name("odd.py")


def odd(how):
    return sys.executable, ODD, how


async def test_garbage_on_a_childs_output_is_dropped_and_never_repeated(folder):
    async with at_gate(folder, "odd", *odd("garbage")) as agent:
        for _ in range(3):
            assert not (await agent.call_tool("babble", {})).is_error
    assert "swordfish" not in (folder / "gate.log").read_text(encoding="utf-8")


async def test_a_child_that_dies_is_an_error_of_each_call_and_the_gate_lives(folder):
    async with at_gate(folder, "odd", *odd("plain")) as agent:
        for tool in ("die", "look", "look"):
            answer = await agent.call_tool(tool, {})
            assert answer.is_error
            assert answer.structured_content == {
                "error": "UpstreamGone",
                "message": "the server behind the gate has ended or can't be reached",
            }
        assert not (await agent.call_tool("vmstate_status", {})).is_error


async def test_an_answer_that_is_none_is_an_error_and_the_gate_lives(folder):
    async with at_gate(folder, "odd", *odd("plain")) as agent:
        answer = await agent.call_tool("lie", {})
        assert answer.is_error
        assert answer.content[0].text.startswith("the server behind the gate answered what is no")
        assert not (await agent.call_tool("look", {})).is_error


async def test_a_server_that_lies_in_its_list_gains_nothing(folder):
    async with at_gate(folder, "odd", *odd("plain")) as agent:
        listed = await agent.list_tools()
        named = [tool.name for tool in listed.tools]
        assert "look\x00" not in named
        assert named.count("vmstate_status") == 1
        status = await agent.call_tool("vmstate_status", {})
        assert status.structured_content["principal"] == "agent:7"


async def test_a_child_gets_the_variables_that_are_named_and_no_others(folder):
    for options, given in (((), "none"), (("--pass-env", "ODD_SECRET"), "swordfish")):
        gate = at_gate(
            folder, "odd", *odd("plain"), options=options, env={"ODD_SECRET": "swordfish"}
        )
        async with gate as agent:
            assert (await agent.call_tool("secret", {})).content[0].text == given


async def test_killing_the_gate_kills_a_child_that_would_not_go(folder):
    gate = subprocess.Popen(
        [VMSTATE, "gate", "--as", "agent:7", "--server", "odd", "--", *odd("stubborn")],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    child = None
    with anyio.fail_after(SECONDS):
        while child is None:
            await anyio.sleep(0.02)
            told = Path(f"/proc/{gate.pid}/task/{gate.pid}/children").read_text(encoding="ascii")
            for pid in told.split():
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
                child = pid if b"odd.py\x00stubborn" in line and b"-c\x00" not in line else None
    gate.kill()
    gate.wait()
    gate.stdin.close()
    gate.stdout.close()
    with anyio.fail_after(5):
        while Path(f"/proc/{child}").exists() and _state(child) != "Z":
            await anyio.sleep(0.01)


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"


# ---- what stops a gate before it stands ---------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("gate", "--as", "agent:7", "--", "cat"), 2, "Missing option '--server'"),
        (("gate", "--as", "agent:7", "--server", "odd"), 2, "either '-- COMMAND…' or '--url URL'"),
        (("gate", "--server", "odd", "--", "cat"), 2, "Missing option '--as'"),
        (
            ("gate", "--as", "agent:7", "--server", "gti", "--", "cat"),
            2,
            "gti is no server under [tools]: there are git, time, everything, files, odd",
        ),
        (("gate", "--as", "mallory", "--server", "odd", "--", "cat"), 3, "mallory is in no group"),
        (
            ("gate", "--as", "agent:7", "--server", "odd", "--", "no-such-thing"),
            2,
            "no-such-thing is no command that can be run",
        ),
        (
            ("gate", "--as", "agent:7", "--server", "odd", "--pass-env", "NOT_SET", "--", "cat"),
            2,
            "NOT_SET is not set: it can't be passed on",
        ),
        (
            ("gate", "--as", "agent:7", "--server", "odd", "--", "true"),
            2,
            "true is no MCP server that answers",
        ),
    ],
)
def test_a_gate_that_can_not_stand_says_why(folder, words, code, message, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["vmstate", *words])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    said = capfd.readouterr().err
    assert (ended.value.code, message in said) == (code, True), said
    assert "Traceback" not in said


def test_a_drills_ledger_at_a_gate_is_an_error(folder):
    law = load_constitution(folder / "constitution.toml")
    mark = DrillMark("drill-1", "DRILL/", f"sha256:{'d' * 64}", {})
    Authority.create(law, folder / "drill.db", drill=mark).close()
    done = run(
        folder, "--ledger", "drill.db", "gate", "--as", "agent:7", "--server", "odd", "--", "cat"
    )
    assert done.returncode == 2
    assert "drill.db is a drill's ledger: its authority is for drills" in done.stderr
