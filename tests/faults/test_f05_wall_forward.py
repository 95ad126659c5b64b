"""F5: the wall clock is set forward, and later corrected."""

from datetime import timedelta

from vmstate.expiry import VirtualExpiry
from vmstate.ledger.audit import audit_ledger

US = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
FORWARD = timedelta(days=3650)


def test_what_ended_in_the_bogus_future_stays_ended(stage, clock, vm):
    expiry = stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)
    stage.climb(vm, "u:a")
    clock.step_wall(FORWARD)
    assert not vm.may("u:a", "operator")
    expiry.run_due()
    clock.step_wall(-FORWARD)
    assert not vm.may("u:a", "operator")
    vm.settle(["u:a"])
    (end,) = stage.ends(vm)
    assert end.fields["what"]["detail"]["hand"] == "wall"
    assert audit_ledger(vm.ledger).findings == ()


def test_a_lease_made_in_the_bogus_future_keeps_its_length(stage, clock, vm):
    expiry = stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)
    clock.step_wall(FORWARD)
    stage.climb(vm, "u:a")
    expiry.advance(10 * MINUTE)
    clock.step_wall(-FORWARD)
    expiry.advance(50 * MINUTE - US)
    assert vm.may("u:a", "operator")
    expiry.advance(US)
    assert not vm.may("u:a", "operator")
    (end,) = stage.ends(vm)
    assert end.at == stage.noon + HOUR
    assert end.fields["what"]["detail"] == {"hand": "boot", "late_us": 0}


def test_nothing_is_stuck_in_the_bogus_future_once_it_is_corrected(stage, clock, vm):
    expiry = stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)
    clock.step_wall(FORWARD)
    stage.climb(vm, "u:a", ttl=MINUTE)
    clock.step_wall(-FORWARD)
    granted = stage.climb(vm, "u:b", ttl=5 * MINUTE)
    assert granted.expires_at == stage.noon + 5 * MINUTE
    assert vm.next_deadline() == stage.noon + MINUTE
    expiry.advance(10 * MINUTE)
    assert [one.lease for one in stage.ends(vm)] == ["lease-2", granted.lease]
    steps = [
        one.fields["what"]["detail"]["step_us"] for one in stage.receipts(vm, type_="clock_anomaly")
    ]
    assert steps == [FORWARD // US, -(FORWARD // US)]
    assert stage.climb(vm, "u:a").granted
    assert audit_ledger(vm.ledger).findings == ()
