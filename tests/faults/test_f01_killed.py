"""F1: killed at any instruction around a grant."""

import random
from datetime import timedelta

import pytest

from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.store import Transaction

ROUNDS = 6


@pytest.mark.parametrize("together", [1, 2])
def test_what_was_answered_is_there_after_a_storm_of_kills(stage, together):
    """Killed anywhere: never granted without its receipt, never a receipt without its lease."""
    chance = random.Random(f"storm {together}")  # noqa: S311 -- where to kill, not a secret
    path = stage.make(name="storm").ledger.path
    answered = {}
    for number in range(ROUNDS // together):
        names = [f"{number}/{n}" for n in range(together)]
        children = [stage.child("storm", path, name) for name in names]
        for child in children:
            for _ in range(chance.randrange(1, 60)):
                seq, id_ = child.says()
                answered[seq] = id_
        for child in children:
            answered |= dict(child.kill())

        vm = stage.open(path)
        written = {one.seq: one.id for one in stage.receipts(vm)}
        assert answered.items() <= written.items()
        stage.check_whole(vm)
        assert audit_ledger(vm.ledger).findings == ()
    # Whoever comes next goes on from there.
    assert stage.climb(vm, "u:next").seq >= len(written)
    stage.check_whole(vm)
    assert len(answered) > ROUNDS


def test_what_is_raised_inside_a_transaction_puts_all_of_it_back(stage):
    vm = stage.make()
    before = stage.receipts(vm)

    def interrupted(_):
        raise KeyboardInterrupt

    vm.subscribe(interrupted)  # after the commit: what is written stays written
    with pytest.raises(KeyboardInterrupt):
        stage.climb(vm, "u:a", ttl=timedelta(minutes=1))
    assert len(stage.receipts(vm)) == len(before) + 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transaction, "seal", interrupted)  # before it: nothing is
        with pytest.raises(KeyboardInterrupt):
            stage.climb(vm, "u:b")
    assert len(stage.receipts(vm)) == len(before) + 1
    assert not vm.may("u:b", "operator")
    stage.check_whole(vm)
    assert audit_ledger(vm.ledger).is_good
