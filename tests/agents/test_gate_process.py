"""The gate as a process of its own: stdio on both sides, third parties' servers behind it."""

import getpass
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from typed import typed

from vmstate.authority import Authority
from vmstate.constitution.loading import load_constitution
from vmstate.interfaces.cli import main as cli
from vmstate.interfaces.keeper import children
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

[tools.odd]
tools."*"    = { profile = "observer" }
tools.change = { profile = "operator" }
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
    return typed(*words, at=folder)


@asynccontextmanager
async def at_gate(folder, server, *command, mode="auto"):
    gate = StdioServerParameters(
        command=str(VMSTATE),
        args=["gate", "--as", "agent:7", "--server", server, "--", *map(str, command)],
        cwd=folder,
    )
    with (folder / "gate.log").open("w") as log, anyio.fail_after(SECONDS):
        async with Client(stdio_client(gate, errlog=log), mode=mode) as agent:
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
    assert run(folder, "audit").code == 0


async def test_a_gate_at_the_socket_of_serve_is_believed_as_the_account_it_runs_under(folder):
    text = (folder / "constitution.toml").read_text(encoding="utf-8")
    account = getpass.getuser()
    text += f'\n[principals."agent:7"]\naccount = "{account}"\n\n[callers]\nhost = false\n'
    (folder / "constitution.toml").write_text(text, encoding="utf-8")
    run(folder, "init")
    serve = subprocess.Popen(
        [VMSTATE, "serve", "--socket", "door"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        serve.stderr.readline()
        command = ("--socket", "door", "gate", "--as", "agent:7", "--server", "odd", "--")
        gate = StdioServerParameters(
            command=str(VMSTATE), args=[*command, *map(str, odd("plain"))], cwd=folder
        )
        with (folder / "gate.log").open("w") as log, anyio.fail_after(SECONDS):
            async with Client(stdio_client(gate, errlog=log)) as agent:
                await climb(agent)
                assert not (await agent.call_tool("change", {})).is_error
    finally:
        serve.terminate()
        serve.wait(SECONDS)
        serve.stderr.close()
    vm = Authority.open(folder / "constitution.toml", folder / "vmstate.db")
    called = vm.receipts(type_="tool_call")
    vm.close()
    assert [one.fields["who"]["proof"] for one in called] == ["peer"]


# ---- a gate that is killed ----------------------------------------------------------------------

ODD = Path(__file__).with_name("odd.py")


def odd(how):
    return sys.executable, ODD, how


@pytest.mark.parametrize(
    "command",
    [
        odd("stubborn"),
        ("sh", "-c", f"{sys.executable} {ODD} stubborn; :"),
        ("sh", "-c", f"setsid {sys.executable} {ODD} stubborn; :"),
    ],
    ids=["directly", "through a shell", "in a session of its own"],
)
async def test_killing_the_gate_kills_a_child_that_would_not_go(folder, command):
    gate = subprocess.Popen(
        [VMSTATE, "gate", "--as", "agent:7", "--server", "odd", "--", *command],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    child = None
    with anyio.fail_after(SECONDS):
        while child is None:
            await anyio.sleep(0.02)
            child = next(filter(_is_server, _below(gate.pid)), None)
    gate.kill()
    gate.wait()
    gate.stdin.close()
    gate.stdout.close()
    with anyio.fail_after(5):
        while _state(child) != "Z":
            await anyio.sleep(0.01)
    assert _state(child) == "Z"


async def test_what_a_server_leaves_running_ends_with_it(folder):
    target = ("sh", "-c", f"setsid sleep 600 & echo $! >left; exec {sys.executable} {ODD} plain")
    async with at_gate(folder, "odd", *target) as agent:
        assert not (await agent.call_tool("look", {})).is_error
        left = int((folder / "left").read_text(encoding="ascii"))
        assert _state(left) != "Z"
    with anyio.fail_after(5):
        while _state(left) != "Z":
            await anyio.sleep(0.01)


def _below(pid):
    """Every process that came of it."""
    for child in children(pid):
        yield child
        yield from _below(child)


def _is_server(pid):
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[1:3] == [str(ODD).encode(), b"stubborn"]


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
            "gti is no server under [tools]: there are git, odd",
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
        (
            ("gate", "--as", "agent:7", "--server", "odd", "--answer-within", "soon", "--", "cat"),
            2,
            "'soon' is not a duration, write '15m' or '1h30m'",
        ),
        (
            ("gate", "--as", "agent:7", "--server", "odd", "--url", "http://me:swordfish@[::1]:1"),
            2,
            "the address has a name or password in it: put the server's token in a variable",
        ),
        (
            ("gate", "--as", "agent:7", "--server", "odd", "--url", "http://[::1]:1/a?k=swordfish"),
            2,
            "http://[::1]:1/a is no MCP server that answers",
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
    assert "swordfish" not in said


def test_a_drills_ledger_at_a_gate_is_an_error(folder):
    law = load_constitution(folder / "constitution.toml")
    mark = DrillMark("drill-1", "DRILL/", f"sha256:{'d' * 64}", {})
    Authority.create(law, folder / "drill.db", drill=mark).close()
    done = run(
        folder, "--ledger", "drill.db", "gate", "--as", "agent:7", "--server", "odd", "--", "cat"
    )
    assert done.code == 2
    assert "drill.db is a drill's ledger: its authority is for drills" in done.err


def test_a_gate_on_a_ledger_that_it_may_not_write_does_not_start(tmp_path):
    run(tmp_path, "init")
    law = tmp_path / "constitution.toml"
    text = f"{law.read_text(encoding='utf-8')}{SERVERS}[callers]\nhost = false\n"
    law.write_text(text, encoding="utf-8")
    assert run(tmp_path, "init").code == 0
    done = run(tmp_path, "gate", "--server", "odd", "--as", "agent:7", "--", "cat")
    assert done.code == 6
    assert "[callers] host = false, so vmstate serve alone writes it" in done.err
