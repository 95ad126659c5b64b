"""F21: the constitution is amended while leases are held."""

from datetime import timedelta

import pytest

from vmstate.clock import VirtualClock
from vmstate.errors import LedgerMismatch
from vmstate.expiry import VirtualExpiry
from vmstate.health import check_health
from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.rows import PAGE
from vmstate.ledger.transaction import Transaction
from vmstate.signing import approve

MINUTE = timedelta(minutes=1)
ROOT, OP = PrivateKey.derive("short", "root"), PrivateKey.derive("short", "u:op")
CROWD = PAGE + 7  # more than is read at a time
SHORTER = (b'ttl      = "1h"', b'ttl      = "10m"')


def amend(vm, *change):
    toml = vm.constitution.toml
    assert toml.count(change[0]) == 1
    toml = toml.replace(*change)
    request = vm.prepare_amendment("u:op", toml)
    until = vm.now() + MINUTE
    approvals = (approve(request, "root", ROOT, expires_at=until),)
    return vm.amend("u:op", toml, request=request, approvals=approvals, key=OP)


def test_each_lease_of_a_crowd_is_cut_once_in_the_transaction_that_amended(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    names = [f"u:{n}" for n in range(CROWD)]
    stage.crowd(vm, names[:7], ttl=5 * MINUTE)
    stage.crowd(vm, names[7:])
    stage.climb(vm, names[7], "guardian")
    clock.advance(2 * MINUTE)
    amended = amend(vm, *SHORTER)
    cuts = stage.receipts(vm, type_="lease_clamped")
    assert len({one.lease for one in cuts}) == len(cuts) == CROWD - 7 + 1
    assert {one.at for one in cuts} == {amended.at}
    assert {one.expires_at for one in cuts} == {stage.noon + 10 * MINUTE}
    assert [one.seq for one in cuts] == list(range(amended.seq + 1, amended.seq + 1 + len(cuts)))
    clock.advance(8 * MINUTE)
    assert not any(vm.may(name, "operator") for name in names)
    assert audit_ledger(vm.ledger).findings == ()


def test_nothing_is_ever_longer_than_it_was(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    lease = stage.climb(vm, "u:a", ttl=20 * MINUTE)
    for ttl in (b'"2h"', b'"25m"', b'"3h"'):
        was = vm.lease(lease.lease).expires_at
        now = next(one for one in vm.constitution.toml.split(b"ttl      = ")[1:])
        assert amend(
            vm,
            b"ttl      = " + now.split(b"\n")[0] + b"\nrenewals = 3",
            b"ttl      = " + ttl + b"\nrenewals = 3",
        ).granted
        assert vm.lease(lease.lease).expires_at == was == lease.expires_at
        clock.advance(MINUTE)
    assert audit_ledger(vm.ledger).findings == ()


def test_an_amendment_that_fails_in_the_middle_never_was(stage, monkeypatch):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    stage.crowd(vm, [f"u:{n}" for n in range(9)])
    law, size, append = vm.constitution.digest, vm.size(), Transaction.append

    def failing(self, entry, now):
        if entry.type == "lease_clamped" and entry.principal == "u:5":
            raise RuntimeError("killed here")
        return append(self, entry, now)

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "append", failing)
        with pytest.raises(RuntimeError, match="killed here"):
            amend(vm, *SHORTER)
    assert (vm.constitution.digest, vm.size()) == (law, size)
    assert vm.lease("lease-1").expires_at == stage.noon + 60 * MINUTE
    assert amend(vm, *SHORTER).granted
    assert audit_ledger(vm.ledger).findings == ()


def test_a_process_that_serves_is_as_healthy_under_another_law(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    served = stage.open(vm.ledger.path, clock)
    expiry = stage.closing(VirtualExpiry(served), VirtualExpiry.stop)
    amend(vm, *SHORTER)
    assert check_health(served, expiry).faults == ()
    damage = "UPDATE constitution SET toml = CAST('[' AS BLOB), digest = 'sha256:0'"
    vm.ledger.transact(lambda transaction: transaction._execute(damage, ()))
    (fault,) = check_health(served, expiry).faults
    assert "is not TOML" in fault


def test_another_process_renews_under_the_law_as_it_is_and_not_as_it_was(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    other = stage.open(vm.ledger.path, clock)
    lease = stage.climb(vm, "u:a").lease
    assert other.may("u:a", "operator")
    amend(vm, *SHORTER)
    clock.advance(5 * MINUTE)
    assert other.renew("u:a", lease).expires_at == clock.read().wall + 10 * MINUTE
    with pytest.raises(LedgerMismatch, match="is under the constitution"):
        stage.open(vm.ledger.path, clock)
    assert audit_ledger(vm.ledger).findings == ()
