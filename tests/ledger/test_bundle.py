"""A bundle: written beside nothing else, and found out if anything in it was changed.

Each attack works on a copy of one bundle; the numbers are those of its receipts.
"""

import subprocess
import sys

import pytest

from vmstate.errors import InputError, LedgerNotFound, TamperError
from vmstate.ledger.audit import audit_bundle
from vmstate.ledger.bundle import export

# The disk takes no file above a limit; the ledger is opened and read before that begins.
EXPORTER = """
import resource, sys
from pathlib import Path
from vmstate.errors import VmstateError
from vmstate.ledger.bundle import export
from vmstate.ledger.store import Ledger
ledger = Ledger.open(Path(sys.argv[1]))
with ledger.read() as snapshot:
    snapshot.head()
resource.setrlimit(resource.RLIMIT_FSIZE, (8_192, 8_192))
try:
    export(ledger, Path(sys.argv[2]))
except VmstateError as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize("there", ["file", "folder"])
def test_an_export_never_writes_over_anything(there, tmp_path, house):
    target = tmp_path / "target"
    if there == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "mine").touch()
    with pytest.raises(InputError) as caught:
        export(house.ledger, target)
    assert str(caught.value) == (f"{target} is there already and not an empty folder: name another")


def test_an_export_that_the_disk_does_not_take_blames_the_folder_not_the_ledger(told, tmp_path):
    target = tmp_path / "target"
    command = [sys.executable, "-c", EXPORTER, told / "l.db", target]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"InputError: {target} can't be written: File too large\n"


def test_a_folder_that_is_no_bundle_is_named(tmp_path):
    with pytest.raises(LedgerNotFound) as caught:
        audit_bundle(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path} is not a bundle: it has no ")


@pytest.mark.parametrize("name", ["checkpoint", "keys/log.vkey", "constitution.toml"])
def test_a_file_in_it_that_is_far_too_long_is_not_read(name, copy):
    with (copy / "bundle" / name).open("ab") as file:
        file.truncate(2**40)
    told = r"has more than 1,048,576 bytes, at most so many are read$"
    with pytest.raises(TamperError, match=told):
        audit_bundle(copy / "bundle")


# ---- F30: whoever changes it without the log's key is found --------------------------------


def lines(change):
    def attack(bundle):
        path = bundle / "receipts.jsonl"
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))

    return attack


def replace(name, old, new):
    def attack(bundle):
        path = bundle / name
        before = path.read_bytes()
        path.write_bytes(before.replace(old.encode(), new.encode()))
        assert path.read_bytes() != before

    return attack


def write(name, data):
    return lambda bundle: (bundle / name).write_bytes(data)


def add(name, data):
    return lambda bundle: (bundle / name).write_bytes((bundle / name).read_bytes() + data)


BUNDLE = {
    "a line": (
        lines(lambda a: [*a[:1], a[1].replace(b"ticket", b"wicket"), *a[2:]]),
        "receipt 1: is not what receipt 2 follows in scroll 'identity': one of them was changed",
    ),
    "the last line": (
        lines(lambda a: [*a[:-1], a[-1].replace(b"observer", b"phoenix")]),
        "the checkpoint is over 31 receipts",
    ),
    "a line deleted": (lines(lambda a: a[:5] + a[6:]), "receipt 5: says it is number 6"),
    "two lines swapped": (
        lines(lambda a: [*a[:5], a[6], a[5], *a[7:]]),
        "receipt 5: says it is number 6",
    ),
    "the tail cut": (lines(lambda a: a[:-1]), "the checkpoint is over 31 receipts"),
    "the last newline cut": (
        lines(lambda a: [*a[:-1], a[-1][:-1]]),
        "receipts.jsonl: line 31 is cut off or too long",
    ),
    "a line added": (lines(lambda a: [*a, a[-1]]), "receipt 31: says it is number 30"),
    "an empty line": (lines(lambda a: [*a, b"\n"]), "receipt 31: not a canonical receipt"),
    "a line longer than any receipt": (
        lines(lambda a: [*a, b'"' + b"x" * 70_000 + b'"\n']),
        "receipts.jsonl: line 32 is cut off or too long",
    ),
    "a line deeper than any receipt": (
        lines(lambda a: [*a, b"[" * 1_000 + b"]" * 1_000 + b"\n"]),
        "receipt 31: not a canonical receipt",
    ),
    "no line": (lines(lambda _: []), "the checkpoint is over 31 receipts"),
    "the checkpoint's size": (replace("checkpoint", "\n31\n", "\n30\n"), "does not verify"),
    "the checkpoint's signer": (
        replace("checkpoint", "\n\u2014 golden/", "\n\u2014 silver/"),
        "the note has no signature by golden/",
    ),
    "the checkpoint to nothing": (write("checkpoint", b""), "malformed note"),
    "the checkpoint to no text": (add("checkpoint", b"\xff\n"), "malformed note"),
    "the key": (add("keys/log.vkey", b"x"), "malformed verifier key"),
    "the key to no text": (write("keys/log.vkey", b"\xff\n"), "malformed verifier key"),
    "the law": (
        replace("constitution.toml", '"1h"', '"9h"'),
        "the constitution beside the receipts is not the one they were written under",
    ),
    "the law to nothing": (
        write("constitution.toml", b""),
        "the constitution does not load: constitution.toml: is empty",
    ),
}


@pytest.mark.parametrize(("attack", "finding"), BUNDLE.values(), ids=BUNDLE)
def test_a_change_to_the_bundle_is_found(copy, attack, finding):
    attack(copy / "bundle")
    found = [str(one) for one in audit_bundle(copy / "bundle").findings]
    assert [one for one in found if finding in one], found


def test_an_older_checkpoint_of_the_same_log_does_not_vouch_for_more(house, tmp_path):
    house.climb("op:a")
    older = export(house.ledger, tmp_path / "older")
    house.climb("op:b")
    newer = export(house.ledger, tmp_path / "newer")
    assert audit_bundle(newer.path).is_good
    (newer.path / "checkpoint").write_text(older.note)
    (found,) = audit_bundle(newer.path).findings
    assert str(found).startswith("the checkpoint is over 2 receipts with root ")
