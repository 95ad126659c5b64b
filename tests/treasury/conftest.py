"""A treasury that everybody may use, so that the tests are about money and not about climbing."""

from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import pytest

from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.drills.stand_ins import StandIns
from vmstate.ledger.audit import audit_ledger

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
ADA = "did:vm:operator:ada"
LAW = (files("vmstate.constitution") / "presets" / "vaultmesh.toml").read_text("utf-8")


def law(*, cost=None):
    """The packaged law with the treasury open to all; `cost` is what becoming operator takes."""
    text = LAW
    for act in ("treasury.allocate", "treasury.debit"):
        line = next(line for line in LAW.splitlines() if line.startswith(f'"{act}"'))
        profile = line.replace('"guardian"', '"observer"').replace('"operator"', '"observer"')
        text = text.replace(line, profile)
    if cost is not None:
        rule = "[escalations.operator_on_request]\n"
        text = text.replace(rule, f'{rule}cost = {{ budget = "climbs", amount = {cost} }}\n')
    return read_constitution(text.encode())


class Treasury:
    """An authority, and its books."""

    ada = ADA

    def __init__(self, authority):
        self.vm = authority

    def allocate(self, amount, budget="one", unit="EUR"):
        return self.vm.create_budget(ADA, budget, name="A budget", allocated=amount, unit=unit)

    def debit(self, amount, budget="one"):
        return self.vm.debit(ADA, budget, amount, reason="spent on a test")

    def climb(self):
        return self.vm.escalate(
            ADA, "operator", trigger="operator_request", reason="look at ticket 4711"
        )

    def budget(self, budget="one"):
        with self.vm.ledger.read() as snapshot:
            return snapshot.budget(budget)

    def receipts(self):
        with self.vm.ledger.read() as snapshot:
            return tuple(snapshot.receipts())

    def state(self):
        """All that a denial must leave alone."""
        with self.vm.ledger.read() as snapshot:
            return snapshot.budgets(), tuple(snapshot.leases.every()), dict(snapshot.statements())

    def findings(self):
        return [str(one) for one in audit_ledger(self.vm.ledger).findings]


@contextmanager
def opened(folder, *, drill=False, cost=None):
    """A treasury in a new ledger in `folder`."""
    document, clock = law(cost=cost), VirtualClock(NOON)
    origin, mark = "test/treasury", None
    if drill:
        stand_ins = StandIns(document, origin=origin, digest=f"sha256:{'d' * 64}")
        mark = stand_ins.mark("treasury", "DRILL/TREASURY")
    path = Path(folder) / "ledger.db"
    vm = Authority.create(document, path, clock=clock, origin=origin, drill=mark)
    if drill:
        vm.drill_mode(on=True, set_by="a test")
    try:
        yield Treasury(vm)
    finally:
        vm.close()


@pytest.fixture
def open_treasury():
    """`with open_treasury(folder, drill=…, cost=…) as treasury`."""
    return opened


@pytest.fixture
def treasury(tmp_path):
    with opened(tmp_path) as one:
        yield one


@pytest.fixture
def training(tmp_path):
    """The same in a drill's ledger, where a ceiling holds."""
    with opened(tmp_path, drill=True) as one:
        yield one


@pytest.fixture
def charging(tmp_path):
    """A law under which becoming operator costs three units of the budget `climbs`."""
    with opened(tmp_path, cost=3) as one:
        yield one
