"""F7: the machine starts again with its clock in the past."""

from datetime import timedelta

import pytest

from vmstate.expiry import VirtualExpiry
from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_ledger
from vmstate.signing import approve

US = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
ROOT = PrivateKey.derive("short", "root")


def ask(vm, who="u:b"):
    return vm.escalate(who, "operator", trigger="asked")


def codes(receipt):
    return {one.code for one in receipt.unmet}


def recover(vm, clock, *, key=ROOT, who="u:op", by="root"):
    request = vm.prepare_recovery(who, reason="the battery was empty")
    expires_at = clock.read().wall + MINUTE
    signed = approve(request, by, key, expires_at=expires_at)
    own = PrivateKey.derive("short", who)
    return vm.recover(who, request=request, approvals=[signed], reason=request.reason, key=own)


def test_a_reboot_with_a_good_clock_changes_nothing(stage, clock, vm):
    stage.climb(vm, "u:a")
    clock.reboot(down_for=20 * MINUTE)
    assert vm.may("u:a", "operator")
    assert ask(vm).granted
    clock.advance(40 * MINUTE - US)
    assert vm.may("u:a", "operator")
    clock.advance(US)
    assert not vm.may("u:a", "operator")
    assert stage.receipts(vm, type_="clock_anomaly") == []


@pytest.mark.parametrize("error", [timedelta(seconds=90), HOUR, timedelta(days=9_000)])
def test_leases_of_earlier_boots_end_for_the_clock_that_was_lost(stage, clock, vm, error):
    for who in ("u:a", "u:c"):
        stage.climb(vm, who)
    stage.climb(vm, "u:a", "guardian")
    clock.reboot(down_for=MINUTE, wall_error=-error)
    assert not vm.may("u:a", "operator")
    assert not vm.may("u:c", "operator")
    assert vm.status() == ()
    stage.closing(VirtualExpiry(vm), VirtualExpiry.stop).run_due()
    receipts = stage.receipts(vm)
    assert [one.type for one in receipts[-4:]] == ["clock_anomaly", *["profile_deescalation"] * 3]
    assert receipts[-4].fields["what"]["detail"]["kind"] == "regression"
    ends = stage.ends(vm)
    assert {one.fields["what"]["ending"] for one in ends} == {"clock_regression"}
    assert {one.lease for one in ends} == {"lease-1", "lease-2", "lease-3"}
    assert not vm.may("u:a", "operator")
    assert audit_ledger(vm.ledger).findings == ()


def test_nothing_is_granted_until_time_has_passed_the_newest_receipt(stage, clock, vm):
    stage.climb(vm, "u:a")
    clock.reboot(down_for=MINUTE, wall_error=-HOUR)
    refused = ask(vm)
    assert codes(refused) == {"clock_regression"}
    clock.move_to(stage.noon - US)
    assert codes(ask(vm)) == {"clock_regression"}
    clock.advance(US)
    assert ask(vm).granted
    assert audit_ledger(vm.ledger).findings == ()


def test_a_sovereign_may_say_on_the_record_that_the_clock_is_right(stage, clock, vm):
    stage.climb(vm, "u:a")
    clock.reboot(down_for=MINUTE, wall_error=-HOUR)
    assert codes(ask(vm)) == {"clock_regression"}
    said = recover(vm, clock)
    assert said.type == "recovery"
    assert [one["by"] for one in said.fields["authority"]["approvals"]] == ["root", "u:op"]
    assert ask(vm).granted
    assert not vm.may("u:a", "operator")  # recovery lifts the wait; it gives nothing back
    again = recover(vm, clock)
    assert codes(again) == {"no_regression"}
    assert audit_ledger(vm.ledger).findings == ()


def test_a_recovery_that_nobody_admitted_approved_lifts_nothing(clock, vm):
    clock.reboot(down_for=MINUTE, wall_error=-HOUR)
    bare = vm.prepare_recovery("u:op")
    own = PrivateKey.derive("short", "u:op")
    refused = vm.recover("u:op", request=bare, approvals=[], key=own)
    assert codes(refused) == {"approval_missing"}
    assert "approval_signature" in codes(recover(vm, clock, key=PrivateKey.generate()))
    assert "approval_no_key" in codes(recover(vm, clock, by="u:x"))
    assert codes(ask(vm)) == {"clock_regression"}


def test_a_bogus_future_does_not_hold_after_a_recovery(stage, clock, vm):
    clock.step_wall(timedelta(days=3650))
    stage.climb(vm, "u:a")
    clock.reboot(down_for=MINUTE, wall_error=-timedelta(days=3650))
    assert codes(ask(vm)) == {"clock_regression"}
    assert recover(vm, clock).granted
    assert ask(vm, "u:a").granted
    clock.reboot(down_for=MINUTE)
    assert vm.may("u:a", "operator")
    assert ask(vm).granted


def test_a_second_reboot_does_not_shorten_the_wait_for_the_newest_receipt(stage, clock, vm):
    stage.climb(vm, "u:a")
    clock.reboot(down_for=MINUTE, wall_error=-HOUR)
    assert codes(ask(vm)) == {"clock_regression"}
    clock.reboot(down_for=MINUTE, wall_error=-HOUR)
    assert codes(ask(vm)) == {"clock_regression"}
    clock.move_to(stage.noon - MINUTE)
    assert codes(ask(vm)) == {"clock_regression"}
    clock.move_to(stage.noon)
    assert ask(vm).granted


def test_a_lease_that_was_lost_is_not_found_again_when_the_clock_is_set_right(stage, clock, vm):
    stage.climb(vm, "u:a")
    clock.reboot(down_for=MINUTE, wall_error=-HOUR)
    ask(vm)  # puts the regression on the record, and ends nothing of u:a
    clock.step_wall(HOUR)
    assert not vm.may("u:a", "operator")
    assert [one.lease for one in vm.due(limit=5)] == ["lease-1"]
    stage.closing(VirtualExpiry(vm), VirtualExpiry.stop).run_due()
    (end,) = stage.ends(vm)
    assert end.fields["what"]["ending"] == "clock_regression"
