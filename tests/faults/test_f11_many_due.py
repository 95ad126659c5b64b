"""F11: many leases are due at one instant."""

from datetime import timedelta

from vmstate.claims import CHUNK
from vmstate.clock import VirtualClock
from vmstate.expiry import VirtualExpiry
from vmstate.ledger.store import Ledger

MINUTE = timedelta(minutes=1)
US = timedelta(microseconds=1)
CROWD = 2_000


def test_authority_ends_for_all_at_that_instant_and_receipts_come_in_bounded_chunks(
    stage, monkeypatch
):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    names = [f"u:{n}" for n in range(CROWD)]
    stage.crowd(vm, names, ttl=MINUTE)
    expiry = stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)
    clock.advance(MINUTE - US)
    assert all(vm.may(name, "operator") for name in names[::7])
    clock.advance(US)
    assert not any(vm.may(name, "operator") for name in names)
    assert vm.status() == ()
    assert stage.ends(vm) == []

    chunks, transact = [], Ledger.transact

    def counted(self, work, **fields):
        receipts = transact(self, work, **fields)
        chunks.append(len(receipts))
        return receipts

    monkeypatch.setattr(Ledger, "transact", counted)
    expiry.run_due()
    assert chunks == [CHUNK] * (CROWD // CHUNK)
    ends = stage.ends(vm)
    assert {one.fields["who"]["principal"] for one in ends} == set(names)
    assert len(ends) == CROWD
    assert {one.fields["at"] for one in ends} == {"2030-01-01T12:01:00.000000Z"}
    stage.check_whole(vm)
