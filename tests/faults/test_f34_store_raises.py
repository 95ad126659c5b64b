"""F34: the store raises inside the scheduler."""

import logging
import threading
from datetime import timedelta

from vmstate.authority import Authority
from vmstate.errors import LedgerUnavailable
from vmstate.expiry import Expiry

PATIENCE = 30.0


def test_the_thread_lives_says_so_and_goes_on(stage, monkeypatch, caplog):
    monkeypatch.setattr("vmstate.claims.BACK_OFF", (timedelta(milliseconds=50),) * 5)
    caplog.set_level(logging.ERROR, "vmstate")
    vm = stage.make()
    asked, due = threading.Semaphore(0), Authority.due

    def broken(*_, **__):
        asked.release()
        raise LedgerUnavailable("the disk is gone")

    monkeypatch.setattr(Authority, "due", broken)
    expiry = Expiry(vm)
    expiry.start()
    stage.closing(expiry, Expiry.stop)
    lease = stage.climb(vm, "u:a", ttl=timedelta(milliseconds=50)).lease
    for _ in range(5):
        assert asked.acquire(timeout=PATIENCE)
    said = {record.getMessage() for record in caplog.records}
    assert "leases that are due can't be read; trying again" in said
    assert not vm.may("u:a", "operator")

    next_end = stage.watch_ends(vm)
    monkeypatch.setattr(Authority, "due", due)
    assert next_end().lease == lease
    assert expiry.health().running


def test_it_waits_between_tries_instead_of_spinning(stage, monkeypatch):
    """Asked as often as its heartbeat at most, however quickly the store fails."""
    monkeypatch.setattr("vmstate.claims.BACK_OFF", (timedelta(hours=1),) * 5)
    monkeypatch.setattr("vmstate.lease_jobs.HEARTBEAT_FOR", timedelta(hours=1))
    vm, other = stage.make(), stage.make(name="other")
    asked, due = [], Authority.due

    def broken(self, **fields):
        if self is vm:
            asked.append(fields)
            raise LedgerUnavailable("the disk is gone")
        return due(self, **fields)

    monkeypatch.setattr(Authority, "due", broken)
    for one in (vm, other):
        expiry = Expiry(one)
        expiry.start()
        stage.closing(expiry, Expiry.stop)
    next_end = stage.watch_ends(other)
    stage.climb(other, "u:a", ttl=timedelta(milliseconds=300))
    next_end()  # three tenths of a second of the other's life
    assert len(asked) < 10
