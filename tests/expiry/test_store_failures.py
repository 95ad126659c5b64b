"""Whatever the store does, the scheduler's thread lives, and what is due ends once it is cured."""

import logging
import threading
from datetime import timedelta

import apsw
import pytest
from apscheduler.jobstores.base import JobLookupError

from vmstate.authority import Authority
from vmstate.clock import SystemClock
from vmstate.errors import LedgerUnavailable
from vmstate.expiry import Expiry
from vmstate.lease_jobs import LeaseJobStore
from vmstate.ledger.store import Ledger

PATIENCE = 5.0
SHORT = timedelta(milliseconds=100)

# What a round calls, from the scheduler's side down to the file; each may fail at any time.
IN_A_ROUND = [
    (LeaseJobStore, "get_due_jobs", KeyError("a mistake")),
    (LeaseJobStore, "get_next_run_time", apsw.BusyError("database is locked")),
    (LeaseJobStore, "next_deadline", LedgerUnavailable("the file was closed")),
    (LeaseJobStore, "give_back", KeyError("a mistake")),
    (LeaseJobStore, "remove_job", apsw.BusyError("database is locked")),
    (Authority, "due", LedgerUnavailable("the file was closed")),
    (Authority, "next_deadline", KeyError("a mistake")),
    (Authority, "settle", apsw.IOError("disk I/O error")),
    (Ledger, "read", LedgerUnavailable("the file was closed")),
    (Ledger, "transact", LedgerUnavailable("another process keeps the ledger busy")),
    (SystemClock, "read", OSError("no clock")),
]
# What only a listing, or somebody who reaches for the scheduler, calls.
BY_HAND = {
    "lookup_job": lambda scheduler, lease: scheduler.get_job(lease),
    "get_all_jobs": lambda scheduler, _: scheduler.get_jobs(),
    "update_job": lambda scheduler, lease: scheduler.pause_job(lease),
    "remove_job": lambda scheduler, lease: scheduler.remove_job(lease),
    "remove_all_jobs": lambda scheduler, _: scheduler.remove_all_jobs(),
    "add_job": lambda scheduler, _: scheduler.add_job(print, "date", jobstore="leases"),
}


@pytest.fixture(autouse=True)
def _quick_and_quiet(caplog, monkeypatch):
    """How long it waits between tries is tested on virtual time; here, that it tries again."""
    monkeypatch.setattr("vmstate.claims.BACK_OFF", (SHORT,) * 5)
    monkeypatch.setattr("vmstate.lease_jobs.HEARTBEAT_FOR", 2 * SHORT)
    caplog.set_level(logging.CRITICAL, "apscheduler")  # tracebacks of what is broken on purpose


@pytest.fixture
def vm(stage):
    return stage.make(SystemClock())


@pytest.fixture
def expiry(stage, vm):
    expiry = Expiry(vm)
    expiry.start()
    return stage.closing(expiry, Expiry.stop)


@pytest.mark.parametrize(
    ("kind", "method", "error"), IN_A_ROUND, ids=[f"{k.__name__}.{m}" for k, m, _ in IN_A_ROUND]
)
def test_a_round_that_fails_leaves_the_thread_alive(stage, vm, expiry, kind, method, error):
    next_end = stage.watch_ends(vm)
    failed = threading.Event()
    scheduler = expiry._scheduler._thread
    real = getattr(kind, method)

    def broken(self, *args, **fields):
        if threading.current_thread() is not scheduler:
            return real(self, *args, **fields)
        failed.set()
        raise error

    lease = stage.climb(vm, "u:a", ttl=SHORT).lease
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, method, broken)
        assert failed.wait(PATIENCE)
    # Cured: what came due meanwhile ends, and so does what comes due later.
    assert next_end().lease == lease
    later = stage.climb(vm, "u:b", ttl=SHORT).lease
    assert next_end().lease == later
    assert scheduler.is_alive()
    assert expiry.health().running
    assert [one.lease for one in stage.ends(vm)] == [lease, later]


def test_a_round_cut_short_does_not_hold_back_what_it_had_not_come_to(stage, vm, monkeypatch):
    """What was handed out and not run is due in the next round, not when its claim runs out."""
    monkeypatch.setattr("vmstate.claims.CHUNK", 1)
    next_end = stage.watch_ends(vm)
    failures, remove_job = [], LeaseJobStore.remove_job

    def broken_once(self, job_id):
        if not failures:
            failures.append(job_id)
            raise KeyError(job_id)
        remove_job(self, job_id)

    monkeypatch.setattr(LeaseJobStore, "remove_job", broken_once)
    leases = {stage.climb(vm, f"u:{n}", ttl=timedelta(microseconds=1)).lease for n in range(3)}
    expiry = Expiry(vm)
    expiry.start()
    stage.closing(expiry, Expiry.stop)
    assert {next_end().lease for _ in leases} == leases
    assert len(failures) == 1


@pytest.mark.parametrize("method", BY_HAND)
def test_a_listing_that_fails_tells_its_caller_and_not_the_thread(
    stage, vm, expiry, method, monkeypatch
):
    next_end = stage.watch_ends(vm)
    lease = stage.climb(vm, "u:a", ttl=SHORT).lease

    def broken(*_):
        raise ValueError("the store is broken")

    with monkeypatch.context() as patch:
        patch.setattr(LeaseJobStore, method, broken)
        with pytest.raises(ValueError, match=r"^the store is broken$"):
            BY_HAND[method](expiry._scheduler, lease)
    assert next_end().lease == lease
    assert expiry.health().is_good


def test_the_end_of_a_lease_can_not_be_moved_or_taken_away_through_the_scheduler(stage, vm, expiry):
    next_end = stage.watch_ends(vm)
    lease = stage.climb(vm, "u:a", ttl=2 * SHORT).lease
    assert [job.id for job in expiry._scheduler.get_jobs()] == [lease]
    assert expiry._scheduler.get_job(lease).name == f"give back {lease}"
    with pytest.raises(RuntimeError, match=r"the end of a lease can't be moved; renew the lease$"):
        expiry._scheduler.pause_job(lease)
    with pytest.raises(RuntimeError, match=r"^the ends of leases can't be removed; release the"):
        expiry._scheduler.remove_all_jobs()
    with pytest.raises(RuntimeError, match=r"only the authority makes leases$"):
        expiry._scheduler.add_job(print, "date", jobstore="leases")
    with pytest.raises(JobLookupError):
        expiry._scheduler.remove_job(lease)
    assert next_end().lease == lease


def test_a_database_locked_across_the_deadline_delays_the_receipt_and_nothing_else(
    stage, monkeypatch
):
    monkeypatch.setattr("vmstate.ledger.store.BUSY_MS", 50)
    vm = stage.make(SystemClock())
    expiry = Expiry(vm)
    expiry.start()
    stage.closing(expiry, Expiry.stop)
    next_end = stage.watch_ends(vm)
    refused, settle = threading.Event(), Authority.settle

    def observed(self, *args, **fields):
        try:
            return settle(self, *args, **fields)
        except LedgerUnavailable:
            refused.set()
            raise

    monkeypatch.setattr(Authority, "settle", observed)
    granted = stage.climb(vm, "u:a", ttl=SHORT)
    other = stage.closing(apsw.Connection(str(vm.ledger.path)), apsw.Connection.close)
    other.execute("BEGIN IMMEDIATE")
    assert refused.wait(PATIENCE)
    assert not vm.may("u:a", "operator")
    health = expiry.health()
    assert health.running
    assert health.oldest_overdue.lease == granted.lease
    assert stage.ends(vm) == []
    other.execute("ROLLBACK")
    end = next_end()
    assert end.lease == granted.lease
    assert end.at > granted.expires_at


def test_a_closed_ledger_leaves_the_thread_alive_and_the_end_to_whoever_opens_it(
    stage, monkeypatch
):
    vm = stage.make(SystemClock())
    expiry = Expiry(vm)
    expiry.start()
    stage.closing(expiry, Expiry.stop)
    failed, due = threading.Event(), Authority.due

    def observed(self, *args, **fields):
        try:
            return due(self, *args, **fields)
        except LedgerUnavailable:
            failed.set()
            raise

    monkeypatch.setattr(Authority, "due", observed)
    granted = stage.climb(vm, "u:a", ttl=SHORT)
    vm.close()
    assert failed.wait(PATIENCE)
    assert expiry._scheduler._thread.is_alive()

    again = stage.closing(Authority(stage.law, Ledger.open(vm.ledger.path)), Authority.close)
    next_end = stage.watch_ends(again)
    second = Expiry(again)
    second.start()
    stage.closing(second, Expiry.stop)
    assert next_end().lease == granted.lease
