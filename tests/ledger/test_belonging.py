"""Whose law a ledger is under, whose key signs it, and whose process holds it."""

import subprocess
import sys
from contextlib import closing

import pytest

from vmstate.authority import Authority
from vmstate.constitution.loading import read_constitution
from vmstate.errors import LedgerMismatch, LedgerUnavailable
from vmstate.keys import PrivateKey
from vmstate.ledger.adopting import adopt
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.place import key_path
from vmstate.ledger.store import Ledger

FORKER = """
import os, sys
from vmstate.authority import Authority
vm = Authority.open(*sys.argv[1:])
vm.escalate("op:a", "operator", trigger="nothing")
if os.fork() == 0:
    for use in (lambda: vm.may("op:a", "operator"), lambda: vm.settle(["op:a"])):
        try:
            use()
        except RuntimeError as error:
            print(error, flush=True)
    os._exit(0)
os.wait()
vm.escalate("op:a", "operator", trigger="nothing")
vm.close()
"""


def refusal(kind, use):
    with pytest.raises(kind) as caught:
        use()
    return str(caught.value)


def edited(law, old, new):
    assert old in law.toml
    return read_constitution(law.toml.replace(old, new))


# ---- whose law ------------------------------------------------------------------------------


def test_a_ledger_is_refused_under_another_constitution(house):
    other = edited(house.law, b'ttl      = "1h"', b'ttl      = "2h"')
    said = refusal(LedgerMismatch, lambda: Authority(other, house.ledger))
    assert said == (
        f"{house.path} is under the constitution {house.law.digest}, not {other.digest}: have it "
        "amended (vmstate amend), or open it under its own, which vmstate --ledger "
        f"{house.path} constitution show prints"
    )


def test_an_unused_ledger_adopts_an_edited_constitution_by_another_receipt(house):
    other = edited(house.law, b'ttl      = "1h"', b'ttl      = "2h"')
    receipt = adopt(house.ledger, other, house.clock.read())
    assert (receipt.seq, receipt.type) == (1, "constitution_loaded")
    assert receipt.fields["authority"]["constitution"] == other.digest
    assert audit_ledger(house.ledger).findings == ()
    vm = Authority(other, house.ledger, clock=house.clock)
    granted = vm.escalate("op:a", "operator", trigger="asked", reason="look at ticket 4711")
    assert (granted.expires_at - granted.at).total_seconds() == 7_200
    assert audit_ledger(house.ledger).findings == ()


@pytest.mark.parametrize("granted", [True, False])
def test_a_ledger_that_was_used_adopts_nothing_even_if_all_it_said_was_no(house, granted):
    assert house.climb("op:a", trigger="asked" if granted else "nothing").granted == granted
    other = edited(house.law, b'ttl      = "1h"', b'ttl      = "2h"')
    before = house.receipts()
    said = refusal(LedgerMismatch, lambda: adopt(house.ledger, other, house.clock.read()))
    assert said == (
        f"{house.path} has been used under another constitution: amend it, "
        "or make another ledger with --ledger"
    )
    assert house.receipts() == before


# ---- the key --------------------------------------------------------------------------------


def test_without_its_key_a_ledger_is_read_and_audited_and_not_written(told, copy, open_ledger):
    key_path(copy / "l.db").unlink()
    ledger = open_ledger(copy / "l.db")
    assert audit_ledger(ledger).findings == ()
    with pytest.raises(LedgerUnavailable) as caught:
        ledger.transact(lambda _: None)
    assert str(caught.value) == (
        f"key file {copy / 'l.db.key'} cannot be read: No such file or directory: put the log's "
        "key back to write again; reading and auditing go on without it"
    )
    key_path(copy / "l.db").write_bytes(key_path(told / "l.db").read_bytes())
    ledger.transact(lambda _: None)


def test_with_another_ledgers_key_nothing_is_written(copy, open_ledger):
    path = key_path(copy / "l.db")
    path.unlink()
    PrivateKey.derive("another").save(path)
    with pytest.raises(LedgerMismatch) as caught:
        open_ledger(copy / "l.db").transact(lambda _: None)
    assert str(caught.value) == f"{path} is not the key of this ledger: put the right one back"


def test_the_ledger_and_its_key_are_their_owners_alone(house):
    for path in (house.path, key_path(house.path)):
        assert path.stat().st_mode & 0o777 == 0o600


# ---- after its end --------------------------------------------------------------------------


def test_a_closed_ledger_refuses_every_use(house):
    house.ledger.close()
    closed = f"{house.path} was closed: open it again"
    for use in (lambda: house.vm.may("op:a", "operator"), lambda: house.climb("op:a")):
        with pytest.raises(LedgerUnavailable) as caught:
            use()
        assert str(caught.value) == closed
    with closing(Ledger.open(house.path)) as ledger:
        assert audit_ledger(ledger).findings == ()


def test_after_a_fork_the_child_is_refused_and_the_parent_goes_on(tmp_path, house):
    law, path = house.golden / "constitution.toml", tmp_path / "real.db"
    Authority.create(house.law, path).close()
    done = subprocess.run(
        [sys.executable, "-c", FORKER, law, path], capture_output=True, text=True, check=True
    )
    refused = "a ledger does not survive a fork: open it in the new process"
    assert done.stdout.splitlines() == [refused, refused]
    with closing(Ledger.open(path)) as ledger:
        found = audit_ledger(ledger)
    assert (found.size, found.findings) == (3, ())
