"""What an insider can't write about locks: each follows from what came before, or is found."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from forging import again, drop, move, put

from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_bundle, audit_ledger
from vmstate.ledger.bundle import export

GOLDEN = Path(__file__).with_name("golden") / "constitution.toml"
LOCKS = b'\n[locks]\nby = ["guardians", "sovereigns"]\nlift = ["guardians", "sovereigns"]\n'
ROOT, ONE = PrivateKey.derive("ledger", "root"), PrivateKey.derive("ledger", "g:one")
MINUTE = timedelta(minutes=1)
(GRANT_A, GRANT_B, LOCK_A, END_A, DENIED, LIFT, LOCK_ALL, END_B, LAPSE, GRANT_AGAIN) = range(1, 11)


@pytest.fixture
def told(tmp_path):
    """A ledger in which locks were set, lifted and ran out, and its bundle."""
    law = read_constitution(GOLDEN.read_bytes() + LOCKS)
    clock = VirtualClock(datetime(2030, 1, 1, 12, tzinfo=UTC))
    with closing(Authority.create(law, tmp_path / "l.db", clock=clock)) as vm:

        def climb(who):
            return vm.escalate(who, "operator", trigger="asked", reason="look at ticket 4711")

        climb("op:a")
        climb("op:b")
        locked = vm.lock("root", principal="op:a", key=ROOT, reason="stolen")
        assert not climb("op:a").granted
        vm.unlock("g:one", f"lock-{locked.seq}", key=ONE)
        vm.lock("root", key=ROOT, ttl=MINUTE)
        clock.advance(MINUTE)
        assert climb("op:a").granted
        assert audit_ledger(vm.ledger).findings == ()
        export(vm.ledger, tmp_path / "bundle")
    assert audit_bundle(tmp_path / "bundle").findings == ()
    return tmp_path


FOUND = {
    "a grant under a lock": (move(GRANT_AGAIN, LIFT), "was granted while lock-3 stood"),
    "a lease that a lock should have ended": (
        drop(END_A),
        "lock-3 covers a lease of 'op:a' and did not end it",
    ),
    "a lease that the last lock should have ended": (
        lambda said: said.__delitem__(slice(END_B, None)),
        "lock-7 covers a lease of 'op:b' and did not end it",
    ),
    "an end by a lock that was not set": (
        put(END_B, "what", "detail", "lock", "lock-3"),
        "says that a lock ended it, and no lock was just set",
    ),
    "an end by a lock on somebody else": (
        put(LOCK_A, "what", "detail", "name", "op:c"),
        "says that lock-3 ended it, which does not cover it",
    ),
    "a lock by somebody who may not lock": (
        put(LOCK_A, "who", "actor", "op:b"),
        "is by 'op:b', whom [locks] by does not admit",
    ),
    "a lock lifted by somebody who may not": (
        put(LIFT, "who", "actor", "op:b"),
        "is by 'op:b', whom [locks] lift does not admit",
    ),
    "a lock lifted by the person whom it is on": (
        put(LOCK_A, "what", "detail", "name", "g:one"),
        "is lifted by 'g:one', whose person is locked",
    ),
    "a signature of somebody who was locked": (
        put(LOCK_A, "what", "detail", "name", "g:one"),
        "the order is by 'g:one', whose person was locked",
    ),
    "a lock with another's id": (
        put(LOCK_ALL, "what", "detail", "lock", "lock-2"),
        "sets 'lock-2', its number makes that 'lock-7'",
    ),
    "a lock lifted twice": (again(LIFT, LOCK_ALL), "ends 'lock-3', which does not stand"),
    "a lock over before its time": (
        put(LAPSE, "due", "2030-01-01T12:00:30.000000Z"),
        "says 'lock-7' was due at another time than its end",
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_does_not_follow_is_found(told, rewritten, name):
    attack, finding = FOUND[name]
    assert finding in {one.what for one in rewritten(told, attack)}


def test_rows_of_locks_are_compared_with_what_receipts_say(told):
    with closing(Authority.open(told / "bundle" / "constitution.toml", told / "l.db")) as vm:
        vm.ledger.transact(
            lambda t: t._execute("UPDATE lock SET state = 'lifted' WHERE seq = 7", ())
        )
        findings = {one.what for one in audit_ledger(vm.ledger).findings}
    assert findings == {"the table of locks is not what the receipts set, lifted and ended"}


def test_a_lock_that_the_boot_hand_would_end_early_is_found(told):
    law, path = told / "bundle" / "constitution.toml", told / "l.db"
    clock = VirtualClock(datetime(2030, 1, 1, 13, tzinfo=UTC))
    with closing(Authority.open(law, path, clock=clock)) as vm:
        lock = vm.lock("root", principal="op:a", key=ROOT, ttl=600 * MINUTE)
        edit = f"UPDATE lock SET until_boot_us = 1 WHERE seq = {lock.seq}"  # noqa: S608
        vm.ledger.transact(lambda t: t._execute(edit, ()))
        clock.advance(MINUTE)
        found = [one.what for one in audit_ledger(vm.ledger).findings]
        assert f"the table of locks gives lock-{lock.seq} another length by the boot hand" in found
        vm.escalate("op:a", "operator", trigger="asked", reason="look at ticket 4711")
        found = [one.what for one in audit_ledger(vm.ledger).findings]
        assert "says that a lock was over before its end" in found


def test_a_lease_that_no_receipt_granted_counts_for_nothing(told):
    law, path = told / "bundle" / "constitution.toml", told / "l.db"
    clock = VirtualClock(datetime(2030, 1, 1, 12, 1, 1, tzinfo=UTC))
    with closing(Authority.open(law, path, clock=clock)) as vm:
        assert vm.may("op:a", "operator")
        edit = f"UPDATE lease SET seq = 0, principal = 'op:b' WHERE seq = {GRANT_AGAIN}"  # noqa: S608
        vm.ledger.transact(lambda t: t._execute(edit, ()))
    with closing(Authority.open(law, path, clock=clock)) as vm:
        assert not vm.may("op:b", "operator")
        assert audit_ledger(vm.ledger).findings
