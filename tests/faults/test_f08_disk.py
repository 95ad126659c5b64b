"""F8: the disk is full, read-only, or fails in the middle of a write."""

from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace

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


def test_who_comes_to_a_ledger_on_a_full_disk_reads_it_and_keeps_nobody_from_it(stage):
    """What readers share can't be made: whoever reads has the file alone, and lets go of it."""
    vm = stage.make()
    path = vm.ledger.path
    stage.climb(vm, "u:a")
    vm.close()
    child = stage.child("shut_out", path)
    assert child.says() == ["may", True, False, 2]
    assert child.says() == ["audit", 0]
    what, said = child.says()
    assert what == "LedgerUnavailable"
    assert said == (
        f"{path}: the files beside it can't grow: make room, or raise the limit on a file's size "
        "(disk I/O error); nothing was written"
    )
    # Somebody who has room comes and goes; what they wrote is seen, though nothing tells of it.
    other = stage.open(path)
    stage.climb(other, "u:b")
    other.close()
    child.tell()
    assert child.says() == ["may", True, True, 3]
    seq, id_ = child.says()
    assert child.says() == ["may", True]
    again = stage.open(path)
    assert again.receipt(seq).id == id_
    stage.check_whole(again)
    assert audit_ledger(again.ledger).findings == ()


def test_what_fails_while_the_disk_is_full_says_that_it_is_and_what_to_do(stage, monkeypatch):
    vm = stage.make()
    vm.close()
    flaky = FlakyFiles()
    stage.closing(flaky, FlakyFiles.unregister)
    again = stage.open(vm.ledger.path)
    flaky.failing = True
    left = SimpleNamespace(f_bavail=3, f_frsize=4_096)
    monkeypatch.setattr("vmstate.ledger.place.os.statvfs", lambda _: left)
    with pytest.raises(LedgerUnavailable) as caught:
        again.escalate("u:a", "operator", trigger="asked")
    folder = vm.ledger.path.parent
    assert str(caught.value).startswith(
        f"{vm.ledger.path}: the disk is full, it has 12,288 bytes left for {folder}: make room, "
        "what is owed follows ("
    )
    assert str(caught.value).endswith("; nothing was written")


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
