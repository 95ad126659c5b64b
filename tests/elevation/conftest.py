"""A ledger whose rungs ask for little, on a clock that is moved."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.store import DrillMark

SHORT = (Path(__file__).parents[1] / "shared" / "short.toml").read_text(encoding="utf-8")
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
ACTS = """
[acts]
task = { profile = "operator", scroll = "cognitive", receipt = "task" }
"""


@dataclass
class World:
    vm: Authority
    clock: VirtualClock
    who: str = "u:a"

    def wait(self, **duration):
        self.clock.advance(timedelta(**duration))

    def climb(self, to="operator", who="u:a", **fields):
        return self.vm.escalate(who, to, trigger="asked", **fields).raise_for_denial()

    def block(self, to="operator", who="u:a", **fields):
        return self.vm.elevated(to, as_=who, trigger="asked", **fields)

    def held(self, who="u:a"):
        return [lease.id for lease in self.vm.standing(who).leases]

    def ends(self):
        """Each end on record: which lease, how, and why."""
        ends = self.vm.receipts(type_="profile_deescalation")
        return [(one.lease, one.fields["what"]["ending"], one.fields["why"]) for one in ends]

    def denials(self):
        return self.vm.receipts(denied=True)

    def findings(self):
        return [str(one) for one in audit_ledger(self.vm.ledger).findings]


@pytest.fixture
def make_world(tmp_path):
    made = []

    def make(*, drill=False, extra=ACTS):
        clock = VirtualClock(NOON)
        mark = DrillMark("d", "DRILL/", f"sha256:{'d' * 64}", {}) if drill else None
        law = read_constitution(f"{SHORT}\n{extra}".encode())
        vm = Authority.create(law, tmp_path / f"{len(made)}.db", clock=clock, drill=mark)
        made.append(vm)
        if drill:
            vm.drill_mode(on=True, set_by="a test")
        return World(vm, clock)

    yield make
    for vm in made:
        vm.close()


@pytest.fixture
def world(make_world):
    return make_world()
