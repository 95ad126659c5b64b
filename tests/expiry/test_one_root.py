"""Law 13: the same drill gives the same tree root, whoever moves the time."""

from datetime import timedelta

import time_machine
from freezegun import freeze_time

from vmstate.clock import SystemClock, VirtualClock
from vmstate.expiry import VirtualExpiry
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.store import DrillMark

CLIMBERS = 500
MARK = DrillMark("x", "DRILL/", f"sha256:{'ab' * 32}", {})
SECOND = timedelta(seconds=1)


def play(stage, name, clock, move_to=None):
    """Five hundred climb, some higher, some again, some down; then everybody falls."""
    vm = stage.make(clock, name, origin="vaultmesh/drill/x", drill=MARK)
    expiry = stage.closing(VirtualExpiry(vm, move_to=move_to), VirtualExpiry.stop)
    vm.drill_mode(on=True, set_by="a test")
    leases = []
    for n in range(CLIMBERS):
        expiry.run_until(stage.noon + n * timedelta(seconds=7, microseconds=n))
        who = f"u:{n}"
        ttl = timedelta(seconds=60 + n * 37 % 1_800, microseconds=n * 7_919 % 1_000_000)
        leases.append((who, stage.climb(vm, who, ttl=ttl).lease))
        if n % 5 == 0:
            stage.climb(vm, who, "guardian", ttl=timedelta(seconds=30 + n * 13 % 700))
        if n % 7 == 3:
            vm.renew(*leases[n - 3])  # denied where it is over or has another above it
        if n % 11 == 4:
            vm.release(*leases[n - 2])
    expiry.run_until(stage.noon + timedelta(hours=6))
    vm.drill_mode(on=False, set_by="a test")
    assert audit_ledger(vm.ledger).findings == ()
    assert vm.next_deadline() is None
    return vm


def root_of(vm):
    with vm.ledger.read() as snapshot:
        tree = snapshot.head().tree
    return tree.size, tree.root().hex()


def test_five_hundred_leases_give_one_root_on_all_three_clocks(stage):
    injected = play(stage, "injected", VirtualClock(stage.noon))
    with freeze_time(stage.noon) as frozen:
        freezegun = play(stage, "freezegun", SystemClock(), frozen.move_to)
    with time_machine.travel(stage.noon, tick=False) as traveller:
        travelled = play(stage, "travelled", SystemClock(), traveller.move_to)
    assert root_of(injected) == root_of(freezegun) == root_of(travelled)

    ends = stage.ends(injected)
    types = {one.type for one in stage.receipts(injected)}
    assert len(ends) == CLIMBERS + CLIMBERS // 5
    assert {"lease_renewed", "auth_failure", "profile_escalation"} <= types
    assert {one.outcome for one in ends} == {"expired", "reverted"}
    # Each end by time saw its own instant, on whichever clock.
    assert all(one.fields["at"] == one.fields["due"] for one in ends if one.outcome == "expired")
