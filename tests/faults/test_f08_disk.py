"""F8: the disk is full, read-only, or fails in the middle of a write."""

from contextlib import suppress
from datetime import timedelta

import apsw
import pytest

from vmstate.clock import VirtualClock
from vmstate.errors import LedgerUnavailable
from vmstate.expiry import VirtualExpiry
from vmstate.ledger.audit import audit_ledger

MINUTE = timedelta(minutes=1)
US = timedelta(microseconds=1)


def fill(connection):
    """As many pages as there are, and not one more: SQLite says that the disk is full."""
    list(connection.execute(f"PRAGMA max_page_count = {connection.pragma('page_count')}"))


def make_room(connection):
    list(connection.execute("PRAGMA max_page_count = 1000000"))


def protect(connection):
    connection.pragma("query_only", 1)


def release(connection):
    connection.pragma("query_only", 0)


def ask_until_refused(vm):
    for length in (1_000, 0):  # a few may fit into pages that were there already
        with suppress(LedgerUnavailable):
            for n in range(50):
                vm.escalate(f"u:{length}-{n}", "operator", trigger="asked", reason="x" * length)
    vm.escalate("u:none", "operator", trigger="asked")


DISKS = pytest.mark.parametrize(
    ("broken", "mended", "says"),
    [
        (fill, make_room, r"the disk is full: make room, what is owed follows"),
        (protect, release, r"the ledger can't be opened here: check its folder, owner and mode"),
    ],
    ids=["full", "read-only"],
)


@DISKS
def test_grants_are_refused_checks_go_on_and_ends_are_owed(stage, broken, mended, says):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    expiry = stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)
    stage.climb(vm, "u:a", ttl=5 * MINUTE)
    stage.climb(vm, "u:b", ttl=30 * MINUTE)
    before = stage.receipts(vm)
    broken(vm.ledger._writer)
    with pytest.raises(LedgerUnavailable, match=says):
        ask_until_refused(vm)
    answered = stage.receipts(vm)
    assert answered[: len(before)] == before
    stage.check_whole(vm)

    expiry.run_until(stage.noon + 5 * MINUTE - US)
    assert vm.may("u:a", "operator")
    expiry.advance(US)
    assert not vm.may("u:a", "operator")
    assert vm.may("u:b", "operator")
    expiry.advance(10 * MINUTE)
    assert [one.principal for one in vm.due(limit=5)] == ["u:a"]
    assert stage.ends(vm) == []

    mended(vm.ledger._writer)
    expiry.advance(2 * MINUTE)
    (end,) = stage.ends(vm)
    assert end.lease == "lease-1"
    assert end.fields["due"] == "2030-01-01T12:05:00.000000Z"
    assert vm.due(limit=5) == ()
    assert stage.climb(vm, "u:late").granted
    stage.check_whole(vm)
    assert audit_ledger(vm.ledger).findings == ()


def test_a_process_whose_writes_fail_half_way_loses_nothing_that_it_answered(stage):
    """A limit on the size of files: real writes, cut short in the middle by the system."""
    path = stage.make().ledger.path
    child = stage.child("cramped", path)
    answered = dict([child.says(), child.says()])
    said = child.says()
    assert said[0] == "LedgerUnavailable"
    assert said[1].endswith("nothing was written")
    assert child.says() == ["may", True, True]

    # The shorter of its two leases runs out while nothing can be written.
    assert child.says() == ["overdue", "u:b"]
    assert child.says() == ["may", True, False]
    child.tell()  # there is room again
    end, room = child.says(), child.says()
    assert end[0] == "ended"
    answered[end[1]] = end[2]
    answered[room[0]] = room[1]

    vm = stage.open(path)
    assert answered.items() <= {one.seq: one.id for one in stage.receipts(vm)}.items()
    assert [one.fields["what"]["ended_via"] for one in stage.ends(vm)] == ["scheduler"]
    stage.check_whole(vm)
    assert audit_ledger(vm.ledger).findings == ()


def test_a_flush_that_fails_is_not_an_answer(stage):
    """The system says that what was written may not be on the disk: then it was not granted."""
    vm = stage.make()
    stage.climb(vm, "u:before")
    before = stage.receipts(vm)
    vm.close()
    flaky = FlakyFiles()
    stage.closing(flaky, FlakyFiles.unregister)
    again = stage.open(vm.ledger.path)
    stage.climb(again, "u:a")
    flaky.failing = True
    with pytest.raises(LedgerUnavailable, match=r"the ledger can't be used .*; nothing was"):
        again.escalate("u:b", "operator", trigger="asked")
    assert flaky.failures
    assert again.may("u:a", "operator")
    assert not again.may("u:b", "operator")
    flaky.failing = False
    stage.climb(again, "u:c")
    receipts = stage.receipts(again)
    assert receipts[: len(before)] == before
    assert [one.fields["who"]["principal"] for one in receipts[len(before) :]] == ["u:a", "u:c"]
    stage.check_whole(again)
    assert audit_ledger(again.ledger).findings == ()


class FlakyFiles(apsw.VFS):
    """The system's files, whose flush can be made to fail."""

    def __init__(self):
        self.failing, self.failures = False, 0
        self.real = apsw.vfs_names()[0]
        super().__init__("flaky", self.real, makedefault=True)

    def xOpen(self, name, flags):  # noqa: N802 -- as SQLite calls it
        return FlakyFile(self, name, flags)


class FlakyFile(apsw.VFSFile):
    def __init__(self, files, name, flags):
        self._files = files
        super().__init__(files.real, name, flags)

    def xSync(self, flags):  # noqa: N802
        if self._files.failing:
            self._files.failures += 1
            raise apsw.IOError
        super().xSync(flags)
