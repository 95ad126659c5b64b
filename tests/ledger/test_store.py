"""One writer, many readers, all of a change or none of it; the file is real, and so are the others.

Whoever else writes here is another thread, another process, or another connection.
"""

import subprocess
import sys
import threading
from contextlib import ExitStack, closing
from pathlib import Path

import apsw
import pytest

from vmstate.authority import Authority
from vmstate.decisions.command import Escalate, make_command
from vmstate.decisions.decision import Entry, Grounds
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.merkle import Tree

FULL = 2  # what SQLite answers for PRAGMA synchronous
WRITERS, EACH = 2, 60

WRITER = """
import sys
from vmstate.authority import Authority
law, ledger, who, times = sys.argv[1:]
vm = Authority.open(law, ledger)
vm.escalate(who, "operator", trigger="nothing")
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(times) - 1):
    vm.escalate(who, "operator", trigger="nothing", reason=f"try number {number}")
vm.close()
"""


def dump(path):
    """Every row of every table, as another connection sees them now."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type='table'")]
        return {table: list(db.execute(f"SELECT * FROM {table}")) for table in tables}  # noqa: S608


def files_open():
    return len(list(Path("/proc/self/fd").iterdir()))


def approved_command(house):
    """A climb that writes a receipt, a lease and three used statements; nobody has asked it yet."""
    request = house.prepare("op:a", "guardian")
    asked = {"principal": "op:a", "to": "guardian", "trigger": "asked", "request": request}
    return make_command(Escalate, {**asked, "approvals": house.approve(request, "g:one", "root")})


def append_all(house, transaction, command):
    now = house.clock.read()
    decision = house.vm._decide(transaction, command, now)
    return [transaction.append(entry, now) for entry in decision.entries]


def assert_whole(ledger):
    """No gap, and the signed root is the root of what is there."""
    with ledger.read() as snapshot:
        receipts = list(snapshot.receipts())
        head = snapshot.head()
    assert [one.seq for one in receipts] == list(range(len(receipts)))
    tree = Tree()
    for one in receipts:
        tree = tree.append(one.leaf)
    assert head.tree == tree
    assert audit_ledger(ledger).findings == ()
    return receipts


# ---- all or nothing -------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_work_that_raises_puts_back_the_receipt_the_lease_the_statements_and_the_head(house, error):
    house.climb("op:a")
    command, before = approved_command(house), dump(house.path)

    def work(transaction):
        assert append_all(house, transaction, command)[-1].granted
        raise error

    with pytest.raises(type(error)):
        house.ledger.transact(work)
    assert dump(house.path) == before
    # The same command is granted afterwards: nothing of the first attempt was used up.
    assert house.vm.submit(command).granted
    assert_whole(house.ledger)


def test_work_that_moves_a_lease_which_is_not_open_changes_nothing(house):
    lease = house.climb("op:a").lease
    house.vm.release("op:a", lease)
    before = dump(house.path)

    def work(transaction):
        entry = Entry("auth_failure", "denied", Grounds("x"), ends=transaction.leases.named(lease))
        transaction.append(entry, house.clock.read())

    with pytest.raises(RuntimeError, match="a lease that is not open"):
        house.ledger.transact(work)
    assert dump(house.path) == before


def test_nothing_can_be_read_before_the_commit_and_all_of_it_after(house):
    house.climb("op:a")
    command, before = approved_command(house), dump(house.path)

    def work(transaction):
        receipts = append_all(house, transaction, command)
        assert transaction.receipt(receipts[-1].seq) == receipts[-1]  # its own reads see it
        assert dump(house.path) == before
        assert not house.vm.may("op:a", "guardian")
        return receipts

    (granted,) = house.ledger.transact(work)
    assert house.vm.may("op:a", "guardian")
    after = dump(house.path)
    new = {table: len(rows) - len(before[table]) for table, rows in after.items()}
    assert {table: count for table, count in new.items() if count} == {
        "receipt": 1,
        "lease": 1,
        "statement": 3,
    }
    assert house.receipts()[-1] == granted


def test_work_that_writes_nothing_leaves_the_file_as_it_was(house):
    before = dump(house.path)
    assert house.ledger.transact(lambda transaction: transaction.head().tree.size) == 1
    assert dump(house.path) == before


def test_a_statement_handed_in_twice_in_one_command_is_answered_by_a_receipt(house):
    house.climb("op:a")
    seen = house.attest("op:a", "0.92")
    answer = house.climb("op:a", "guardian", trigger="threat", attestations=(seen, seen))
    assert house.receipts()[-1] == answer
    assert_whole(house.ledger)


# ---- several at once ------------------------------------------------------------------------


def test_two_threads_leave_no_gap_and_one_tree(house):
    start = threading.Barrier(WRITERS)

    def write(who):
        start.wait()
        for number in range(EACH):  # each of them another: repeats would be counted
            house.climb(who, trigger="nothing", reason=f"try number {number}")

    threads = [threading.Thread(target=write, args=(f"op:{n}",)) for n in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    receipts = assert_whole(house.ledger)
    assert len(receipts) == 1 + WRITERS * EACH


def test_two_processes_leave_no_gap_and_one_tree(tmp_path, house):
    path, law = tmp_path / "real.db", str(house.golden / "constitution.toml")
    with closing(Authority.create(house.law, path)) as vm:
        command = [sys.executable, "-c", WRITER, law, path]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with ExitStack() as running:
            writers = [
                running.enter_context(subprocess.Popen([*command, f"op:{n}", str(EACH)], **pipes))
                for n in range(WRITERS)
            ]
            assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * WRITERS
            for writer in writers:
                writer.stdin.write("go\n")
                writer.stdin.flush()
            assert [writer.wait() for writer in writers] == [0] * WRITERS
        receipts = assert_whole(vm.ledger)
    who = [one.fields["who"]["principal"] for one in receipts[1:]]
    assert {name: who.count(name) for name in who} == {f"op:{n}": EACH for n in range(WRITERS)}


def test_every_connection_flushes_each_commit(house):
    house.climb("op:a")
    seen = []

    def read():
        with house.ledger.read():
            seen.append(house.ledger._reader())

    read()
    other = threading.Thread(target=read)
    other.start()
    other.join()
    assert len(set(map(id, seen))) == 2
    for connection in (*seen, house.ledger._writer):
        assert connection.pragma("synchronous") == FULL
        assert connection.pragma("journal_mode") == "wal"


def test_threads_that_are_gone_leave_no_file_open(house):
    def read():
        assert not house.vm.may("op:a", "operator")

    read()
    before = files_open()
    for _ in range(50):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert files_open() < before + 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE receipt SET outcome = 'granted'", "a receipt never changes"),
        ("DELETE FROM receipt", "a receipt is never deleted"),
        ("REPLACE INTO receipt SELECT * FROM receipt", "a receipt is never replaced"),
    ],
)
def test_sqlite_itself_refuses_to_change_or_delete_a_receipt(house, change, said):
    with (
        closing(apsw.Connection(str(house.path))) as db,
        pytest.raises(apsw.ConstraintError, match=said),
    ):
        db.execute(change)
