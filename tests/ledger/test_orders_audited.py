"""A signed act or charge is the one that was signed, even where the log's own key vouches."""

from contextlib import closing
from datetime import UTC, datetime
from importlib.resources import files

import pytest
from forging import put

from vmstate.authority import Authority
from vmstate.canonical import digest
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_bundle, audit_ledger
from vmstate.ledger.bundle import export
from vmstate.ledger.checkpoint import Checkpoint

PRESET = (files("vmstate.constitution") / "presets" / "vaultmesh.toml").read_text("utf-8")
ADA = "did:vm:operator:ada"
KEY = PrivateKey.derive("ledger", ADA)
DONE, ANCHORED, ALLOCATED, SPENT = 1, 2, 3, 4


@pytest.fixture
def told(tmp_path):
    """A ledger in which somebody signed an act, an anchor, a budget and a charge; its bundle."""
    toml = PRESET.replace('profile = "guardian"', 'profile = "observer"')
    toml = toml.replace('profile = "operator"', 'profile = "observer"')
    toml += f'\n[principals."{ADA}"]\nkey = "{KEY.public}"\n'
    clock = VirtualClock(datetime(2030, 1, 1, 12, tzinfo=UTC))
    law = read_constitution(toml.encode())
    with closing(Authority.create(law, tmp_path / "l.db", clock=clock)) as vm:
        vm.act(ADA, "task.execute", arguments={"task": "4711"}, key=KEY).raise_for_denial()
        with vm.ledger.read() as snapshot:
            head = Checkpoint.of(vm.origin, snapshot.head().tree).text().encode()
        anchor = vm.anchor(ADA, key=KEY).raise_for_denial()
        assert anchor.fields["proofs"]["checkpoint"] == digest(head)
        allocated = {"name": "Operations", "allocated": 100, "unit": "credits"}
        vm.create_budget(ADA, "ops", **allocated, key=KEY).raise_for_denial()
        vm.debit(ADA, "ops", 40, key=KEY).raise_for_denial()
        for said in (one.fields["who"] for one in vm.receipts(after=0)):
            assert said == {"actor": ADA, "principal": ADA, "proof": "key"}
        assert audit_ledger(vm.ledger).findings == ()
        export(vm.ledger, tmp_path / "bundle")
    assert audit_bundle(tmp_path / "bundle").findings == ()
    return tmp_path


ATTACKS = {
    "another act": (put(DONE, "what", "act", "cognitive.decide"), DONE, "is for another act"),
    "another budget": (
        put(ALLOCATED, "what", "detail", "budget", "mine"),
        ALLOCATED,
        "is for another budget",
    ),
    "more units": (
        put(ALLOCATED, "what", "detail", "allocated", 900),
        ALLOCATED,
        "is for another budget",
    ),
    "another charge": (put(SPENT, "cost", 0, "charged", 4), SPENT, "is for another charge"),
}


@pytest.mark.parametrize(("attack", "seq", "what"), ATTACKS.values(), ids=ATTACKS)
def test_an_order_for_another_act_or_charge_is_found(told, rewritten, attack, seq, what):
    found = rewritten(told, attack)
    assert [one for one in found if one.seq == seq and one.what.endswith(what)], found
