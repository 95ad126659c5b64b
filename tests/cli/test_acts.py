"""Acts and budgets: what a drill pretends, what a shell completes, and who asks over a socket."""

import json
from contextlib import closing

import pytest

from vmstate.authority import Authority
from vmstate.constitution.loading import load_constitution
from vmstate.drills.stand_ins import StandIns
from vmstate.interfaces.cli.options import _budgets, _recorded_acts
from vmstate.interfaces.cli.settings import Settings

DRILLER = "did:vm:operator:drill"


@pytest.fixture
def drill(folder):
    """A drill's ledger that is on, under a law by which everybody may do every act."""
    folder.ok("vmstate init --preset vaultmesh")
    for profile in ("operator", "guardian", "phoenix"):
        folder.replace("constitution.toml", f'profile = "{profile}"', 'profile = "observer"')
    law = load_constitution(folder.path / "constitution.toml")
    stand_ins = StandIns(law, origin="test/acts", digest=f"sha256:{'d' * 64}")
    mark = stand_ins.mark("acts", "DRILL/ACTS")
    path = folder.path / "drill.db"
    with closing(Authority.create(law, path, origin="test/acts", drill=mark)) as vm:
        vm.drill_mode(on=True, set_by="a test")
    return folder


@pytest.mark.parametrize(
    ("name", "result"), [("offsec.run", "simulated"), ("phoenix.destroy", "dry_run")]
)
def test_an_act_that_only_pretends_says_so(name, result, drill):
    line = f"DRILL_MODE=1 vmstate --ledger drill.db act {name} --as {DRILLER}"
    assert drill.ok(line) == (
        f"{name} is on record as {result} (a drill: nothing was done): {DRILLER}, as observer\n"
    )
    assert json.loads(drill.ok(f"{line} --json"))["receipt"]["what"]["result"] == result


def test_a_budget_of_a_drill_stays_below_its_ceiling(drill):
    line = f"DRILL_MODE=1 vmstate --ledger drill.db budget create rack --as {DRILLER}"
    done = drill.run(f"{line} --allocated 1000000000 --unit USD")
    assert done.code == 3
    assert "[budget_ceiling]" in done.err
    assert "\n  attempted 1000000000 USD of rack, available 0, charged 0\n" in done.err


def test_a_shell_completes_the_acts_that_leave_a_receipt_and_the_budgets(drill):
    settings = Settings(ledger=drill.path / "drill.db")
    acts = set(_recorded_acts(settings))
    assert {"task.execute", "guardian.anchor", "phoenix.destroy"} <= acts
    assert acts.isdisjoint({"context.read", "treasury.debit", "treasury.allocate"})
    line = f"vmstate --ledger drill.db budget create rack --as {DRILLER}"
    drill.ok(f"{line} --allocated 10 --unit DRILL_UNITS")
    assert _budgets(settings) == ["rack"]
