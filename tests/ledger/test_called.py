"""An insider who has the log's key can't say that a call was allowed which the law does not."""

from datetime import UTC, datetime

import pytest

from vmstate import canonical
from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.decisions.command import Call, Tally, make_command
from vmstate.ledger.replay import Replay

LAW = b"""
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
[endings.timeout_expired]
to = "previous"
[tools.git]
approvers = ["approvers"]
tools.look = { profile = "observer" }
tools."change*" = { profile = "operator" }
tools.change_all = { profile = "operator", each_call = true }
"""
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
        replay.read(canonical.encode(said))
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
    ],
)
def test_a_call_that_the_law_does_not_allow_is_found(bodies, change, what):
    bodies[-1]["what"]["detail"] |= change
    assert what in found(bodies)


def test_a_call_without_the_lease_that_it_takes_is_found(bodies):
    bodies[-1]["what"]["lease"] = None
    assert "lets observer call what takes operator" in found(bodies)
