"""F26: a lock comes while a lease is waited for, held or renewed; later it is lifted."""

import threading
from datetime import timedelta

from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.rows import PAGE

MINUTE = timedelta(minutes=1)
ROOT = PrivateKey.derive("short", "root")
CROWD = 2 * PAGE + 7  # more than is read at a time


def lock(vm, **scope):
    return vm.lock("root", key=ROOT, reason="the keys were stolen", **scope).raise_for_denial()


def lift(vm, locked):
    return vm.unlock("root", f"lock-{locked.seq}", key=ROOT).raise_for_denial()


def codes(receipt):
    return [one.code for one in receipt.unmet]


def test_a_lock_while_active_ends_it_and_lifting_restores_nothing(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    lease = stage.climb(vm, "u:a").lease
    stage.climb(vm, "u:a", "guardian")
    locked = lock(vm, principal="u:a")
    assert not vm.may("u:a", "operator")
    lift(vm, locked)
    assert not vm.may("u:a", "operator")
    assert codes(vm.renew("u:a", lease)) == ["unknown_lease"]
    assert stage.climb(vm, "u:a").lease != lease
    assert audit_ledger(vm.ledger).findings == ()


def test_a_lock_while_pending_ends_the_request_and_lifting_restores_nothing(stage):
    approved = b"""
[escalations.approved]
from           = "observer"
to             = "operator"
trigger        = "approved"
ttl            = "1h"
needs.approval = { count = 1, of = ["sovereigns"] }

[requests]
waits        = "1h"
usable_for   = "15m"
open_at_most = 3
"""
    law = read_constitution(stage.law.toml + approved)
    clock = VirtualClock(stage.noon)
    path = stage.folder / "pending.db"
    vm = stage.closing(Authority.create(law, path, clock=clock), Authority.close)
    pending = vm.prepare("u:a", "operator", trigger="approved")
    complete = vm.prepare("u:b", "operator", trigger="approved")
    for request in (pending, complete):
        assert vm.open_request(request).outcome == "recorded"
    assert vm.approve(complete.id, "root", key=ROOT).granted
    lift(vm, lock(vm))
    assert vm.requests() == ()
    for request in (pending, complete):
        assert vm.request(request.id).state == "locked"
        assert codes(vm.activate(request.principal, request.id)) == ["request_over"]
        assert not vm.approve(request.id, "root", key=ROOT).granted
    assert audit_ledger(vm.ledger).findings == ()


def test_a_lock_while_renewing_wins(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    lease = stage.climb(vm, "u:a").lease
    clock.advance(MINUTE)
    assert vm.renew("u:a", lease).granted
    lock(vm, profile="operator")
    assert codes(vm.renew("u:a", lease)) == ["unknown_lease"]
    denied = vm.escalate("u:a", "operator", trigger="asked")
    assert codes(denied) == ["locked"]
    assert audit_ledger(vm.ledger).findings == ()


def test_a_lock_that_races_with_renewals_and_climbs_leaves_nobody_above_it(stage):
    vm = stage.make()
    leases = {f"u:{n}": stage.climb(vm, f"u:{n}").lease for n in range(4)}
    go, done = threading.Event(), threading.Event()

    def keep_asking(name):
        go.wait()
        while not done.is_set():
            vm.renew(name, leases[name])
            vm.escalate(name, "operator", trigger="asked")

    threads = [threading.Thread(target=keep_asking, args=(name,)) for name in leases]
    for thread in threads:
        thread.start()
    go.set()
    locked = lock(vm)
    assert not any(vm.may(name, "operator") for name in leases)
    assert vm.status() == ()
    done.set()
    for thread in threads:
        thread.join()
    after = stage.receipts(vm, after=locked.seq)
    ended, rest = after[: len(leases)], after[len(leases) :]
    assert {one.fields["what"]["ending"] for one in ended} == {"locked"}
    assert {one.type for one in rest} <= {"auth_failure"}
    stage.check_whole(vm)
    assert audit_ledger(vm.ledger).findings == ()


def test_a_process_that_was_asleep_when_the_lock_fell_is_refused_when_it_wakes(stage):
    vm = stage.make()
    lease = stage.climb(vm, "u:a").lease
    asleep = stage.open(vm.ledger.path)
    assert asleep.may("u:a", "operator")
    lock(vm, principal="u:a")
    assert not asleep.may("u:a", "operator")
    assert codes(asleep.renew("u:a", lease)) == ["locked", "unknown_lease"]
    assert codes(asleep.escalate("u:a", "operator", trigger="asked")) == ["locked"]


def test_a_lock_on_a_crowd_ends_each_lease_once_before_whoever_locks_is_answered(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    names = [f"u:{n}" for n in range(CROWD)]
    stage.crowd(vm, names[:7], ttl=MINUTE)
    stage.crowd(vm, names[7:])
    clock.advance(MINUTE)
    before = vm.version()
    lock(vm)
    assert not any(vm.may(name, "operator") for name in names[::97])
    assert vm.version() != before
    ends = stage.ends(vm)
    assert len({one.lease for one in ends}) == len(ends) == CROWD
    assert [one.fields["what"]["ending"] for one in ends].count("timeout_expired") == 7
    stage.check_whole(vm)
    assert audit_ledger(vm.ledger).findings == ()
