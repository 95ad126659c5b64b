"""`canary` takes a real lease, on the machine's own time, and reports how it came back."""

import json
import subprocess
import sys
from datetime import timedelta

import apsw
import pytest
from typed import typed

from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.store import Ledger

RUN = "from vmstate.interfaces.cli.main import run; run()"
HASTY = f"""
from datetime import timedelta
from vmstate.interfaces.cli import canary
canary.LEASE_FOR, canary.BACK_WITHIN = timedelta(seconds=1), timedelta(seconds=0.5)
{RUN}
"""
SECONDS = 60  # far beyond what holds, so that only a failure waits so long
WHO = "did:vm:agent:canary"


class Shop:
    """A live ledger under the shipped constitution, and the command beside it."""

    def __init__(self, path):
        self.path = path
        assert typed("init", "--preset", "vaultmesh", at=path).code == 0

    def start(self, *words, code=RUN):
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, *words],
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words, code=RUN):
        process = self.start(*words, code=code)
        out, err = process.communicate(timeout=SECONDS)
        return process.returncode, out, err

    def typed(self, *words):
        """Where it is refused it does nothing for which it would take a process of its own."""
        return typed("canary", *words, at=self.path)

    def receipts(self):
        ledger = Ledger.open(self.path / "vmstate.db")
        assert audit_ledger(ledger).findings == ()
        with ledger.read() as snapshot:
            receipts = tuple(snapshot.receipts(after=0))
        ledger.close()
        return receipts


@pytest.fixture
def shop(tmp_path, monkeypatch):
    for name in ("VMSTATE_LEDGER", "VMSTATE_CONSTITUTION", "VMSTATE_PRINCIPAL", "DRILL_MODE"):
        monkeypatch.delenv(name, raising=False)
    return Shop(tmp_path)


def test_a_lease_of_five_seconds_comes_back_and_how_late_is_told(shop):
    code, out, err = shop.run("canary", "--as", WHO, "--own-scheduler", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    grant, end = shop.receipts()
    assert told["ok"] is True
    assert (told["principal"], told["rule"]) == (WHO, "operator_on_request")
    assert (told["lease"], told["granted"], told["ended"]) == (grant.lease, grant.seq, end.seq)
    assert grant.fields["what"]["ttl_requested_us"] == 5_000_000
    assert (grant.expires_at - grant.at).total_seconds() == 5
    assert grant.fields["why"].startswith("canary")
    assert (told["ending"], told["ended_via"]) == ("timeout_expired", "scheduler")
    assert told["expires_at"] == grant.fields["what"]["expires_at"] == end.fields["due"]
    assert told["refused_at"] >= told["expires_at"]
    assert told["late_us"] == (end.at - grant.expires_at) // timedelta(microseconds=1)
    assert 0 <= told["late_us"] < 10_000_000


def test_what_does_not_come_back_in_time_is_told_and_fails(shop):
    process = shop.start("canary", "--as", WHO, "--own-scheduler", code=HASTY)
    assert process.stdout.readline().startswith(f"granted   lease-1: {WHO} is operator until ")
    # Somebody who keeps the ledger busy: the lease is over, and its end can't be written.
    busy = apsw.Connection(str(shop.path / "vmstate.db"))
    busy.execute("BEGIN IMMEDIATE")
    refused, missing = process.stdout.readline(), process.stdout.readline()
    busy.execute("ROLLBACK")
    busy.close()
    _, err = process.communicate(timeout=SECONDS)
    assert refused.endswith(" after the deadline, when first asked\n")
    assert missing == "returned  no: 0.5s after its deadline the end is not on the record\n"
    assert "look at the ledger's disk and key" in err
    assert process.returncode == 1


def test_a_service_that_does_not_run_is_noticed(shop):
    code, out, err = shop.run("canary", "--as", WHO, code=HASTY)
    assert code == 1
    assert "\nreturned  no: 0.5s after its deadline the end is not on the record\n" in out
    told = "  the lease is over, but nothing wrote its end: is vmstate serve running?\n"
    assert err == told
    assert [receipt.type for receipt in shop.receipts()] == ["profile_escalation"]


def test_a_service_that_runs_gives_back(shop):
    service = shop.start("serve")
    try:
        assert "giving back on time" in service.stderr.readline()
        code, out, err = shop.run("canary", "--as", WHO, code=HASTY.replace("0.5", "30"))
    finally:
        service.terminate()
        service.communicate(timeout=SECONDS)
    assert code == 0, err
    assert " late, by scheduler: timeout_expired, operator to observer\n" in out


def test_a_scheduler_of_its_own_beside_a_socket_is_refused(shop):
    done = shop.typed("--as", WHO, "--own-scheduler", "--socket", "s")
    assert done.code == 2
    assert "--own-scheduler is for a ledger without a service, and --socket names one" in done.err


def test_it_is_refused_where_it_would_show_nothing(shop):
    done = shop.typed("--as", "did:vm:nobody:1")
    assert done.code == 3
    assert "did:vm:nobody:1 is not in agents, operators, sovereigns" in done.err
    done = shop.typed("--as", WHO, "--rule", "guardian_on_request", "--json")
    assert (done.code, json.loads(done.out)["ok"]) == (3, False)
    done = shop.typed("--as", WHO, "--rule", "anything")
    assert done.code == 2
    assert "'anything' is no rule of this constitution: name one of operator_on_request" in done.err
    assert shop.typed().code == 2
    typed("drill", "run", "--keep", "kept", at=shop.path)
    done = shop.typed("--as", WHO, "--ledger", "kept/drill_1.db")
    assert done.code == 2
    assert "kept/drill_1.db is a drill's ledger: a canary shows the live one" in done.err
    assert [receipt.type for receipt in shop.receipts()] == ["auth_failure"] * 2
