"""F15: a stack that is to fall as a whole, and whose fall is interrupted."""

from datetime import timedelta

import pytest

from vmstate.clock import VirtualClock
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.store import Transaction

MINUTE = timedelta(minutes=1)


class _LostError(Exception):
    """The process is gone here."""


@pytest.mark.parametrize("written", [0, 1])
def test_a_fall_cut_short_is_denied_all_the_way_up_and_receipted_once(stage, written):
    """Cut short in the middle of the transaction, none of it happened; what follows is the clock's
    doing: who stands on what is over holds nothing, whatever was written."""
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    operator = stage.climb(vm, "u:a", ttl=5 * MINUTE)
    guardian = stage.climb(vm, "u:a", "guardian", ttl=5 * MINUTE)
    clock.advance(5 * MINUTE)
    before = len(stage.receipts(vm))
    with pytest.MonkeyPatch.context() as patch:
        append, done = Transaction.append, []

        def cut(self, entry, now):
            if len(done) == written:
                raise _LostError
            done.append(entry)
            return append(self, entry, now)

        patch.setattr(Transaction, "append", cut)
        with pytest.raises(_LostError):
            vm.settle(["u:a"])
    assert len(stage.receipts(vm)) == before
    assert not vm.may("u:a", "guardian")
    assert not vm.may("u:a", "operator")

    again = stage.open(vm.ledger.path, clock)
    for _ in range(2):
        again.settle(["u:a"])
    assert [one.lease for one in stage.ends(again)] == [guardian.lease, operator.lease]
    stage.check_whole(again)
    assert audit_ledger(again.ledger).findings == ()


def test_a_parent_whose_end_alone_was_written_leaves_nothing_to_stand_on(stage):
    """Nobody writes it so; a row changed by hand shows that a child is denied by derivation."""
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    operator = stage.climb(vm, "u:a", ttl=5 * MINUTE)
    stage.climb(vm, "u:a", "guardian", ttl=5 * MINUTE)
    vm.ledger.transact(
        lambda transaction: transaction._execute(
            "UPDATE lease SET deadline_us = granted_us + 1 WHERE seq = ?", (operator.seq,)
        )
    )
    clock.advance(MINUTE)
    assert not vm.may("u:a", "guardian")
    vm.settle(["u:a"])
    assert vm.status() == ()
