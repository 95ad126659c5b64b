"""The hook of an agent program: JSON in, allow, deny or ask out, and never a failure."""

import io
import json
import sys

import pytest

from vmstate.authority import Authority
from vmstate.constitution.loading import load_constitution
from vmstate.interfaces.cli import main as cli
from vmstate.ledger.store import DrillMark

LOCAL = """
[tools.local]
tools.Read = { profile = "observer" }
tools.Bash = { profile = "operator" }
"""


@pytest.fixture
def folder(tmp_path, law_text, monkeypatch):
    text = law_text() + LOCAL
    (tmp_path / "constitution.toml").write_text(text, encoding="utf-8")
    law = load_constitution(tmp_path / "constitution.toml")
    Authority.create(law, tmp_path / "vmstate.db").close()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ask_hook(folder, monkeypatch, capsys):
    """Run the hook in `folder` on `call`; gives the decision and its reason."""
    assert (folder / "vmstate.db").exists()

    def ask(call, *words):
        data = call if isinstance(call, bytes) else json.dumps(call).encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        words = words or ("--as", "agent:7")
        monkeypatch.setattr(sys, "argv", ["vmstate", "hook", "pre-tool-use", *words])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        assert ended.value.code == 0
        said = json.loads(capsys.readouterr().out)["hookSpecificOutput"]
        assert said["hookEventName"] == "PreToolUse"
        return said["permissionDecision"], said["permissionDecisionReason"]

    return ask


def bash(command="ls"):
    return {"tool_name": "Bash", "tool_input": {"command": command}}


def open_ledger(folder):
    return Authority.open(folder / "constitution.toml", folder / "vmstate.db")


def test_what_everybody_may_run_is_allowed(ask_hook):
    decision, reason = ask_hook({"tool_name": "Read", "tool_input": {"path": "a"}})
    assert (decision, reason) == ("allow", "allowed by vmstate")


def test_what_needs_more_is_denied_with_the_way_up_and_allowed_under_a_lease(folder, ask_hook):
    decision, reason = ask_hook(bash())
    assert decision == "deny"
    assert reason.startswith('Denied by tools.local.tools."Bash": needs operator')
    assert '"vmstate_request_escalation"' in reason
    vm = open_ledger(folder)
    asked = {"trigger": "operator_request", "reason": "look at ticket 4711"}
    assert vm.escalate("agent:7", "operator", **asked).granted
    vm.close()
    assert ask_hook(bash())[0] == "allow"
    assert ask_hook(bash(), "--as", "agent:7", "--ask")[0] == "ask"
    vm = open_ledger(folder)
    assert len(vm.receipts(type_="tool_call")) == 2
    vm.close()


def test_the_tool_of_an_mcp_server_is_decided_by_that_servers_table(ask_hook):
    assert ask_hook({"tool_name": "mcp__desk__look", "tool_input": {}})[0] == "allow"
    decision, reason = ask_hook({"tool_name": "mcp__far__look", "tool_input": {}})
    assert (decision, reason.split(":")[0]) == ("deny", "Denied by tools")


def test_a_call_that_a_person_must_approve_is_denied_and_not_asked_of_the_user(folder, ask_hook):
    vm = open_ledger(folder)
    asked = {"trigger": "operator_request", "reason": "look at ticket 4711"}
    vm.escalate("agent:7", "operator", **asked)
    vm.close()
    words = ("--as", "agent:7", "--ask")
    decision, reason = ask_hook({"tool_name": "mcp__desk__wipe", "tool_input": {}}, *words)
    assert decision == "deny"
    told = json.loads(reason[reason.index("{") :])
    assert told["status"] == "pending"
    again = ask_hook({"tool_name": "mcp__desk__wipe", "tool_input": {}}, *words)[1]
    assert json.loads(again[again.index("{") :])["request"] == told["request"]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (b"", "the call is not JSON"),
        (b"[]", "the call is no JSON object"),
        (b'{"tool_name": 7}', "the call has no tool_name that is text"),
        (b'{"tool_name": "Read", "tool_input": []}', "the call has no tool_name that is text"),
        (b"\xff\xfe", "the call is not JSON"),
        (b"[" * 100_000, "RecursionError"),
    ],
)
def test_what_is_no_call_is_denied(ask_hook, call, reason):
    decision, said = ask_hook(call)
    assert decision == "deny"
    assert said.startswith(f"vmstate can't decide: {reason}")


def test_without_a_ledger_or_a_name_everything_is_denied(folder, ask_hook, monkeypatch):
    monkeypatch.delenv("VMSTATE_PRINCIPAL", raising=False)
    assert ask_hook(bash(), "--server", "local") == (
        "deny",
        "vmstate can't decide: Missing option '--as': give --as NAME, or set VMSTATE_PRINCIPAL.",
    )
    (folder / "vmstate.db").unlink()
    decision, reason = ask_hook(bash())
    assert decision == "deny"
    assert "there is no ledger vmstate.db" in reason


def test_a_drills_ledger_decides_nothing_real(folder, ask_hook):
    law = load_constitution(folder / "constitution.toml")
    mark = DrillMark("drill-1", "DRILL/", f"sha256:{'d' * 64}", {})
    Authority.create(law, folder / "drill.db", drill=mark).close()
    decision, reason = ask_hook(bash(), "--as", "agent:7", "--ledger", "drill.db")
    assert decision == "deny"
    assert "drill.db is a drill's ledger" in reason
