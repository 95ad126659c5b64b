"""An end that fails stays due, is tried again more and more slowly, and holds nobody else up."""

import logging
import threading
from datetime import timedelta
from itertools import pairwise

import pytest

from vmstate.authority import Authority
from vmstate.canonical import format_at
from vmstate.claims import STUCK_AFTER
from vmstate.clock import SystemClock, VirtualClock
from vmstate.errors import LedgerUnavailable
from vmstate.expiry import Expiry, VirtualExpiry
from vmstate.lease_jobs import LeaseJobStore

SECOND = timedelta(seconds=1)
PATIENCE = 5.0


@pytest.fixture(autouse=True)
def _quiet(caplog):
    # APScheduler prints the traceback of each failed job; they are what these tests cause.
    caplog.set_level(logging.CRITICAL, "apscheduler")


@pytest.fixture
def tries(monkeypatch):
    """When the end of "u:sick" was tried, which fails until `cured` is appended to."""
    settle = Authority.settle

    def sickly(self, principals, **fields):
        names = tuple(principals)
        if "u:sick" in names and not sickly.cured:
            if len(names) == 1:
                sickly.at.append(self.clock.read().wall)
            raise ValueError("this one can't be ended")
        return settle(self, names, **fields)

    sickly.at, sickly.cured = [], []
    monkeypatch.setattr(Authority, "settle", sickly)
    return sickly


def test_a_failing_end_is_tried_again_after_1_2_5_15_and_60_seconds(stage, tries):
    vm = stage.make(VirtualClock(stage.noon))
    expiry = stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)
    stage.climb(vm, "u:sick", ttl=SECOND)
    expiry.run_until(stage.noon + SECOND + timedelta(minutes=5))
    waits = [later - earlier for earlier, later in pairwise(tries.at)]
    assert tries.at[0] == stage.noon + SECOND
    assert [wait.total_seconds() for wait in waits][:7] == [1, 2, 5, 15, 60, 60, 60]
    assert not vm.may("u:sick", "operator")
    assert stage.ends(vm) == []

    tries.cured.append(True)
    expiry.advance(timedelta(minutes=1))
    (end,) = stage.ends(vm)
    assert end.fields["due"] == format_at(stage.noon + SECOND)
    assert end.fields["at"] == format_at(tries.at[-1] + timedelta(minutes=1))


def test_a_ledger_that_can_not_be_written_makes_everybody_wait_the_same_steps(stage, monkeypatch):
    vm = stage.make(VirtualClock(stage.noon))
    expiry = stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)
    for n in range(20):
        stage.climb(vm, f"u:{n}", ttl=SECOND)
    tried = []

    def full(*_, **__):
        tried.append(vm.clock.read().wall)
        raise LedgerUnavailable("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Authority, "settle", full)
        expiry.run_until(stage.noon + SECOND + timedelta(minutes=2))
    waits = [later - earlier for earlier, later in pairwise(tried)]
    assert [wait.total_seconds() for wait in waits] == [1, 2, 5, 15, 60]
    expiry.advance(timedelta(minutes=1))
    assert len(stage.ends(vm)) == 20


def test_one_poisoned_principal_among_a_hundred_keeps_nobody_else(stage, tries):
    vm = stage.make(VirtualClock(stage.noon))
    expiry = stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)
    for n in range(99):
        stage.climb(vm, f"u:{n}", ttl=timedelta(minutes=1))
    stage.climb(vm, "u:sick", ttl=timedelta(minutes=1))
    expiry.advance(timedelta(minutes=1))
    ends = stage.ends(vm)
    assert {one.fields["who"]["principal"] for one in ends} == {f"u:{n}" for n in range(99)}
    assert {one.fields["at"] for one in ends} == {format_at(stage.noon + timedelta(minutes=1))}
    assert len(tries.at) == 1


def test_the_other_deadlines_are_kept_to_the_microsecond_while_one_end_fails(stage, tries):
    vm = stage.make(VirtualClock(stage.noon))
    expiry = stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)
    stage.climb(vm, "u:sick", ttl=SECOND)
    for n in range(1, 40):
        stage.climb(vm, f"u:{n}", ttl=SECOND + n * timedelta(seconds=3, microseconds=1))
    expiry.advance(timedelta(minutes=3))
    ends = stage.ends(vm)
    assert len(tries.at) > STUCK_AFTER
    assert len(ends) == 39
    assert [one.fields["at"] for one in ends] == [one.fields["due"] for one in ends]


def test_an_end_that_failed_five_times_shows_in_health(stage, tries, monkeypatch):
    vm = stage.make(SystemClock())
    # The steps of the back-off are tested on virtual time; here only what they lead to.
    monkeypatch.setattr("vmstate.claims.BACK_OFF", (timedelta(milliseconds=20),) * STUCK_AFTER)
    tried = threading.Semaphore(0)
    failed = LeaseJobStore.give_back

    def counted(self, *args):
        try:
            return failed(self, *args)
        finally:
            tried.release()

    monkeypatch.setattr(LeaseJobStore, "give_back", counted)
    expiry = Expiry(vm)
    next_end = stage.watch_ends(vm)
    stage.climb(vm, "u:sick", ttl=timedelta(milliseconds=50))
    expiry.start()
    stage.closing(expiry, Expiry.stop)
    for _ in range(STUCK_AFTER + 1):
        assert tried.acquire(timeout=PATIENCE)
    health = expiry.health()
    assert health.stuck == ("u:sick",)
    assert health.running
    assert not health.is_good
    assert health.oldest_overdue is not None
    assert health.oldest_overdue.principal == "u:sick"

    tries.cured.append(True)
    assert next_end().fields["who"]["principal"] == "u:sick"
    assert tried.acquire(timeout=PATIENCE)
    assert expiry.health().stuck == ()


def test_while_one_end_is_slow_the_store_is_asked_fewer_than_ten_times(stage, monkeypatch):
    vm = stage.make(SystemClock())
    entered, go_on, settle = threading.Event(), threading.Event(), Authority.settle
    asked, get_due_jobs = [], LeaseJobStore.get_due_jobs

    def slowly(self, principals, **fields):
        entered.set()
        assert go_on.wait(PATIENCE)
        return settle(self, principals, **fields)

    def counted(self, now):
        asked.append(now)
        return get_due_jobs(self, now)

    monkeypatch.setattr(Authority, "settle", slowly)
    monkeypatch.setattr(LeaseJobStore, "get_due_jobs", counted)
    expiry = Expiry(vm)
    expiry.start()
    stage.closing(expiry, Expiry.stop)
    stage.closing(go_on, threading.Event.set)
    next_end = stage.watch_ends(vm)
    stage.climb(vm, "u:slow", ttl=timedelta(milliseconds=20))
    assert entered.wait(PATIENCE)
    before = len(asked)
    # What others do meanwhile goes on, and their grants wake nothing that would spin.
    for n in range(200):
        stage.climb(vm, f"u:{n}", ttl=timedelta(milliseconds=500))
        assert not vm.may("u:slow", "operator")
    assert len(asked) - before < 10
    go_on.set()
    assert next_end().fields["who"]["principal"] == "u:slow"
    assert len(asked) - before < 10
