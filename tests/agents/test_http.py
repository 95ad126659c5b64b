"""Over HTTP the token says who calls; one gate may stand behind another."""

import getpass
import re
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from typed import typed

from vmstate.authority import Authority
from vmstate.constitution.loading import load_constitution
from vmstate.interfaces.cli import main as cli

pytestmark = pytest.mark.anyio
VMSTATE = Path(sys.executable).with_name("vmstate")
ODD = Path(__file__).with_name("odd.py")
SECONDS = 30
TOKEN, OTHER = "swordfish-swordfish-swordfish", "starfish-starfish-starfish"


@pytest.fixture
def folder(tmp_path, law_text):
    text = law_text() + '\n[tools.inner]\ntools."*" = { profile = "observer" }\n'
    text += 'tools.change = { profile = "operator" }\n'
    (tmp_path / "constitution.toml").write_text(text, encoding="utf-8")
    law = load_constitution(tmp_path / "constitution.toml")
    Authority.create(law, tmp_path / "vmstate.db").close()
    return tmp_path


async def first_line(process):
    """What it says first, which it does once it is there; nothing if that takes too long."""
    with anyio.move_on_after(SECONDS):
        return await anyio.to_thread.run_sync(process.stderr.readline, abandon_on_cancel=True)
    return ""


def ended(process):
    """The code with which it ends, after it was told to; it is killed if that takes too long."""
    try:
        return process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


@asynccontextmanager
async def listening(folder, *words, verb="gate", **environment):
    """A gate or server that listens; gives its address, and ends it by SIGTERM."""
    gate = subprocess.Popen(
        [VMSTATE, verb, "--listen", "127.0.0.1:0", *words],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", **environment},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = await first_line(gate)
        found = re.search(r"http://\S+/mcp", line)
        assert found, line
        yield found[0]
    finally:
        gate.send_signal(signal.SIGTERM)
        code = ended(gate)
        said = gate.stderr.read()
        gate.stderr.close()
    assert (code, said) == (0, "")


def odd_server(*options):
    return ("--server", "inner", *options, "--", sys.executable, ODD, "plain")


@asynccontextmanager
async def client_of(url, token, mode="auto"):
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=SECONDS) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


def ledger(folder):
    return Authority.open(folder / "constitution.toml", folder / "vmstate.db")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_two_agents_at_one_gate_each_have_what_is_theirs(folder, mode):
    async with (
        listening(folder, *odd_server()) as url,
        client_of(url, TOKEN, mode) as web,
        client_of(url, OTHER, mode) as other,
    ):
        for agent, name in ((web, "agent:web"), (other, "agent:other")):
            status = await agent.call_tool("vmstate_status", {})
            assert status.structured_content["principal"] == name
        asked = {"to": "operator", "reason": "look at ticket 4711"}
        await web.call_tool("vmstate_request_escalation", asked)
        held = [
            (await agent.call_tool("vmstate_status", {})).structured_content["profile"]
            for agent in (web, other)
        ]
        assert held == ["operator", "observer"]
        assert not (await other.call_tool("look", {})).is_error
    vm = ledger(folder)
    granted = vm.receipts(type_="profile_escalation")[0].fields["who"]
    assert granted == {"actor": "agent:web", "principal": "agent:web", "proof": "token"}
    (counted,) = vm.receipts(type_="tool_call")
    assert counted.fields["who"]["principal"] == "agent:other"
    vm.close()


async def test_a_token_for_nobody_is_turned_away_on_the_record_and_never_repeated(folder):
    async with listening(folder, *odd_server()) as url:
        async with httpx2.AsyncClient() as http:
            for headers in ({}, *({"Authorization": "Bearer jellyfish-jellyfish"},) * 30):
                answer = await http.post(url, json={}, headers=headers)
                assert answer.status_code == 401
                assert "jellyfish" not in answer.text
        async with client_of(url, TOKEN) as agent:
            assert not (await agent.call_tool("vmstate_status", {})).is_error
    vm = ledger(folder)
    denials = vm.receipts(denied=True)
    assert [one.fields["who"]["principal"] for one in denials] == ["token:unknown"] * 2
    assert denials[0].unmet[0].code == "token_unknown"
    assert denials[0].unmet[0].message == (
        "somebody came with a token that is nobody's, needs the token of somebody"
    )
    assert denials[1].unmet[0].code == "tool_repeated"
    vm.close()
    for path in folder.rglob("*"):
        assert path.is_dir() or b"jellyfish" not in path.read_bytes()


async def test_authority_itself_is_served_to_each_agent_as_its_own(folder):
    async with (
        listening(folder, verb="mcp") as url,
        client_of(url, TOKEN) as web,
        client_of(url, OTHER) as other,
    ):
        asked = {"to": "operator", "reason": "look at ticket 4711"}
        answer = await web.call_tool("request_escalation", asked)
        lease = answer.structured_content["lease"]
        stolen = await other.call_tool("deescalate", {"escalation_id": lease})
        assert stolen.is_error
        active = await other.call_tool("get_active_escalations", {})
        assert active.structured_content["active_count"] == 0
        given = await web.call_tool("deescalate", {"escalation_id": lease})
        assert given.structured_content["success"]
    vm = ledger(folder)
    assert vm.receipts(type_="profile_escalation")[0].fields["who"]["proof"] == "token"
    vm.close()


@asynccontextmanager
async def serving(folder):
    """`vmstate serve` over the ledger, which nobody else may write; gives what names its socket."""
    path = folder / "constitution.toml"
    bound = f'\n[principals."gate:1"]\naccount = "{getpass.getuser()}"\n'
    text = f"{path.read_text(encoding='utf-8')}{bound}[callers]\nhost = false\n"
    path.write_text(text, encoding="utf-8")
    assert typed("init", at=folder).code == 0
    words = [VMSTATE, "serve", "--socket", "door"]
    serve = subprocess.Popen(
        words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert await first_line(serve)
        yield {"VMSTATE_SOCKET": "door"}
    finally:
        serve.terminate()
        ended(serve)
        serve.stderr.close()


def written(folder):
    """What stands on record since the law was adopted: its type, and who."""
    vm = ledger(folder)
    told = [(one.type, one.fields["who"]) for one in vm.receipts(after=1)]
    vm.close()
    return told


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_at_a_socket_each_agent_is_known_by_the_token_that_it_showed(folder, mode):
    async with (
        serving(folder) as socket,
        listening(folder, *odd_server(), **socket) as url,
        client_of(url, TOKEN, mode) as web,
        client_of(url, OTHER, mode) as other,
    ):
        asked = {"to": "operator", "reason": "look at ticket 4711"}
        answer = await web.call_tool("vmstate_request_escalation", asked)
        assert answer.structured_content["status"] == "granted"
        held = [
            (await agent.call_tool("vmstate_status", {})).structured_content["profile"]
            for agent in (web, other)
        ]
        assert held == ["operator", "observer"]
        assert not (await web.call_tool("change", {})).is_error
        refused = (await other.call_tool("change", {})).structured_content
        assert refused["profile_needed"] == "operator"
        assert not (await other.call_tool("look", {})).is_error
    assert [(type_, who["principal"], who["proof"]) for type_, who in written(folder)] == [
        ("profile_escalation", "agent:web", "token"),
        ("tool_call", "agent:web", "token"),
        ("auth_failure", "agent:other", "token"),
        ("tool_call", "agent:other", "token"),
    ]
    for path in folder.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


async def test_at_a_socket_a_token_for_nobody_is_turned_away_on_the_record(folder):
    async with serving(folder) as socket, listening(folder, *odd_server(), **socket) as url:
        async with httpx2.AsyncClient() as http:
            for _ in range(3):
                headers = {"Authorization": "Bearer jellyfish-jellyfish"}
                assert (await http.post(url, json={}, headers=headers)).status_code == 401
        async with client_of(url, TOKEN) as agent:
            assert not (await agent.call_tool("vmstate_status", {})).is_error
    vm = ledger(folder)
    first, *others = vm.receipts(denied=True)
    vm.close()
    assert first.fields["who"]["proof"] == "none"
    assert "token_unknown" in {one.code for one in first.unmet}
    assert len(others) == 1


async def test_at_a_socket_authority_itself_is_served_to_each_agent_as_its_own(folder):
    async with (
        serving(folder) as socket,
        listening(folder, verb="mcp", **socket) as url,
        client_of(url, TOKEN) as web,
        client_of(url, OTHER) as other,
    ):
        asked = {"to": "operator", "reason": "look at ticket 4711"}
        answer = await web.call_tool("request_escalation", asked)
        lease = answer.structured_content["lease"]
        stolen = await other.call_tool("deescalate", {"escalation_id": lease})
        assert stolen.is_error
        given = await web.call_tool("deescalate", {"escalation_id": lease})
        assert given.structured_content["success"]
    assert {who["proof"] for _, who in written(folder)} == {"token"}


async def test_a_gate_at_an_address_has_its_token_and_the_agent_has_not(folder, tmp_path, law_text):
    outer = tmp_path / "outer"
    outer.mkdir()
    text = law_text() + '\n[tools.far]\ntools.look = { profile = "observer" }\n'
    (outer / "constitution.toml").write_text(text, encoding="utf-8")
    Authority.create(load_constitution(outer / "constitution.toml"), outer / "vmstate.db").close()
    async with listening(folder, *odd_server()) as inner:
        words = ("--server", "far", "--url", inner, "--token-env", "FAR_TOKEN")
        async with (
            listening(outer, *words, FAR_TOKEN=OTHER) as url,
            client_of(url, TOKEN) as agent,
        ):
            listed = {tool.name for tool in (await agent.list_tools()).tools}
            assert "look" in listed
            assert "die" not in listed
            assert not (await agent.call_tool("look", {})).is_error
    vm = ledger(folder)
    assert vm.receipts(type_="tool_call")[0].fields["who"]["principal"] == "agent:other"
    vm.close()
    for path in outer.rglob("*"):
        assert path.is_dir() or OTHER.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--listen", "here", "--", "cat"), "'here' is no address to listen at"),
        (("--listen", "127.0.0.1:99999", "--", "cat"), "'127.0.0.1:99999' is no address"),
        (
            ("--url", "http://127.0.0.1:1/mcp", "--as", "agent:7"),
            "http://127.0.0.1:1/mcp is no MCP server that answers",
        ),
        (
            ("--url", "http://127.0.0.1:1/mcp", "--as", "agent:7", "--token-env", "NOT_SET"),
            "NOT_SET is not set: it has to hold the server's token",
        ),
    ],
)
def test_an_address_that_is_none_is_told(folder, words, message, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["vmstate", "gate", "--server", "inner", *words])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    said = capfd.readouterr().err
    assert (ended.value.code, message in said) == (2, True), said
    assert "Traceback" not in said
