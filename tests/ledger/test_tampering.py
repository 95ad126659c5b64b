"""F30: whoever changes a ledger's file without the log's key is found.

Each attack works on a copy of one history; the numbers are those of its receipts.
"""

import hashlib
import re
from contextlib import closing

import apsw
import pytest

from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.checkpoint import VerifierKey
from vmstate.ledger.merkle import Tree

NEWEST, OPEN = 30, 28  # the last receipt, and the one whose lease is open
US_PER_DAY = 86_400_000_000


def recompute_head(db):
    tree = Tree()
    for (leaf,) in db.execute("SELECT leaf FROM receipt ORDER BY seq"):
        tree = tree.append(leaf)
    db.execute("UPDATE head SET size = ?, peaks = ?", (tree.size, tree.to_bytes()))


def swap_receipts(db):
    for old, new in ((5, 99), (6, 5), (99, 6)):
        db.execute("UPDATE receipt SET seq = ? WHERE seq = ?", (new, old))


def cut_tail(db):
    db.execute("DELETE FROM receipt WHERE seq >= 29")


def cut_tail_and_recompute(db):
    cut_tail(db)
    recompute_head(db)


def edit_last_and_recompute(db):
    change = "UPDATE receipt SET body = swap(body, 'observer', 'phoenix') WHERE seq = ?"
    db.execute(change, (NEWEST,))
    db.execute("UPDATE receipt SET leaf = leaf(body)")
    recompute_head(db)


# name: (what is done to the file, a finding that must be among those made)
FILE = {
    "a body": (
        "UPDATE receipt SET body = swap(body, 'ticket', 'wicket') WHERE seq = 1",
        "receipt 1: its leaf column is not the hash of its body",
    ),
    "a body and its leaf": (
        """UPDATE receipt SET body = swap(body, 'ticket', 'wicket') WHERE seq = 1;
           UPDATE receipt SET leaf = leaf(body)""",
        "receipt 1: is not what receipt 2 follows in scroll 'identity': one of them was changed",
    ),
    "the last body, its leaf and the head": (edit_last_and_recompute, "the checkpoint is over 31 "),
    "a leaf": (
        "UPDATE receipt SET leaf = zeroblob(32) WHERE seq = 7",
        "receipt 7: its leaf column is not the hash of its body",
    ),
    "a body to no JSON": (
        "UPDATE receipt SET body = x'ff' WHERE seq = 7",
        "receipt 7: not a canonical receipt",
    ),
    "a body to another JSON": (
        "UPDATE receipt SET body = CAST('[]' AS BLOB) WHERE seq = 7",
        "receipt 7: not a receipt of version 1",
    ),
    "a lease in a body to a number": (
        """UPDATE receipt SET body = swap(body, '"lease":"lease-7"', '"lease":7') WHERE seq = 7""",
        "receipt 7: its leaf column is not the hash of its body",
    ),
    "a body to the deepest JSON": (
        "UPDATE receipt SET body = deep() WHERE seq = 7",
        "receipt 7: not a canonical receipt",
    ),
    "a receipt deleted": (
        "DELETE FROM receipt WHERE seq = 5",
        "receipt 5: receipts 5 to 5 are missing",
    ),
    "two receipts swapped": (swap_receipts, "receipt 5: says it is number 6"),
    "the tail cut": (cut_tail, "the checkpoint is over 31 receipts"),
    "the tail cut and the head with it": (
        cut_tail_and_recompute,
        "the checkpoint is over 31 receipts",
    ),
    "a receipt added": (
        """INSERT INTO receipt SELECT 31, leaf, body, scroll, 99, type, outcome, principal,
           lease_seq FROM receipt WHERE seq = 28""",
        "the checkpoint is over 31 receipts",
    ),
    "a lease added": (
        """INSERT INTO lease SELECT 26, principal, 'phoenix', rule, trigger, parent_seq, granted_us,
           granted_boot, granted_boot_us, limit_us, limit_boot, limit_boot_us, deadline_us,
           deadline_boot, deadline_boot_us, renewals, max_uses, idle_us, uses, ended_us,
           ended_boot, ended_boot_us, ending, unseated FROM lease WHERE seq = 28""",
        "lease-26, which no receipt granted",
    ),
    "a lease deleted": ("DELETE FROM lease WHERE seq = 28", "lease-28"),
    "an ended lease deleted": ("DELETE FROM lease WHERE seq = 3", "lease-3"),
    "a lease opened again": (
        """UPDATE lease SET ended_us = NULL, ended_boot = NULL, ended_boot_us = NULL,
           ending = NULL WHERE seq = 3""",
        "the table of leases is wrong on lease-3",
    ),
    "a deadline beyond every calendar": (
        "UPDATE lease SET deadline_us = 9223372036854775807 WHERE seq = 28",
        "lease-28",
    ),
    "a cool-down cut short by the boot hand": (
        "UPDATE lease SET ended_boot_us = -100000000000 WHERE seq = 3",
        "by the table of leases lease-3 began or ended at another time by the boot hand",
    ),
    "a used statement deleted": (
        "DELETE FROM statement WHERE id = (SELECT min(id) FROM statement WHERE seq = 5)",
        "receipt 5",
    ),
    "a used statement added": ("INSERT INTO statement VALUES ('sha256:beef', 3)", "sha256:beef"),
    "a used statement moved": ("UPDATE statement SET seq = 9 WHERE seq = 5", "receipt 5"),
    "the law's TOML": (
        "UPDATE constitution SET toml = swap(toml, '\"1h\"', '\"9h\"')",
        "the constitution's canonical bytes are not those of its TOML",
    ),
    "the law's TOML and its digest": (
        "UPDATE constitution SET toml = swap(toml, '\"1h\"', '\"9h\"'), digest = 'sha256:0'",
        "the constitutions in the file are not those that the receipts put in force",
    ),
    "the law to no TOML": (
        "UPDATE constitution SET toml = CAST('[' AS BLOB)",
        "the constitution does not load: constitution.toml:1: is not TOML",
    ),
    "a law of another receipt": (
        "INSERT INTO constitution SELECT 5, digest, canonical, toml FROM constitution",
        "constitution",
    ),
    "the law deleted": ("DELETE FROM constitution", "constitution"),
    "the head's size": ("UPDATE head SET size = 30", "the ledger's head is damaged"),
    "the head's peaks": (
        "UPDATE head SET peaks = zeroblob(length(peaks))",
        "the head's tree is not",
    ),
    "the head's note": ("UPDATE head SET note = ''", "malformed note"),
    "the head deleted": ("DELETE FROM head", "the ledger has no head"),
    "the verifier key": (
        "UPDATE meta SET verifier = other_key(origin)",
        "the note has no signature",
    ),
    "the log's name": ("UPDATE meta SET origin = 'golden/00000000'", "golden/00000000"),
    "a real ledger to a drill's": (
        """UPDATE meta SET drill = '{"id":"x","marker":"x","digest":"x","stand_ins":{}}'""",
        "drill",
    ),
}
INDEX = {
    "scroll": "'treasury'",
    "scroll_seq": "99",
    "type": "'lease_renewed'",
    "outcome": "'denied'",
    "principal": "'op:z'",
    "lease_seq": "4",
}
# The columns of a lease and of the head that follow from receipts; the boot hand is in no receipt.
LEASE = {
    "principal": "'op:z'",
    "profile": "'observer'",
    "rule": "'operator_on_anything'",
    "trigger": "'anything'",
    "parent_seq": "NULL",
    "granted_us": f"granted_us + {US_PER_DAY}",
    "limit_us": f"limit_us + {US_PER_DAY}",
    "limit_boot_us": f"limit_boot_us + {US_PER_DAY}",
    "deadline_us": f"deadline_us + {US_PER_DAY}",
    "deadline_boot_us": f"deadline_boot_us + {US_PER_DAY}",
    "renewals": "renewals + 1",
    "max_uses": "9",
    "idle_us": f"{US_PER_DAY}",
    "uses": "uses + 1",
}
ENDED = {"ended_us": f"ended_us - {US_PER_DAY}", "ending": "'timeout_expired'"}
HEAD = {
    "newest_us": "0",
    "voided_below": "0",
    "held_until_us": f"newest_us + {US_PER_DAY}",
    "recovered_us": "NULL",
    "ahead_us": "newest_us - newest_boot_us - 1",
}


def tamper(path, attack):
    with closing(apsw.Connection(str(path))) as db:
        db.create_scalar_function("leaf", lambda body: hashlib.sha256(b"\0" + body).digest())
        db.create_scalar_function("deep", lambda: b"[" * 1_000 + b"]" * 1_000)
        db.create_scalar_function("swap", swap)
        db.create_scalar_function("other_key", other_key)
        db.execute("DROP TRIGGER receipt_is_final; DROP TRIGGER receipt_stays")
        db.pragma("foreign_keys", 0)
        before = db.total_changes()
        attack(db) if callable(attack) else db.execute(attack)
        assert db.total_changes() > before


def swap(body, old, new):
    assert old.encode() in body
    return body.replace(old.encode(), new.encode())


def other_key(origin):
    return str(VerifierKey(origin, PrivateKey.derive("other").public))


def findings(ledger):
    return [str(one) for one in audit_ledger(ledger).findings]


@pytest.mark.parametrize(("attack", "finding"), FILE.values(), ids=FILE)
def test_a_change_to_the_file_is_found(copy, open_ledger, attack, finding):
    tamper(copy / "l.db", attack)
    found = findings(open_ledger(copy / "l.db"))
    assert [one for one in found if finding in one], found


@pytest.mark.parametrize(("column", "value"), INDEX.items(), ids=INDEX)
def test_a_change_to_a_column_that_indexes_a_receipt_is_found(copy, open_ledger, column, value):
    tamper(copy / "l.db", f"UPDATE receipt SET {column} = {value} WHERE seq = 5")  # noqa: S608
    found = findings(open_ledger(copy / "l.db"))
    assert "receipt 5: a column that indexes it says otherwise" in found


@pytest.mark.parametrize(
    ("lease", "column", "value"),
    [
        *((OPEN, column, value) for column, value in LEASE.items() if column != "parent_seq"),
        *((7, column, value) for column, value in (LEASE | ENDED).items()),
    ],
)
def test_a_change_to_a_lease_is_found(copy, open_ledger, lease, column, value):
    tamper(copy / "l.db", f"UPDATE lease SET {column} = {value} WHERE seq = {lease}")  # noqa: S608
    found = findings(open_ledger(copy / "l.db"))
    assert [one for one in found if f"lease-{lease}" in one], found


def test_a_wall_that_was_ahead_as_no_receipt_ever_was_is_found(copy, open_ledger):
    tamper(copy / "l.db", "UPDATE head SET ahead_us = 9000000000000000")
    (found,) = findings(open_ledger(copy / "l.db"))
    assert re.fullmatch(r"the head's ahead_us is 9000000000000000, needs \d+ to \d+", found)


def test_a_head_that_is_gone_is_found_once_and_sends_nobody_in_a_circle(copy, open_ledger):
    tamper(copy / "l.db", "DELETE FROM head")
    assert findings(open_ledger(copy / "l.db")) == ["the ledger has no head"]


@pytest.mark.parametrize(("column", "value"), HEAD.items(), ids=HEAD)
def test_a_change_to_what_the_head_knows_of_time_is_found(copy, open_ledger, column, value):
    tamper(copy / "l.db", f"UPDATE head SET {column} = {value}")  # noqa: S608
    found = findings(open_ledger(copy / "l.db"))
    assert [one for one in found if "the head" in one], found
