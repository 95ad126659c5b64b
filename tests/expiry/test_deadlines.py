"""Law 3: a lease is live up to its deadline, not at it, whatever any scheduler did."""

from datetime import timedelta

import pytest
import time_machine
from freezegun import freeze_time

from vmstate.canonical import format_at
from vmstate.clock import SystemClock, VirtualClock
from vmstate.expiry import VirtualExpiry
from vmstate.ledger.audit import audit_ledger

US = timedelta(microseconds=1)
HOUR = timedelta(hours=1)


def test_a_lease_is_allowed_a_microsecond_before_its_deadline_and_refused_at_it(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    granted = stage.climb(vm, "u:a")
    assert granted.expires_at == stage.noon + HOUR
    clock.move_to(stage.noon + HOUR - US)
    assert vm.may("u:a", "operator")
    assert vm.standing("u:a").profile == "operator"
    clock.advance(US)
    assert not vm.may("u:a", "operator")
    assert vm.standing("u:a").profile == "observer"
    assert vm.status() == ()
    # Nothing was written to bring that about.
    assert stage.ends(vm) == []


def test_a_renewal_at_the_deadline_comes_too_late(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    granted = stage.climb(vm, "u:a")
    clock.advance(HOUR)
    answer = vm.renew("u:a", granted.lease)
    assert answer.outcome == "denied"
    assert {one.code for one in answer.unmet} == {"unknown_lease"}
    assert [one.type for one in stage.receipts(vm)][-2:] == ["profile_deescalation", "auth_failure"]


def test_a_lease_three_days_late_is_still_ended_and_receipted(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    granted = stage.climb(vm, "u:a")
    clock.advance(HOUR + timedelta(days=3))
    again = stage.climb(vm, "u:a")  # the next command of that principal writes what is owed
    (end,) = stage.ends(vm)
    assert end.seq == again.seq - 1
    assert end.fields["due"] == format_at(stage.noon + HOUR)
    assert end.fields["at"] == format_at(stage.noon + HOUR + timedelta(days=3))
    assert end.fields["what"]["ended_via"] == "settle"
    assert end.fields["what"]["ending"] == "timeout_expired"
    assert end.fields["what"]["lease"] == granted.lease
    assert end.fields["what"]["detail"] == {"hand": "wall", "late_us": 3 * 86_400 * 1_000_000}
    assert end.fields["reverses"] == granted.id
    assert audit_ledger(vm.ledger).is_good


def test_the_scheduler_says_that_it_was_the_one_who_ended_it(stage):
    vm = stage.make(VirtualClock(stage.noon))
    expiry = stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)
    stage.climb(vm, "u:a")
    expiry.advance(HOUR)
    (end,) = stage.ends(vm)
    assert end.fields["what"]["ended_via"] == "scheduler"
    assert end.fields["due"] == end.fields["at"] == format_at(stage.noon + HOUR)


def test_what_came_due_before_the_scheduler_started_ended_at_start_up(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    for n, minutes in enumerate((5, 50)):
        stage.climb(vm, f"u:{n}", ttl=timedelta(minutes=minutes))
    clock.advance(timedelta(minutes=30))
    expiry = stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)
    expiry.run_due()
    expiry.advance(HOUR)
    first, second = stage.ends(vm)
    assert first.fields["what"]["ended_via"] == "start_up"
    assert first.fields["due"] == format_at(stage.noon + timedelta(minutes=5))
    assert first.fields["at"] == format_at(stage.noon + timedelta(minutes=30))
    assert second.fields["what"]["ended_via"] == "scheduler"
    assert second.fields["due"] == second.fields["at"]


@pytest.mark.parametrize("library", ["freezegun", "time-machine"])
def test_a_lease_made_in_real_time_goes_by_its_wall_deadline_under_a_later_freeze(stage, library):
    def freeze(at):
        return freeze_time(at) if library == "freezegun" else time_machine.travel(at, tick=False)

    vm = stage.make(SystemClock())
    granted = stage.climb(vm, "u:a")
    with freeze(granted.expires_at - US):
        assert vm.may("u:a", "operator")
    with freeze(granted.expires_at):
        assert not vm.may("u:a", "operator")
        VirtualExpiry(vm).run_due()
    (end,) = stage.ends(vm)
    assert end.fields["due"] == end.fields["at"] == format_at(granted.expires_at)
    assert not vm.may("u:a", "operator")  # back in real time, long before the deadline


def test_a_plain_frozen_test_needs_three_lines(stage):
    with freeze_time(stage.noon) as frozen:
        vm = stage.make()
        stage.climb(vm, "u:a", ttl=timedelta(minutes=5))
        frozen.tick(timedelta(minutes=5) - US)
        assert vm.may("u:a", "operator")
        frozen.tick(US)
        assert not vm.may("u:a", "operator")
        VirtualExpiry(vm).run_due()
        (end,) = stage.ends(vm)
        assert end.fields["due"] == end.fields["at"] == "2030-01-01T12:05:00.000000Z"
