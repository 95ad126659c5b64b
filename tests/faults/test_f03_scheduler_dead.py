"""F3: the scheduler's thread is dead, wedged or paused."""

import threading
from datetime import timedelta

from vmstate.claims import HEARTBEAT_FOR
from vmstate.expiry import Expiry
from vmstate.lease_jobs import LeaseJobStore

MINUTE = timedelta(minutes=1)


def test_authority_ends_at_the_deadline_and_health_turns_red_while_it_is_paused(
    stage, clock, vm, monkeypatch
):
    looked, get_next_run_time = threading.Event(), LeaseJobStore.get_next_run_time

    def observed(self):
        next_at = get_next_run_time(self)
        looked.set()
        return next_at

    monkeypatch.setattr(LeaseJobStore, "get_next_run_time", observed)
    expiry = Expiry(vm)
    expiry.start()
    stage.closing(expiry, Expiry.stop)
    assert looked.wait(8)  # its first round is over, so that the pause comes between two
    expiry._scheduler.pause()
    lease = stage.climb(vm, "u:a", ttl=MINUTE).lease
    clock.advance(MINUTE)
    assert not vm.may("u:a", "operator")
    clock.advance(3 * HEARTBEAT_FOR)
    clock.advance(timedelta(microseconds=1))
    health = expiry.health()
    assert health.running
    assert not health.is_good
    assert health.oldest_overdue.lease == lease
    assert health.overdue_for == 3 * HEARTBEAT_FOR + timedelta(microseconds=1)
    assert stage.ends(vm) == []

    next_end = stage.watch_ends(vm)
    expiry._scheduler.resume()
    assert next_end().lease == lease
    assert expiry.health().oldest_overdue is None


def test_health_says_how_late_by_the_hand_that_ended_the_lease(stage, clock, vm):
    """A wall stepped back must not make an overdue lease look on time."""
    stage.climb(vm, "u:a", ttl=MINUTE)
    expiry = Expiry(vm)
    clock.step_wall(-timedelta(days=1))
    clock.advance(MINUTE + timedelta(hours=1))
    assert not vm.may("u:a", "operator")
    assert expiry.health().oldest_overdue.lease == "lease-1"
    assert expiry.health().overdue_for == timedelta(hours=1)


def test_any_sweep_writes_what_a_dead_scheduler_did_not(stage, clock, vm):
    for n in range(5):
        stage.climb(vm, f"u:{n}", ttl=MINUTE)
    clock.advance(2 * MINUTE)
    written = vm.settle([one.principal for one in vm.due(limit=10)])
    assert [one.fields["what"]["ended_via"] for one in written] == ["settle"] * 5
    assert vm.settle(["u:0"]) == ()
    assert vm.due(limit=10) == ()
