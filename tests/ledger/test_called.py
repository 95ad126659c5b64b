"""An insider who has the log's key can't say that a call was allowed which the law does not."""

from datetime import UTC, datetime

import pytest

from vmstate import canonical
from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.decisions.command import Call, Tally, make_command
from vmstate.decisions.statements import prepare_call
from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.replay import Replay
from vmstate.signing import new_nonce

CAROL = PrivateKey.derive("carol")
LAW = """
[constitution]
name = "calls"
version = "1"
baseline = "observer"
[groups]
agents = ["agent:*"]
approvers = ["carol"]
[profiles.observer]
[profiles.operator]
above = "observer"
[escalations.up]
from = "observer"
to = "operator"
trigger = "operator_request"
ttl = "1h"
[principals.carol]
key = "CAROL"
[endings.timeout_expired]
to = "previous"
[requests]
waits = "1h"
usable_for = "15m"
open_at_most = 3
[tools.git]
approvers = ["approvers"]
tools.look = { profile = "observer" }
tools."change*" = { profile = "operator" }
tools.change_all = { profile = "operator", each_call = true }
""".replace("CAROL", str(CAROL.public)).encode()
DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture
def bodies(tmp_path):
    """A ledger's receipts: the law, a lease, a call under it, and a count of others."""
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    vm = Authority.create(read_constitution(LAW), tmp_path / "ledger.db", clock=clock)
    asked = {"principal": "agent:7", "server": "git", "arguments": DIGEST}
    assert vm.escalate("agent:7", "operator", trigger="operator_request").granted
    since = {"count": 3, "since": "2026-01-01T00:00:00.000000Z"}
    assert vm.submit(make_command(Tally, {**asked, **since, "name": "look"})).granted
    assert vm.submit(make_command(Call, {**asked, "name": "change_one"})).granted
    written = [receipt.fields for receipt in vm.receipts()]
    vm.close()
    return written


def found(bodies):
    law = read_constitution(LAW)
    replay = Replay(law=law, origin=bodies[0]["node"], find_law=lambda _: law)
    for said in bodies:
        replay.read(Receipt(canonical.encode(said)))
    return [finding.what for finding in replay.findings]


def test_calls_that_the_law_allows_are_borne_out(bodies):
    assert found(bodies) == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"name": "rm"}, "lets 'rm' be called, which [tools] does not list"),
        ({"server": "gti"}, "lets 'change_one' be called, which [tools] does not list"),
        (
            {"name": "look"},
            "names 'tools.git.tools.\"change*\"', another rule decides about 'look'",
        ),
        ({"count": 2}, "tells calls together that each need a receipt"),
        ({"name": "change_all"}, "lets a call be made that nobody approved"),
        ({"name": "change_all"}, "lets a call be made that no request is for"),
    ],
)
def test_a_call_that_the_law_does_not_allow_is_found(bodies, change, what):
    bodies[-1]["what"]["detail"] |= change
    assert what in found(bodies)


def test_a_call_without_the_lease_that_it_takes_is_found(bodies):
    bodies[-1]["what"]["lease"] = None
    assert "lets observer call what takes operator" in found(bodies)


# ---- single calls -------------------------------------------------------------------------------


@pytest.fixture
def single(tmp_path):
    """A ledger's receipts: the law, a lease, a request for one call, its approval, the call."""
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    vm = Authority.create(read_constitution(LAW), tmp_path / "ledger.db", clock=clock)
    assert vm.escalate("agent:7", "operator", trigger="operator_request").granted
    asked = {"principal": "agent:7", "server": "git", "name": "change_all", "arguments": DIGEST}
    command = make_command(Call, asked)
    request = prepare_call(vm.constitution, vm.origin, command, nonce=new_nonce())
    command = command.model_copy(update={"request": request})
    assert vm.submit(command).type == "request"
    vm.approve(request.id, "carol", CAROL).raise_for_denial()
    assert vm.submit(command).type == "tool_call"
    assert audit_ledger(vm.ledger).findings == ()
    written = [receipt.fields for receipt in vm.receipts()]
    vm.close()
    return written


OPENED, APPROVED, CALLED = 2, 3, 4


def test_a_single_call_by_a_request_of_its_own_is_borne_out(single):
    assert found(single) == []


@pytest.mark.parametrize(
    ("seq", "path", "value", "what"),
    [
        (
            OPENED,
            ("authority", "rule"),
            "up",
            "waits for a call that 'up' does not allow",
        ),
        (
            OPENED,
            ("what", "from"),
            "observer",
            "waits for a call that 'tools.git.tools.\"change_all\"' does not allow",
        ),
        (
            OPENED,
            ("what", "detail", "waits_until"),
            "2026-01-01T02:00:00.000000Z",
            "waits for another time than [requests] says",
        ),
        (
            OPENED,
            ("authority", "facts", "name"),
            "change_one",
            "opens a request that is not what it says",
        ),
        (
            APPROVED,
            ("what", "detail", "state"),
            "pending",
            "leaves a request pending, which does not follow",
        ),
        (
            APPROVED,
            ("outcome",),
            "denied",
            "rests on a statement by 'carol' that was not handed in",
        ),
        (CALLED, ("at",), "2026-01-01T00:16:00.000000Z", "uses a request that was over"),
        (
            CALLED,
            ("authority", "rule"),
            "up",
            "activates a request for 'tools.git.tools.\"change_all\"' by another rule",
        ),
        (
            CALLED,
            ("what", "detail", "name"),
            "change_one",
            "names 'tools.git.tools.\"change_all\"', another rule decides about 'change_one'",
        ),
        (
            CALLED,
            ("authority", "facts", "server"),
            "gti",
            "lets a call be made that no request is for",
        ),
        (
            CALLED,
            ("authority", "approvals"),
            [],
            "lets a call be made that nobody approved",
        ),
    ],
)
def test_a_single_call_that_does_not_follow_is_found(single, seq, path, value, what):
    *way, last = path
    place = single[seq]
    for key in way:
        place = place[key]
    assert last in place
    place[last] = value
    assert what in found(single)


def test_a_single_call_that_is_made_twice_is_found(single):
    again = {**single[CALLED], "seq": CALLED + 1}
    assert f"uses what receipt {CALLED} used" in found([*single, again])
