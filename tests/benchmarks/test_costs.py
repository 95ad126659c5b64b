"""What it costs, as ratios against a peer in the same run: `pytest -m benchmark -s`.

Nothing here fails for being slow: machines are shared and noisy, and a reader judges a ratio.
"""

import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from transitions import Machine

from vmstate import Authority, VirtualClock, load_constitution
from vmstate.clock import Moment
from vmstate.constitution.guards import Case
from vmstate.decisions.command import Escalate, make_command
from vmstate.decisions.decider import Decider
from vmstate.decisions.decision import State
from vmstate.leases.lease import LeaseStack
from vmstate.leases.watermark import Watermark
from vmstate.ledger.snapshot import Scope

pytestmark = pytest.mark.benchmark

ROOT = Path(__file__).parent.parent.parent
START = datetime(2026, 1, 1, tzinfo=UTC)
ROUNDS = 15


def per_call_us(function, count=2_000):
    began = time.perf_counter()
    for _ in range(count):
        function()
    return (time.perf_counter() - began) / count * 1e6


def compare(name, target, function, peer):
    """Both in turn, several times; prints the median of the ratios."""
    ratios, costs = [], []
    for _ in range(ROUNDS):
        ours, theirs = per_call_us(function), per_call_us(peer)
        ratios.append(ours / theirs)
        costs.append(ours)
    ratio, cost = statistics.median(ratios), statistics.median(costs)
    print(f"\n{name}: {ratio:.1f}x its peer (target {target}), {cost:.1f} us")


@pytest.fixture(scope="module")
def law():
    return load_constitution(ROOT / "constitution.toml")


def test_an_attempt_with_three_guards_beside_a_bare_trigger(law):
    machine = law.machine()
    facts = {"threat.confidence": Decimal("0.92"), "threat.type": "malware"}
    case = Case("did:vm:agent:7", law.people, facts=facts)

    class Seat:
        state = "operator"

    bare = Machine(model=None, states=["operator", "guardian"], initial="operator")
    bare.add_transition("go", "operator", "guardian", conditions=[lambda: True] * 3)
    compare(
        "attempt, three guards",
        "2x",
        lambda: machine.attempt("operator", "guardian", "threat_detected", case),
        lambda: bare.events["go"].trigger(Seat()),
    )


def test_a_whole_decision_beside_a_bare_trigger(law):
    decider = Decider(law, origin="vaultmesh/benchmark")
    now = Moment(START, "boot", 0)
    state = State("did:vm:agent:7", LeaseStack("observer", Watermark(now)), next_seq=1)
    fields = {"principal": "did:vm:agent:7", "to": "operator", "trigger": "operator_request"}
    command = make_command(Escalate, {**fields, "reason": "measure a decision"})

    class Seat:
        state = "operator"

    bare = Machine(model=None, states=["operator", "guardian"], initial="operator")
    bare.add_transition("go", "operator", "guardian", conditions=[lambda: True] * 3)
    compare(
        "decision with lease and entry",
        "2x, for the attempt alone",
        lambda: decider.decide(state, command, now),
        lambda: bare.events["go"].trigger(Seat()),
    )


PRINCIPALS = 100_000


@pytest.fixture(scope="module")
def crowd(law, tmp_path_factory):
    """A live ledger in which a hundred thousand agents hold OPERATOR, and their names."""
    vm = Authority.create(law, tmp_path_factory.mktemp("crowd") / "ledger.db")
    names = [f"did:vm:agent:{number}" for number in range(PRINCIPALS)]
    decider = Decider(law, origin=vm.origin)
    asked = {"to": "operator", "trigger": "operator_request", "reason": "one of a great many"}

    def grant_all(transaction):
        for name in names:
            now = vm.clock.read()
            state = transaction.state(name, Scope("observer", (name,)))
            command = make_command(Escalate, {"principal": name, **asked})
            transaction.append(decider.decide(state, command, now).answer, now)

    vm.ledger.transact(grant_all)
    yield vm, names
    vm.close()


def random_names(names):
    """Names in an order that repeats in every run, for ever."""
    return itertools.cycle(random.Random(7).sample(names, len(names)))  # noqa: S311 -- an order


def test_may_beside_a_dictionary_and_a_deadline(crowd):
    vm, names = crowd
    deadlines = dict.fromkeys(names, datetime.now(UTC) + timedelta(hours=1))  # noqa: TID251 -- peer
    for name in names:
        assert vm.may(name, "operator")
    ours, theirs = random_names(names), random_names(names)
    compare(
        "may() on a live ledger, 100k principals at random",
        "25x",
        lambda: vm.may(next(ours), "task.execute"),
        lambda: datetime.now(UTC) < deadlines[next(theirs)],  # noqa: TID251 -- the peer
    )
    began = time.perf_counter()
    vm._kept.held.clear()
    for name in names[:10_000]:
        vm.may(name, "operator")
    cost = (time.perf_counter() - began) / 10_000 * 1e6
    print(f"\nmay() once anything was written: {cost:.1f} us for each principal's next answer")


def test_may_beside_policy_engines(crowd):
    """Both engines have read policies and members before; neither knows when a role ends.

    cedarpy is asked as well with the text of both at each call, which is what its guide shows.
    """
    cedarpy = pytest.importorskip("cedarpy", reason="pip install 'vmstate[benchmark]'")
    casbin = pytest.importorskip("casbin", reason="pip install 'vmstate[benchmark]'")
    vm, names = crowd
    few = names[:10_000]
    model = casbin.Model()
    model.load_model_from_text(
        "[request_definition]\nr = sub, obj, act\n[policy_definition]\np = sub, obj, act\n"
        "[role_definition]\ng = _, _\n[policy_effect]\ne = some(where (p.eft == allow))\n"
        "[matchers]\nm = g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act\n"
    )
    enforcer = casbin.Enforcer(model)
    enforcer.add_policy("operator", "task", "execute")
    for name in few:
        enforcer.add_role_for_user(name, "operator")
    policy = 'permit(principal in Group::"operator", action == Action::"execute", resource);'
    group = {"type": "Group", "id": "operator"}
    role = {"uid": group, "attrs": {}, "parents": []}
    members = {
        name: {"uid": {"type": "User", "id": name}, "attrs": {}, "parents": [group]} for name in few
    }
    read = cedarpy.PolicySet.from_str(policy)
    known = cedarpy.Entities.from_json_str(json.dumps([role, *members.values()]))

    def cedar(policies, entities_of):
        name = next(ours)
        asked = {"principal": f'User::"{name}"', "action": 'Action::"execute"'}
        asked |= {"resource": 'Task::"one"', "context": {}}
        return cedarpy.is_authorized(asked, policies, entities_of(name)).allowed

    ours = random_names(few)
    for name in few:
        assert vm.may(name, "operator")  # what may() has read before, as they have
    peers = {
        "cedarpy": lambda: cedar(read, lambda _: known),
        "cedarpy, given text": lambda: cedar(policy, lambda name: [role, members[name]]),
        "pycasbin": lambda: enforcer.enforce(next(ours), "task", "execute"),
    }
    for name, ask in peers.items():
        assert ask()
        ratios, costs = [], []
        for _ in range(ROUNDS):
            mine = per_call_us(lambda: vm.may(next(ours), "task.execute"))
            costs.append(per_call_us(ask, 500))
            ratios.append(costs[-1] / mine)
        ratio, cost = statistics.median(ratios), statistics.median(costs)
        print(f"\nmay() is {ratio:.1f}x as fast as {name} (target 20x), {cost:.0f} us")


def test_a_durable_grant_beside_what_the_disk_does(law, tmp_path):
    vm = Authority.create(law, tmp_path / "ledger.db", clock=VirtualClock(START))
    names = iter(range(10**9))

    def grant():
        name = f"did:vm:agent:{next(names)}"
        vm.escalate(name, "operator", trigger="operator_request", reason="measure a grant")

    with (tmp_path / "raw").open("wb") as raw:

        def flush():
            raw.write(b"x" * 4_096)
            raw.flush()
            os.fdatasync(raw.fileno())

        ratios = [per_call_us(grant, 20) / per_call_us(flush, 20) for _ in range(ROUNDS)]
    print(f"\ndurable grant: {statistics.median(ratios):.1f}x one write and fdatasync of 4 KiB")
    vm.close()


@pytest.mark.parametrize(
    ("name", "target", "arguments"),
    [
        ("vmstate --help", "6x", ["--help"]),
        ("five runbook drills, whole process", "1.5 s", ["drill", "run"]),
    ],
)
def test_whole_processes_beside_a_bare_interpreter(name, target, arguments):
    command = Path(sys.executable).with_name("vmstate")
    ratios, seconds = [], []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run([command, *arguments], check=True, capture_output=True)
        ours = time.perf_counter() - began
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        ratios.append(ours / (time.perf_counter() - began))
        seconds.append(ours)
    ratio, wall = statistics.median(ratios), statistics.median(seconds)
    print(f"\n{name}: {ratio:.1f}x a bare interpreter, {wall:.2f} s (target {target})")
