"""What is opened and what is refused, in which words; at any size it costs the same."""

import shutil
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest

from vmstate.authority import Authority
from vmstate.decisions.command import Escalate, make_command
from vmstate.errors import InputError, LedgerError, LedgerMismatch, LedgerNotFound, TamperError
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.place import key_path
from vmstate.ledger.store import Ledger

NOBODY = 65_534  # an account that owns nothing here

# Everything is loaded while the child may still read it; only then does it become nobody.
CHILD = f"""
import os, sys
from pathlib import Path
from vmstate.authority import Authority
from vmstate.constitution.loading import load_constitution
from vmstate.errors import VmstateError
law, folder = load_constitution(Path(sys.argv[1])), Path(sys.argv[2])
vm = Authority.open(sys.argv[1], folder / "warm.db")
vm.escalate("op:a", "operator", trigger="nothing")
vm.close()
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
def says(use):
    try:
        print("done:", use())
    except VmstateError as error:
        print(f"{{type(error).__name__}}: {{error}}")
says(lambda: Authority.create(law, folder / "new.db"))
says(lambda: Authority.open(sys.argv[1], folder / "hidden.db"))
vm = Authority.open(sys.argv[1], folder / "shared.db")
says(lambda: vm.may("op:a", "operator"))
says(lambda: vm.escalate("op:a", "operator", trigger="nothing"))
"""


def refusal(kind, use):
    with pytest.raises(kind) as caught:
        use()
    return str(caught.value)


def database(path, **pragmas):
    with closing(apsw.Connection(str(path))) as db:
        db.execute("CREATE TABLE t (x)")
        for name, value in pragmas.items():
            db.pragma(name, value)


@contextmanager
def counted():
    """The virtual-machine steps that SQLite takes on each connection that is made meanwhile."""
    steps = []

    def hook(connection):
        connection.trace_v2(
            apsw.SQLITE_TRACE_PROFILE,
            lambda event: steps.append(event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]),
        )

    apsw.connection_hooks.append(hook)
    try:
        yield steps
    finally:
        apsw.connection_hooks.remove(hook)


# ---- files that are no ledger ---------------------------------------------------------------


def test_a_missing_file_is_named_and_so_is_the_way_to_make_one(tmp_path):
    path = tmp_path / "none.db"
    said = refusal(LedgerNotFound, lambda: Ledger.open(path))
    assert said == f"there is no ledger {path}: make one with vmstate init"
    assert not path.exists()


def test_an_empty_file_is_no_ledger_and_stays_empty(tmp_path):
    path = tmp_path / "empty.db"
    path.touch()
    assert refusal(LedgerMismatch, lambda: Ledger.open(path)) == f"{path} is not a vmstate ledger"
    assert path.read_bytes() == b""


def test_text_is_no_ledger(tmp_path):
    path = tmp_path / "notes.db"
    path.write_text("buy milk\n" * 500)
    said = refusal(LedgerMismatch, lambda: Ledger.open(path))
    assert said.startswith(f"{path} is not a vmstate ledger: ")


def test_another_programs_database_is_no_ledger_and_stays_as_it_was(tmp_path):
    path = tmp_path / "other.db"
    database(path)
    before = path.read_bytes()
    assert refusal(LedgerMismatch, lambda: Ledger.open(path)) == f"{path} is not a vmstate ledger"
    assert path.read_bytes() == before


def test_a_folder_is_no_ledger(tmp_path):
    assert str(tmp_path) in refusal(LedgerMismatch, lambda: Ledger.open(tmp_path))


def test_a_ledger_of_a_later_format_is_left_alone(copy):
    path = copy / "l.db"
    with closing(apsw.Connection(str(path))) as db:
        db.execute("UPDATE meta SET format = 2")
    said = refusal(LedgerMismatch, lambda: Ledger.open(path))
    assert said == f"{path} has format 2, this release reads 1"


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM meta",
        "DROP TABLE meta",
        "UPDATE meta SET verifier = 'x'",
        "UPDATE meta SET drill = 'x'",
        "UPDATE meta SET drill = '{}'",
    ],
)
def test_a_ledger_without_its_heading_is_refused_in_our_words(copy, damage):
    path = copy / "l.db"
    with closing(apsw.Connection(str(path))) as db:
        db.execute(damage)
    refusal(LedgerError, lambda: Ledger.open(path))


def test_a_damaged_page_is_reported_as_damage(copy):
    path = copy / "l.db"
    raw = bytearray(path.read_bytes())
    raw[4_096:] = b"\xff" * (len(raw) - 4_096)
    path.write_bytes(raw)
    said = refusal(TamperError, lambda: Ledger.open(path))
    assert said.startswith(f"{path} is damaged: ")


# ---- making one -----------------------------------------------------------------------------


def test_a_ledger_or_key_that_is_there_is_never_overwritten(tmp_path, house):
    before = house.path.read_bytes()
    said = refusal(InputError, lambda: Authority.create(house.law, house.path))
    assert said == f"{house.path} is there already: give --ledger another name"
    assert house.path.read_bytes() == before
    other = tmp_path / "other.db"
    key_path(other).write_text("mine")
    assert "cannot be made: File exists" in refusal(
        InputError, lambda: Authority.create(house.law, other)
    )
    assert key_path(other).read_text() == "mine"
    assert not other.exists()


def test_a_folder_that_is_not_there_is_not_made(tmp_path, house):
    path = tmp_path / "deep" / "l.db"
    said = refusal(InputError, lambda: Authority.create(house.law, path))
    assert said == f"{path.parent} is not a folder: make it first"


def test_an_account_that_may_not_write_here_is_told_so(house):
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # others must reach it
        folder = Path(name)
        law = folder / "constitution.toml"
        law.write_bytes((house.golden / "constitution.toml").read_bytes())
        for ledger in ("warm", "hidden", "shared"):
            Authority.create(house.law, folder / f"{ledger}.db").close()
        (folder / "hidden.db").chmod(0)
        held = Authority.open(law, folder / "shared.db")  # the owner is at work meanwhile
        held.escalate("op:a", "operator", trigger="nothing")
        for path in folder.glob("shared.db*"):
            path.chmod(0o444)
        key_path(folder / "shared.db").chmod(0)
        folder.chmod(0o555)
        command = [sys.executable, "-c", CHILD, law, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        held.close()
        folder.chmod(0o755)
    made, hidden, may, escalated = done.stdout.splitlines()
    assert made == f"InputError: {folder} can't be written: choose another with --ledger"
    assert hidden.startswith(f"LedgerUnavailable: {folder / 'hidden.db'}: ")
    assert may == "done: False"
    assert escalated.startswith("LedgerUnavailable: ")
    assert "Permission denied" in escalated
    assert "reading and auditing go on without it" in escalated


# ---- F12: the size of a ledger is nothing to whoever opens it -------------------------------


def test_opening_and_the_first_answer_cost_the_same_for_none_and_for_two_thousand_leases(house):
    def first_answers():
        with counted() as steps, closing(Ledger.open(house.path)) as ledger:
            vm = Authority(house.law, ledger, clock=house.clock)
            assert not vm.may("op:nobody", "operator")
            assert vm.due(limit=1) == ()
        return steps

    def fill(transaction):
        now = house.clock.read()
        for n in range(2_000):
            asked = {"principal": f"op:{n}", "to": "operator", "trigger": "asked"}
            command = make_command(Escalate, {**asked, "reason": "look at ticket 4711"})
            for entry in house.vm._decide(transaction, command, now).entries:
                transaction.append(entry, now)

    empty = first_answers()
    house.ledger.transact(fill)
    assert len(house.vm.status()) == 2_000
    full = first_answers()
    assert len(full) == len(empty)
    assert sum(full) <= 1.5 * sum(empty)


def test_reading_writes_nothing(told, copy, open_ledger):
    ledger = open_ledger(copy / "l.db")
    audit_ledger(ledger)
    ledger.close()
    for name in ("l.db", "l.db.key"):
        assert (copy / name).read_bytes() == (told / name).read_bytes()


def test_a_copy_of_the_file_alone_opens_and_audits(told, tmp_path, open_ledger):
    shutil.copy(told / "l.db", tmp_path / "alone.db")
    assert audit_ledger(open_ledger(tmp_path / "alone.db")).size > 1
