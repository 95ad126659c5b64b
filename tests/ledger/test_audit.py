"""An untouched ledger audits clean, and strangers with coreutils and openssl say the same."""

import base64
import subprocess
from contextlib import closing
from datetime import timedelta

import apsw
import pytest

from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.ledger.audit import audit_bundle, audit_ledger

SPKI = bytes.fromhex("302a300506032b6570032100")  # what X.509 writes before an Ed25519 key


def run(*command, data=b"", **options):
    return subprocess.run(command, input=data, capture_output=True, check=True, **options).stdout


def sha256sum(data):
    return bytes.fromhex(run("sha256sum", data=data).split()[0].decode())


def root_of(leaves):
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256sum(b"\x01" + root_of(leaves[:half]) + root_of(leaves[half:]))


# ---- clean ----------------------------------------------------------------------------------


def test_a_ledger_in_which_everything_happened_has_no_finding(told, open_ledger):
    ledger = open_ledger(told / "l.db")
    found = audit_ledger(ledger)
    assert found.findings == ()
    assert found.is_good
    with ledger.read() as snapshot:
        assert found.open_leases == len(list(snapshot.leases.every(open_only=True))) == 1
        assert found.size == len(list(snapshot.receipts()))
    assert found.origin == ledger.origin


def test_its_bundle_has_no_finding_either_and_the_same_root(told, open_ledger, house):
    of_file, of_bundle = audit_ledger(open_ledger(told / "l.db")), audit_bundle(told / "bundle")
    assert of_bundle.findings == ()
    assert (of_bundle.size, of_bundle.root) == (of_file.size, of_file.root)
    assert of_bundle.constitution == house.law.digest


def test_a_recovery_leaves_a_ledger_that_audits_clean(house):
    house.climb("op:a")
    house.clock.reboot(down_for=timedelta(minutes=1), wall_error=-timedelta(days=365))
    assert house.climb("op:b").outcome == "denied"
    assert audit_ledger(house.ledger).findings == ()
    assert house.recover("g:two", "root").outcome == "recorded"
    assert house.climb("op:b").granted
    assert audit_ledger(house.ledger).findings == ()


def test_a_drills_stand_ins_verify_in_its_own_ledger_only(drilled, house):
    approvals = [
        signed["by"]
        for receipt in drilled.receipts()
        for signed in receipt.fields["authority"]["approvals"]
    ]
    assert "drill:root" in approvals
    assert audit_ledger(drilled.ledger).findings == ()
    house.climb("op:a")
    answer = house.approved("op:a", "guardian", "drill:root")
    assert "approval_no_key" in {one.code for one in answer.unmet}


def test_an_audit_says_how_far_it_got(told, open_ledger):
    ledger = open_ledger(told / "l.db")
    seen = []
    found = audit_ledger(ledger, progress=lambda more, total: seen.append((more, total)))
    assert seen == [(1, found.size)] * found.size


# ---- without vmstate ------------------------------------------------------------------------


def test_coreutils_and_openssl_alone_verify_a_bundle(told, tmp_path):
    bundle = told / "bundle"
    name, key_id, encoded = (bundle / "keys" / "log.vkey").read_text().rstrip("\n").split("+", 2)
    key = run("base64", "-d", data=encoded.encode())
    assert sha256sum(f"{name}\n".encode() + key)[:4].hex() == key_id
    text = run("head", "-n", "3", bundle / "checkpoint")
    signature = run("tail", "-n", "1", bundle / "checkpoint").split()[2]
    (tmp_path / "text").write_bytes(text)
    (tmp_path / "key").write_bytes(SPKI + key[1:])
    (tmp_path / "signature").write_bytes(run("base64", "-d", data=signature)[4:])
    verify = "openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey key -in text"
    said = run(*verify.split(), "-sigfile", "signature", cwd=tmp_path)
    assert said == b"Signature Verified Successfully\n"
    origin, size, root = text.decode().splitlines()
    lines = (bundle / "receipts.jsonl").read_bytes().splitlines()
    assert (origin, int(size)) == (name, len(lines))
    assert root_of([sha256sum(b"\0" + line) for line in lines]) == base64.b64decode(root)


def test_a_bundle_holds_the_law_and_exactly_these_files(told, house):
    bundle = told / "bundle"
    files = sorted(str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file())
    assert files == ["checkpoint", "constitution.toml", "keys/log.vkey", "receipts.jsonl"]
    assert (bundle / "constitution.toml").read_bytes() == house.law.toml


# ---- F9: one bad row is one bad row ---------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE lease SET deadline_us = 9223372036854775807 WHERE seq = 1",
        "UPDATE lease SET deadline_us = -9223372036854775807 WHERE seq = 1",
        "UPDATE lease SET granted_us = 9223372036854775807 WHERE seq = 1",
    ],
)
def test_a_lease_row_that_can_not_be_read_denies_its_holder_and_nobody_else(house, damage):
    house.climb("op:a")
    house.climb("op:b")
    house.close()
    with closing(apsw.Connection(str(house.path))) as db:
        db.execute(damage)
    clock = VirtualClock(house.noon)
    with closing(Authority.open(house.golden / "constitution.toml", house.path, clock=clock)) as vm:
        assert not vm.may("op:a", "operator")
        assert vm.may("op:b", "operator")
        assert [one.principal for one in vm.status()] == ["op:b"]
        assert any("lease-1" in str(one) for one in audit_ledger(vm.ledger).findings)


def test_a_receipt_that_can_not_be_read_stops_nobody_and_is_named(house):
    house.climb("op:a")
    house.climb("op:b")
    with closing(apsw.Connection(str(house.path))) as db:
        db.execute("DROP TRIGGER receipt_is_final")
        db.execute("UPDATE receipt SET body = x'ff00' WHERE seq = 1")
    assert house.vm.may("op:b", "operator")
    assert house.climb("op:c").granted
    found = [one for one in audit_ledger(house.ledger).findings if one.seq == 1]
    assert any("not a canonical receipt" in one.what for one in found)
