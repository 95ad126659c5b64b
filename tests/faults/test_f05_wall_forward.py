"""F5: the wall clock is set forward, and later corrected."""

from datetime import timedelta

import pytest

from vmstate.expiry import VirtualExpiry
from vmstate.ledger.audit import audit_ledger
from vmstate.signing import approve

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


@pytest.mark.parametrize("denied", [False, True], ids=["granted", "denied"])
def test_no_signature_that_is_made_once_it_is_corrected_is_too_old(asking, denied):
    asking.climb(asking.bob)
    request = asking.open(asking.bob)
    asking.clock.step_wall(10 * MINUTE)
    to = "phoenix" if denied else "operator"
    asked = {"trigger": "operator_request", "reason": asking.reason}
    assert asking.vm.escalate(asking.ada, to, **asked).granted is not denied
    asking.clock.step_wall(-10 * MINUTE)
    assert asking.approve(request, asking.one).granted
    locked = asking.vm.lock(asking.one, reason="an emergency", key=asking.key(asking.one))
    assert locked.granted
    assert asking.vm.set_back().after is not None


def test_an_amendment_goes_on_once_it_is_corrected(asking):
    toml = asking.vm.constitution.toml.replace(b'name     = "vaultmesh"', b'name = "another"', 1)
    asking.clock.step_wall(FORWARD)
    asking.climb(asking.ada)
    asking.clock.step_wall(-FORWARD)
    request = asking.vm.prepare_amendment(asking.one, toml, reason="another name for it")
    until = asking.clock.read().wall + 5 * MINUTE
    approvals = [approve(request, asking.root, asking.key(asking.root), expires_at=until)]
    fields = {"request": request, "approvals": approvals, "reason": request.reason}
    receipt = asking.vm.amend(asking.one, toml, key=asking.key(asking.one), **fields)
    assert receipt.granted, receipt.message
