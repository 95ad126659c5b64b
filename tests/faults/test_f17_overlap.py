"""F17: grants overlap, or one begins at the instant at which another ends."""

from datetime import timedelta

from vmstate.clock import VirtualClock
from vmstate.expiry import VirtualExpiry
from vmstate.ledger.audit import audit_ledger

MINUTE = timedelta(minutes=1)
US = timedelta(microseconds=1)


def test_the_end_of_ones_lease_never_ends_anothers(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    first = stage.climb(vm, "u:a", ttl=5 * MINUTE)
    clock.advance(MINUTE)
    second = stage.climb(vm, "u:b", ttl=5 * MINUTE)
    expiry = VirtualExpiry(vm)
    expiry.advance(4 * MINUTE)
    assert [one.lease for one in stage.ends(vm)] == [first.lease]
    assert (vm.may("u:a", "operator"), vm.may("u:b", "operator")) == (False, True)
    expiry.advance(MINUTE)
    assert [one.lease for one in stage.ends(vm)] == [first.lease, second.lease]
    expiry.stop()
    assert audit_ledger(vm.ledger).findings == ()


def test_a_second_grant_of_what_is_held_makes_no_second_lease_that_could_end_it(stage):
    vm = stage.make(VirtualClock(stage.noon))
    first = stage.climb(vm, "u:a")
    again = vm.escalate("u:a", "operator", trigger="asked")
    assert [one.code for one in again.unmet] == ["already_held"]
    assert [one.id for one in vm.standing("u:a").leases] == [first.lease]


def test_handed_over_at_one_instant_there_is_no_gap_and_each_end_is_receipted_once(stage):
    """At the deadline the first has ended, and the second is granted by the same transaction."""
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    first = stage.climb(vm, "u:a", ttl=MINUTE)
    clock.advance(MINUTE - US)
    assert vm.may("u:a", "operator")
    clock.advance(US)
    second = stage.climb(vm, "u:a", ttl=MINUTE)
    assert vm.may("u:a", "operator")
    assert second.at == first.expires_at
    assert [(one.lease, one.at) for one in stage.ends(vm)] == [(first.lease, second.at)]
    assert stage.ends(vm)[0].seq == second.seq - 1
    vm.settle(["u:a"])
    assert len(stage.ends(vm)) == 1
    assert audit_ledger(vm.ledger).findings == ()


def test_a_late_end_of_the_first_does_not_touch_the_second(stage):
    """Whoever still holds the first id gives back what has ended, and no other."""
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    first = stage.climb(vm, "u:a", ttl=MINUTE)
    clock.advance(MINUTE)
    second = stage.climb(vm, "u:a", ttl=MINUTE)
    late = vm.release("u:a", first.lease)
    assert [one.code for one in late.unmet] == ["unknown_lease"]
    assert [one.id for one in vm.standing("u:a").leases] == [second.lease]
