"""What `audit` says of a ledger's file that somebody wrote into by hand: exit code 1, and what."""

from contextlib import closing

import apsw
import pytest

UNLOCK = "DROP TRIGGER receipt_is_final; DROP TRIGGER receipt_stays;"
TAMPERINGS = {
    "a word in a receipt": (
        "UPDATE receipt SET body = CAST(replace(CAST(body AS TEXT), '4711', '4712') AS BLOB)",
        "its leaf column is not the hash of its body",
    ),
    "a receipt taken out": (
        "DELETE FROM receipt WHERE seq = 1",
        "receipts 1 to 1 are missing",
    ),
    "the newest receipt cut off": (
        "DELETE FROM receipt WHERE seq = 2",
        "the checkpoint is over 3 receipts",
    ),
    "a lease made longer": (
        "UPDATE lease SET deadline_us = deadline_us + 3600000000",
        "the table of leases is wrong on lease-2: ends_at\n",
    ),
    "a lease ended by hand": (
        "UPDATE lease SET ended_us = 1, ended_boot = 'b', ended_boot_us = 1, ending = 'x'",
        "the table of leases is wrong on lease-2: ended_at, ending\n",
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_ledger_written_into_by_hand_is_found_out(name, used):
    statement, finding = TAMPERINGS[name]
    with closing(apsw.Connection(str(used.path / "vmstate.db"))) as connection:
        connection.execute(UNLOCK + statement)
    done = used.run("vmstate audit")
    assert done.code == 1
    assert finding in done.out
    assert "intact" not in done.out


def test_an_untouched_copy_of_a_ledger_is_intact_without_its_key(used):
    (used.path / "vmstate.db.key").unlink()
    done = used.run("vmstate audit")
    assert done.code == 0
    assert "3 receipts, 1 open lease: intact\n" in done.out
