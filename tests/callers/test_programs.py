"""Programs at a socket: the runbook's calls, schedulers beside the service, what a gate claims."""

import os
import pwd
import threading
from datetime import timedelta

import pytest

from vmstate import tools
from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import Call, make_command
from vmstate.errors import InputError, LedgerUnavailable
from vmstate.expiry import Expiry
from vmstate.ledger.store import Ledger
from vmstate.session import close_session

ADA, AGENT = "did:vm:operator:ada", "did:vm:agent:7"
REASON = "look at ticket 4711"


@pytest.fixture
def at_socket(serve, monkeypatch):
    """The runbook's calls of a program whose account is Ada's."""
    service = serve(accounts={ADA: pwd.getpwuid(os.getuid()).pw_name})
    for name in ("DRILL_MODE", "VMSTATE_PRINCIPAL", "VMSTATE_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VMSTATE_SOCKET", str(service.path))
    close_session()
    yield service
    close_session()


def test_the_runbooks_calls_ask_the_service_as_whoever_their_account_is(at_socket):
    climbed = tools.escalate("observer", "operator", "operator_request", reason=REASON)
    assert climbed["success"], climbed["error"]
    assert at_socket.newest().fields["who"] == {"actor": ADA, "principal": ADA, "proof": "peer"}
    claimed = tools.escalate("observer", "guardian", "operator_request", reason=REASON)
    assert "the ledger says" in claimed["error"]
    assert "only named" in tools.escalate_to_phoenix(REASON, approved_by="root")["error"]
    context = tools.cognitive_context(("health", "treasury", "authority"))
    assert context["health"] == {"status": "operational", "faults": [], "drill_mode": "OFF"}
    assert context["treasury"] == {"ceiling": None, "budgets": []}
    assert context["authority"]["profile"] == "operator"
    assert tools.guardian_status()["checkpoint"] == at_socket.vm.heads().note
    assert tools.get_active_escalations()["active_count"] == 1
    ended = tools.deescalate(climbed["escalation_id"])
    assert ended["ended"] == [climbed["escalation_id"]]
    assert tools.get_escalation_history()["count"] == 4
    at_socket.check_audit()


def test_a_service_that_leaves_ends_owed_is_not_in_order(at_socket):
    tools.escalate("observer", "operator", "operator_request", reason=REASON)
    at_socket.wait(hours=1, seconds=4)
    health = tools.cognitive_context()["health"]
    assert health["status"] == "degraded"
    assert health["faults"] == ["giving back is behind: see the oldest overdue lease"]
    at_socket.server.stop()
    health = tools.cognitive_context()["health"]
    assert "nobody answers at" in health["faults"][0]


def test_an_account_of_several_names_has_to_say_which(serve, monkeypatch):
    here = pwd.getpwuid(os.getuid()).pw_name
    service = serve(accounts={ADA: here, AGENT: here})
    monkeypatch.delenv("DRILL_MODE", raising=False)
    monkeypatch.delenv("VMSTATE_PRINCIPAL", raising=False)
    monkeypatch.setenv("VMSTATE_SOCKET", str(service.path))
    close_session()
    with pytest.raises(InputError, match=f"it may be {AGENT} or {ADA}"):
        tools.get_active_escalations()
    monkeypatch.setenv("VMSTATE_PRINCIPAL", AGENT)
    assert tools.get_active_escalations()["active_count"] == 0
    close_session()


def test_where_the_host_is_not_believed_no_scheduler_but_the_services_writes(serve):
    service = serve(host=False)
    service.at("ada").escalate(
        ADA, "operator", trigger="operator_request", reason=REASON, ttl=timedelta(seconds=1)
    ).raise_for_denial()
    size = service.vm.size()
    clock = VirtualClock(service.now + timedelta(seconds=2))
    other = Authority(service.vm.constitution, Ledger.open(service.vm.ledger.path), clock=clock)
    service.closing.callback(other.close)
    refused, settle = threading.Event(), other.settle

    def observed(*args, **fields):
        try:
            return settle(*args, **fields)
        except LedgerUnavailable:
            refused.set()
            raise

    other.settle = observed
    expiry = Expiry(other)
    expiry.start()
    assert refused.wait(10)
    expiry.stop()
    assert "vmstate serve alone writes it" in expiry.health().fault
    assert service.vm.size() == size
    assert not other.may(ADA, "operator")  # over is over, whoever may write it down


def test_what_a_gate_alone_was_told_is_reported_and_can_only_refuse(service):
    claim = Unmet("tools.git", "tool_malformed", "at most 9 bytes", "10 bytes", "send less")
    asked = {"principal": AGENT, "server": "git", "name": "push", "arguments": f"sha256:{'0' * 64}"}
    call = make_command(Call, {**asked, "claims": (claim,)})
    receipt = service.at("agent").submit(call)
    assert receipt.unmet[0] == claim
    assert receipt.fields["who"]["proof"] == "peer"
