"""What an insider can't write about amendments: each follows from what came before, or is found."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from forging import again, drop, put

from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_bundle, audit_ledger
from vmstate.ledger.bundle import export
from vmstate.signing import approve

GOLDEN = (Path(__file__).with_name("golden") / "constitution.toml").read_bytes()
AMENDABLE = GOLDEN + b'\n[amendment]\nneeds.approval = { count = 1, of = ["sovereigns"] }\n'
ROOT, TWO = PrivateKey.derive("ledger", "root"), PrivateKey.derive("ledger", "g:two")
MINUTE = timedelta(minutes=1)
(GRANT_B, GRANT_A, AMENDED, CUT_B, CUT_A, GRANT_C, AGAIN, END_B, END_A, END_C) = range(1, 11)
OTHER = f"sha256:{'0' * 64}"
RULE = b"[escalations.operator]\n"


def amend(vm, toml):
    request = vm.prepare_amendment("g:two", toml)
    approvals = (approve(request, "root", ROOT, expires_at=vm.now() + MINUTE),)
    done = vm.amend("g:two", toml, request=request, approvals=approvals, key=TWO)
    assert done.granted, done.message


@pytest.fixture
def told(tmp_path):
    """A ledger that was amended twice: leases were cut by the first, and ended by the second."""
    law = read_constitution(AMENDABLE)
    clock = VirtualClock(datetime(2030, 1, 1, 12, tzinfo=UTC))
    with closing(Authority.create(law, tmp_path / "l.db", clock=clock)) as vm:

        def climb(who, **fields):
            asked = {"trigger": "asked", "reason": "look at ticket 4711"}
            assert vm.escalate(who, "operator", **asked, **fields).granted

        climb("op:b")
        climb("op:a")
        shorter = law.toml.replace(b'ttl      = "1h"', b'ttl      = "10m"')
        assert shorter != law.toml
        amend(vm, shorter)
        climb("op:c", ttl=5 * MINUTE)
        amend(vm, shorter.replace(b"escalations.operator_on_request", b"escalations.op"))
        assert audit_ledger(vm.ledger).findings == ()
        export(vm.ledger, tmp_path / "bundle")
    assert audit_bundle(tmp_path / "bundle").findings == ()
    return tmp_path


FOUND = {
    "a lease that was not cut": (
        drop(CUT_A),
        "the amendment of receipt 3 should have cut 'lease-2'",
    ),
    "a lease that was cut too little": (
        put(CUT_A, "what", "expires_at", "2030-01-01T12:11:00.000000Z"),
        "the amendment of receipt 3 should have cut 'lease-2'",
    ),
    "a lease that was cut to more": (
        put(CUT_A, "what", "expires_at", "2030-01-01T14:00:00.000000Z"),
        "cuts 'lease-2' from another end, or to a later one",
    ),
    "a lease that was cut to what has passed": (
        put(CUT_A, "what", "expires_at", "2030-01-01T12:00:00.000000Z"),
        "cuts 'lease-2' to an end that has passed",
    ),
    "a lease that was cut from another end": (
        put(CUT_A, "what", "detail", "was", "2030-01-01T14:00:00.000000Z"),
        "cuts 'lease-2' from another end, or to a later one",
    ),
    "a cut of what is not open": (
        put(CUT_A, "what", "lease", "lease-77"),
        "cuts 'lease-77', which is not open",
    ),
    "a cut without an amendment": (
        again(CUT_A, AGAIN),
        "says that an amendment cut a lease, and none was just made",
    ),
    "a lease that was not ended": (
        drop(END_C),
        "the amendment of receipt 7 should have ended 'lease-6': rule_gone",
    ),
    "an end by an amendment that was not made": (
        put(END_C, "what", "detail", "amendment", AMENDED),
        "says that an amendment ended it, and none was just made",
    ),
    "an amendment of another law": (
        put(AMENDED, "what", "detail", "from", OTHER),
        "amends a constitution that was not in force",
    ),
    "an amendment to another law than was approved": (
        put(AMENDED, "authority", "facts", {"constitution.new": OTHER}),
        "puts another constitution in force than was asked for",
    ),
    "an amendment to a law that is not here": (
        put(AMENDED, "what", "detail", "to", OTHER),
        "puts a constitution in force that is not beside the receipts",
    ),
    "an amendment that nobody approved": (
        put(AMENDED, "authority", "approvals", []),
        "holds 0 approvals that count, its rule asks for 1",
    ),
    "a grant under the law of before": (
        put(GRANT_C, "what", "expires_at", "2030-01-01T12:30:00.000000Z"),
        "lasts longer than 'operator_on_request' allows",
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_does_not_follow_is_found(told, rewritten, name):
    attack, finding = FOUND[name]
    assert finding in {one.what for one in rewritten(told, attack)}


def test_a_law_that_has_no_amendment_was_not_amended(told, rewritten):
    """The insider forges the whole beginning: a ledger under a law that can't be amended."""
    law = read_constitution(GOLDEN)
    first = told / "bundle" / "constitutions" / f"{law.digest.removeprefix('sha256:')}.toml"
    first.write_bytes(law.toml)

    def attack(said):
        for one in said[: AMENDED + 1]:
            one["authority"]["constitution"] = law.digest
        said[AMENDED]["what"]["detail"]["from"] = law.digest

    assert "amends a constitution that can't be amended" in {
        one.what for one in rewritten(told, attack)
    }
