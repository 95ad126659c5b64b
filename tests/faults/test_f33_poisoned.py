"""F33: one lease whose end always fails."""

import logging
import threading
from datetime import timedelta

import apsw
import pytest

from vmstate.claims import CHUNK
from vmstate.expiry import Expiry, VirtualExpiry

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL)


@pytest.fixture
def vm(stage, clock):
    """More than a chunk of leases due at one instant, one of them with a row that is spoilt."""
    vm = stage.make(clock)
    stage.crowd(vm, [f"u:{n}" for n in range(CHUNK + 100)], ttl=MINUTE)
    stage.climb(vm, "u:sick", ttl=MINUTE)
    spoil(vm, "u:sick")
    return vm


def spoil(vm, who):
    """A grant in the year 294,247: no date can be made of it, so no receipt of its end."""
    other = apsw.Connection(str(vm.ledger.path))
    other.execute("UPDATE lease SET granted_us = ? WHERE principal = ?", (2**63 - 1, who))
    other.close()


def test_the_others_still_end_at_their_instant(stage, vm):
    expiry = stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)
    expiry.advance(MINUTE)
    ends = stage.ends(vm)
    assert len(ends) == CHUNK + 100
    assert {one.fields["at"] for one in ends} == {one.fields["due"] for one in ends}
    assert [one.principal for one in vm.due(limit=5)] == ["u:sick"]


def test_it_becomes_a_visible_state(stage, monkeypatch):
    # The steps of the back-off are tested on virtual time; here only what they lead to.
    monkeypatch.setattr("vmstate.claims.BACK_OFF", (timedelta(milliseconds=20),) * 5)
    vm = stage.make()
    stage.crowd(vm, [*(f"u:{n}" for n in range(30)), "u:sick"], ttl=timedelta(microseconds=1))
    spoil(vm, "u:sick")
    expiry = Expiry(vm)
    claims, stuck = expiry._store.claims, threading.Event()
    failed = claims.failed

    def observed(names, now):
        failed(names, now)
        if claims.stuck():
            stuck.set()

    monkeypatch.setattr(claims, "failed", observed)
    expiry.start()
    stage.closing(expiry, Expiry.stop)
    assert stuck.wait(8)
    health = expiry.health()
    assert health.stuck == ("u:sick",)
    assert health.oldest_overdue.principal == "u:sick"
    assert health.running
    assert not health.is_good
    assert len(stage.ends(vm)) == 30


def test_reads_about_the_others_do_not_fail_with_it(stage, vm):
    assert vm.may("u:1", "operator")
    assert vm.standing("u:1").profile == "operator"
    stage.climb(vm, "u:later", ttl=MINUTE)
    assert "u:1" in {one.principal for one in vm.status()}
