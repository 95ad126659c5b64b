"""Callers' threads: none waits for a writer to read, and none leaves its connection behind."""

import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import apsw

from vmstate.errors import LedgerUnavailable

OPEN_FILES = Path("/proc/self/fd")


def run_in_thread(work):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    thread.start()
    thread.join(8)
    return answers


def test_the_first_check_of_a_thread_does_not_wait_for_a_writer(stage, monkeypatch):
    vm = stage.make()
    stage.climb(vm, "u:a")
    other = stage.closing(apsw.Connection(str(vm.ledger.path)), apsw.Connection.close)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("vmstate.ledger.store.BUSY_MS", 3_000)
    vm.ledger._writer.set_busy_timeout(3_000)
    waiting = threading.Event()

    class Observed:
        """The lock of the ledger, which says when it is held."""

        def __init__(self, lock):
            self._lock = lock

        def acquire(self, timeout):
            waiting.set()
            return self._lock.acquire(timeout=timeout)

        def release(self):
            self._lock.release()

    monkeypatch.setattr(vm.ledger, "_lock", Observed(vm.ledger._lock))

    def write():
        with suppress(LedgerUnavailable):
            vm.settle(["u:a"])

    writer = threading.Thread(target=write)
    writer.start()
    assert waiting.wait(8)
    began = time.monotonic()
    assert run_in_thread(lambda: vm.may("u:a", "operator")) == [True]
    waited = time.monotonic() - began
    other.execute("ROLLBACK")
    writer.join(8)
    assert waited < 1


def test_threads_that_are_gone_leave_no_open_files(stage):
    vm = stage.make()
    stage.climb(vm, "u:a", ttl=timedelta(minutes=1))
    assert run_in_thread(lambda: vm.may("u:a", "operator")) == [True]
    before = len(list(OPEN_FILES.iterdir()))
    for _ in range(40):
        assert run_in_thread(lambda: vm.may("u:a", "operator")) == [True]
    assert len(list(OPEN_FILES.iterdir())) - before < 20
