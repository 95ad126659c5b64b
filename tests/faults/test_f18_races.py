"""F18: two processes want to change the same lease at one time."""

from datetime import timedelta

from vmstate.clock import VirtualClock
from vmstate.expiry import Expiry
from vmstate.ledger.audit import audit_ledger

CROWD = 200


def test_two_processes_that_settle_the_same_leases_write_each_end_once(stage):
    vm = stage.make()
    names = [f"u:{n}" for n in range(CROWD)]
    stage.crowd(vm, names, ttl=timedelta(microseconds=1))
    children = [stage.child("settle", vm.ledger.path, *names) for _ in range(2)]
    assert [child.says() for child in children] == [["ready"], ["ready"]]
    for child in children:
        child.tell()
    assert sum(child.says()[0] for child in children) == CROWD
    assert len({one.lease for one in stage.ends(vm)}) == len(stage.ends(vm)) == CROWD
    stage.check_whole(vm)
    assert audit_ledger(vm.ledger).findings == ()


def test_two_schedulers_on_one_ledger_write_each_end_once(stage):
    vm = stage.make()
    stage.crowd(vm, [f"u:{n}" for n in range(CROWD)], ttl=timedelta(milliseconds=1))
    children = [stage.child("give_back", vm.ledger.path) for _ in range(2)]
    assert [child.says() for child in children] == [["ready"], ["ready"]]
    for child in children:
        child.tell()
    assert sum(child.says()[0] for child in children) == CROWD
    assert len({one.lease for one in stage.ends(vm)}) == len(stage.ends(vm)) == CROWD
    stage.check_whole(vm)
    assert audit_ledger(vm.ledger).findings == ()


def test_a_renewal_and_an_expiry_fall_in_one_order(stage):
    """One process renews as often as it may, the other ends: neither undoes what was done."""
    vm = stage.make()
    expiry = Expiry(vm)
    expiry.start()
    stage.closing(expiry, Expiry.stop)
    child = stage.child("renew", vm.ledger.path, "u:a")
    assert child.says() == ["ready"]
    renewed = 0
    for n in range(1, 9):
        child.tell(stage.climb(vm, "u:a", ttl=timedelta(milliseconds=20 + n)).lease)
        renewed += child.says()[0]
        assert not vm.may("u:a", "operator")
        assert len(stage.ends(vm)) == n
    assert len(stage.receipts(vm, type_="lease_renewed")) == renewed > 0
    stage.check_whole(vm)
    assert audit_ledger(vm.ledger).findings == ()


def test_at_the_deadline_itself_the_end_comes_before_the_renewal(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    lease = stage.climb(vm, "u:a", ttl=timedelta(minutes=1)).lease
    clock.advance(timedelta(minutes=1))
    assert not vm.renew("u:a", lease).granted
    assert [one.type for one in stage.receipts(vm)][-2:] == ["profile_deescalation", "auth_failure"]
