"""The scheduler's thread: prompt, honest about itself, and gone when it is told to go."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

import vmstate
from vmstate.authority import Authority
from vmstate.canonical import parse_at
from vmstate.claims import HEARTBEAT_FOR
from vmstate.clock import SystemClock
from vmstate.expiry import Expiry
from vmstate.lease_jobs import LeaseJobStore
from vmstate.ledger.store import Ledger

CHILD = Path(__file__).parents[1] / "faults" / "child.py"
HOME = str(Path(vmstate.__file__).parents[1])
PATIENCE = 5.0


def run(*command):
    environment = {**os.environ, "PYTHONPATH": HOME}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def vm(stage):
    return stage.make(SystemClock())


@pytest.fixture
def expiry(stage, vm):
    return stage.closing(Expiry(vm), lambda one: one.health().running and one.stop())


@pytest.fixture
def looked(monkeypatch):
    """Acquired once for each round that is over, in whichever thread."""
    rounds, get_next_run_time = threading.Semaphore(0), LeaseJobStore.get_next_run_time

    def counted(self):
        try:
            return get_next_run_time(self)
        finally:
            rounds.release()

    monkeypatch.setattr(LeaseJobStore, "get_next_run_time", counted)
    return rounds


def late(receipt):
    return receipt.at - parse_at(receipt.fields["due"])


def test_a_lease_made_by_another_process_ends_within_two_seconds(stage, vm, expiry, looked):
    next_end = stage.watch_ends(vm)
    expiry.start()
    assert looked.acquire(timeout=PATIENCE)
    ((seq, _),) = run(CHILD, "grant", vm.ledger.path, "u:other", "50")
    end = next_end()
    assert end.lease == f"lease-{seq}"
    assert end.fields["what"]["ended_via"] == "scheduler"
    assert late(end) < 2 * HEARTBEAT_FOR


def test_a_grant_wakes_the_thread_long_before_its_next_look(stage, vm, expiry, looked, monkeypatch):
    monkeypatch.setattr("vmstate.lease_jobs.HEARTBEAT_FOR", timedelta(hours=1))
    next_end = stage.watch_ends(vm)
    expiry.start()
    assert looked.acquire(timeout=PATIENCE)
    for ttl in (200, 100, 50):
        lease = stage.climb(vm, "u:a", ttl=timedelta(milliseconds=ttl)).lease
        end = next_end()
        assert end.lease == lease
        assert timedelta() <= late(end) < timedelta(seconds=1)


def test_a_grant_while_the_next_end_is_looked_for_is_not_slept_over(
    stage, vm, expiry, looked, monkeypatch
):
    monkeypatch.setattr("vmstate.lease_jobs.HEARTBEAT_FOR", timedelta(hours=1))
    next_end = stage.watch_ends(vm)
    look, leases = vm.next_deadline, [stage.climb(vm, "u:a", ttl=timedelta(milliseconds=50)).lease]

    def look_too_early():
        found = look()
        if found is None and len(leases) == 1:
            leases.append(stage.climb(vm, "u:b", ttl=timedelta(milliseconds=50)).lease)
        return found

    monkeypatch.setattr(vm, "next_deadline", look_too_early)
    expiry.start()
    assert looked.acquire(timeout=PATIENCE)
    assert [next_end().lease, next_end().lease] == leases


def test_a_lease_that_ends_earlier_than_the_one_waited_for_wakes_the_thread(
    stage, vm, expiry, looked, monkeypatch
):
    monkeypatch.setattr("vmstate.lease_jobs.HEARTBEAT_FOR", timedelta(hours=1))
    next_end = stage.watch_ends(vm)
    stage.climb(vm, "u:long", ttl=timedelta(minutes=30))
    expiry.start()
    assert looked.acquire(timeout=PATIENCE)
    lease = stage.climb(vm, "u:short", ttl=timedelta(milliseconds=100)).lease
    assert next_end().lease == lease


def test_what_came_due_before_a_restart_ends_at_start_up(stage, vm, expiry):
    next_end = stage.watch_ends(vm)
    expiry.start()
    lease = stage.climb(vm, "u:a", ttl=timedelta(milliseconds=30)).lease
    assert next_end().lease == lease
    expiry.stop()
    overdue = stage.climb(vm, "u:b", ttl=timedelta(microseconds=1)).lease
    again = Expiry(vm)
    again.start()
    stage.closing(again, Expiry.stop)
    end = next_end()
    assert end.lease == overdue
    assert end.fields["what"]["ended_via"] == "start_up"


def test_a_running_scheduler_with_nothing_overdue_is_in_good_health(vm, expiry, looked):
    assert not expiry.health().is_good
    assert expiry.health().beat_for is None
    expiry.start()
    assert looked.acquire(timeout=PATIENCE)
    health = expiry.health()
    assert health.is_good
    assert health.running
    assert health.beat_for < HEARTBEAT_FOR
    assert health.oldest_overdue is None
    assert (health.overdue_for, health.stuck) == (timedelta(), ())
    assert vm.due(limit=1) == ()


def test_health_is_red_once_the_thread_is_gone_and_names_the_oldest_overdue(
    stage, vm, expiry, looked
):
    expiry.start()
    assert looked.acquire(timeout=PATIENCE)
    expiry.stop()
    first = stage.climb(vm, "u:a", ttl=timedelta(microseconds=1))
    stage.climb(vm, "u:b", ttl=timedelta(microseconds=1))
    health = expiry.health()
    assert not health.is_good
    assert not health.running
    assert health.oldest_overdue.lease == first.lease
    assert health.oldest_overdue.ended_at == first.expires_at
    assert health.overdue_for > timedelta()


def test_stop_returns_within_two_seconds_and_leaves_no_thread(stage, vm, expiry, looked):
    before = threading.active_count()
    expiry.start()
    assert looked.acquire(timeout=PATIENCE)
    stage.climb(vm, "u:a")
    began = time.monotonic()
    expiry.stop()
    assert time.monotonic() - began < 2
    assert threading.active_count() == before


def test_stop_returns_within_two_seconds_while_another_process_locks_the_ledger(
    stage, vm, expiry, monkeypatch
):
    settling, settle = threading.Event(), Authority.settle

    def observed(self, *args, **fields):
        settling.set()
        return settle(self, *args, **fields)

    monkeypatch.setattr(Authority, "settle", observed)
    stage.climb(vm, "u:a", ttl=timedelta(milliseconds=50))
    other = stage.closing(apsw.Connection(str(vm.ledger.path)), apsw.Connection.close)
    other.execute("BEGIN IMMEDIATE")
    expiry.start()
    assert settling.wait(PATIENCE)
    began = time.monotonic()
    expiry.stop()
    assert time.monotonic() - began < 2


def test_what_is_stopped_can_be_started_again(stage, vm, expiry):
    next_end = stage.watch_ends(vm)
    for who in ("u:a", "u:b"):
        expiry.start()
        lease = stage.climb(vm, who, ttl=timedelta(milliseconds=30)).lease
        assert next_end().lease == lease
        expiry.stop()


def test_a_grant_before_the_start_and_after_the_stop_troubles_nobody(stage, vm, expiry, caplog):
    caplog.set_level(logging.WARNING)
    stage.climb(vm, "u:a")
    expiry.start()
    expiry.stop()
    stage.climb(vm, "u:b")
    assert [record.getMessage() for record in caplog.records] == []


def test_a_forked_child_does_not_use_the_ledger_of_its_parent(stage, vm):
    stage.climb(vm, "u:a")
    (read, written), (still,) = run(CHILD, "fork", vm.ledger.path)
    message = "RuntimeError: a ledger does not survive a fork: open it in the new process"
    assert (read, written) == (message, message)
    assert still is True


def test_importing_vmstate_loads_no_scheduler_no_database_and_no_picture():
    heavy = "apscheduler freezegun graphviz rich transitions pydantic apsw cryptography click"
    code = (
        "import vmstate, sys, json\n"
        f"print(json.dumps([one for one in {heavy.split()} if one in sys.modules]))\n"
    )
    assert run("-c", code) == [[]]


def test_asking_and_deciding_loads_no_scheduler_and_no_picture(vm):
    path = Path(__file__).parents[1] / "shared" / "short.toml"
    code = (
        "import vmstate, sys, json\n"
        f"vm = vmstate.Authority.open({str(path)!r}, {str(vm.ledger.path)!r})\n"
        "vm.escalate('u:a', 'operator', trigger='asked')\n"
        "heavy = 'apscheduler freezegun time_machine graphviz rich click'.split()\n"
        "print(json.dumps([m for m in heavy if m in sys.modules]))\n"
        "vm.close()\n"
    )
    assert run("-c", code) == [[]]
    assert vm.may("u:a", "operator")


def test_a_scheduler_of_one_ledger_leaves_another_alone(stage, vm, expiry):
    other = stage.make(SystemClock(), "other")
    next_end = stage.watch_ends(vm)
    stage.climb(other, "u:a", ttl=timedelta(microseconds=1))
    expiry.start()
    stage.climb(vm, "u:a", ttl=timedelta(milliseconds=50))
    next_end()
    assert stage.ends(other) == []
    assert isinstance(other.ledger, Ledger)
