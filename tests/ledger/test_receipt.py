"""What a receipt is: its keys, its one spelling, its id, and bytes that no release may change."""

import subprocess
from datetime import timedelta

import pytest

from vmstate import canonical
from vmstate.canonical import format_at
from vmstate.decisions.decision import Entry, Grounds
from vmstate.decisions.fields import APPROVALS, ATTESTATIONS, FACTS
from vmstate.errors import Denied, InputError, TamperError
from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_bundle, audit_ledger
from vmstate.ledger.receipt import RECEIPT_BYTES, SCROLL_OF, Place, Receipt, write_receipt
from vmstate.signing import Approval, Attestation, sign

ENVELOPE = """v seq scroll scroll_seq scroll_prev type outcome at due clock who what why authority
    cost proofs reversible reverses drill node"""
WHO = {"actor", "principal", "proof"}
WHAT = """lease parent trigger ending from to expires_at ttl_requested_us clipped_by act result
    ended_via setup detail"""
AUTHORITY = {"constitution", "rule", "facts", "unmet", "approvals", "attestations"}
PLACE = Place(1, "identity", 0, None, "golden/00000000", f"sha256:{'a' * 64}", None)

OTHER_KEYS = {
    "an unknown key": lambda said: said.update(note="hello"),
    "a missing key": lambda said: said.pop("drill"),
    "another version": lambda said: said.update(v=2),
    "true for 1": lambda said: said.update(v=True),
    "an unknown key in what": lambda said: said["what"].update(note="hello"),
    "a missing key in what": lambda said: said["what"].pop("setup"),
    "an unknown key in who": lambda said: said["who"].update(note="hello"),
    "a missing key in authority": lambda said: said["authority"].pop("unmet"),
}
OTHER_SPELLINGS = {
    "not JSON": lambda body: body[:-1],
    "a space": lambda body: body.replace(b":", b": ", 1),
    "a newline": lambda body: body + b"\n",
    "another order of keys": lambda body: b'{"v":1,' + body[1:].replace(b',"v":1', b"", 1),
    "a key twice": lambda body: body.replace(b'"v":1', b'"v":1,"v":1', 1),
    "an escape": lambda body: body.replace(b"ticket", b"\\u0074icket", 1),
    "a float": lambda body: body.replace(b'"v":1', b'"v":1.0', 1),
    "a byte that is no UTF-8": lambda body: body.replace(b"ticket", b"\xfficket", 1),
    "a byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "nothing": lambda _: b"",
    "far too deep": lambda _: b"[" * 1_000 + b"]" * 1_000,
}


@pytest.fixture(scope="session")
def bodies(told):
    return (told / "bundle" / "receipts.jsonl").read_bytes().splitlines()


def written(noon, **fields):
    entry = Entry("auth_failure", "denied", Grounds("escalations"), **fields)
    return write_receipt(entry, noon, PLACE)


# ---- its form -------------------------------------------------------------------------------


def test_every_type_occurs_in_the_history_that_these_tests_read(bodies):
    elsewhere = {
        "approval",
        "attestation",
        "constitution_amended",
        "drill_mode",
        "drill_pack",
        "lease_clamped",
        "lock",
        "request",
        "tool_call",
        "treasury_denial",
    }
    assert {Receipt(body).type for body in bodies} == set(SCROLL_OF) - elsewhere


def test_every_key_is_always_present_whatever_the_type(bodies):
    for body in bodies:
        said = Receipt.read(body).fields
        assert set(said) == set(ENVELOPE.split())
        assert set(said["who"]) == WHO
        assert set(said["what"]) == set(WHAT.split())
        assert set(said["authority"]) == AUTHORITY
        for one in said["authority"]["unmet"]:
            assert set(one) == {"rule", "code", "required", "given", "remedy"}
        for one in (*said["authority"]["approvals"], *said["authority"]["attestations"]):
            assert set(one) == {"by", "key", "signature", "statement"}


def test_a_body_is_its_own_canonical_spelling(bodies):
    for body in bodies:
        assert canonical.encode(canonical.decode(body)) == body
        assert len(body) <= RECEIPT_BYTES
        assert b"\n" not in body


def test_the_id_is_the_sha256_of_a_zero_byte_and_the_body(bodies):
    for body in bodies:
        hashed = subprocess.run(["sha256sum"], input=b"\0" + body, capture_output=True, check=True)
        assert Receipt(body).id == f"sha256:{hashed.stdout.decode().split()[0]}"


def test_only_grants_are_reversible_and_only_ends_say_what_they_reverse(bodies):
    granted = {}
    for receipt in map(Receipt, bodies):
        said = receipt.fields
        assert said["reversible"] == (receipt.type == "profile_escalation")
        if said["reversible"]:
            granted[receipt.lease] = receipt.id
        ends = receipt.type == "profile_deescalation"
        assert said["reverses"] == (granted[receipt.lease] if ends else None)


def test_what_time_ended_has_no_actor_and_says_when_it_was_due(bodies):
    seen = set()
    for receipt in map(Receipt, bodies):
        said = receipt.fields
        by_time = receipt.outcome == "expired"
        assert (said["due"] is not None) == (said["what"]["ended_via"] is not None) == by_time
        if by_time:
            assert (said["who"]["actor"], said["who"]["proof"]) == (None, None)
            seen.add((said["what"]["ending"], said["what"]["ended_via"]))
    assert {("timeout_expired", "scheduler"), ("timeout_expired", "settle")} < seen
    assert "clock_regression" in {ending for ending, _ in seen}


def test_a_receipt_that_rests_on_a_request_names_it(bodies):
    rested = [Receipt(body) for body in bodies if b"request_nonce" in body]
    assert {one.type for one in rested} == {"profile_escalation", "recovery"}
    for one in rested:
        statements = [a["statement"] for a in one.fields["authority"]["approvals"]]
        requests = {a["request"] for a in statements if a["kind"] == "approval"}
        assert requests == {one.fields["proofs"].get("request")}


def test_a_ledger_says_which_clock_and_which_drill_it_goes_by(house, drilled):
    (real,) = house.receipts()
    assert (real.fields["clock"], real.fields["drill"]) == ("system", None)
    assert real.fields["node"] == house.ledger.origin
    for receipt in drilled.receipts():
        assert (receipt.fields["clock"], receipt.fields["drill"]) == ("virtual", "DRILL/golden")


# ---- F22: what this release writes, every later one writes and reads ------------------------


def test_the_same_history_is_still_written_to_the_byte(drilled):
    golden = (drilled.golden / "receipts.jsonl").read_bytes().splitlines()
    wrote = [receipt.body for receipt in drilled.receipts()]
    for seq, (was, now) in enumerate(zip(golden, wrote, strict=True)):
        assert now == was, f"receipt {seq} changed"


def test_the_golden_bundle_still_audits_clean(drilled):
    found = audit_bundle(drilled.golden)
    assert found.findings == ()
    assert found.root == audit_ledger(drilled.ledger).root
    assert (found.origin, found.size) == ("golden/drill/golden", len(drilled.receipts()))


# ---- what is refused ------------------------------------------------------------------------


def _changed(body, change):
    said = canonical.parse(body)
    change(said)
    return canonical.encode(said)


@pytest.mark.parametrize("change", OTHER_KEYS.values(), ids=OTHER_KEYS)
def test_other_keys_than_a_receipt_has_are_refused(bodies, change):
    with pytest.raises(TamperError, match="not a receipt of version 1"):
        Receipt.read(_changed(bodies[1], change))


@pytest.mark.parametrize("spell", OTHER_SPELLINGS.values(), ids=OTHER_SPELLINGS)
def test_any_other_spelling_is_refused(bodies, spell):
    spelled = spell(bodies[1])
    assert spelled != bodies[1]
    with pytest.raises(TamperError, match="not a canonical receipt"):
        Receipt.read(spelled)


def test_json_that_is_no_object_is_refused():
    for body in (b"[]", b"null", b"1", b'"v"'):
        with pytest.raises(TamperError, match="not a receipt of version 1"):
            Receipt.read(body)


def test_a_receipt_has_at_most_65_535_bytes(house):
    spare = RECEIPT_BYTES - len(written(house.noon).body)
    longest = written(house.noon, why="x" * spare)
    assert len(longest.body) == RECEIPT_BYTES
    assert Receipt.read(longest.body) == longest
    with pytest.raises(InputError) as caught:
        written(house.noon, why="x" * (spare + 1))
    assert str(caught.value) == (
        "the receipt would have 65,536 bytes, at most 65,535 fit: hand in fewer facts or statements"
    )
    with pytest.raises(TamperError, match="a receipt of 65,536 bytes, at most 65,535"):
        Receipt.read(longest.body.replace(b"xx", b"xxx", 1))


def test_the_denial_of_all_the_evidence_that_a_command_may_hold_fits(house):
    house.climb("op:a")
    facts = {f"f{n}": "\U0001f525" * 256 for n in range(FACTS)}
    nowhere = {"origin": "o" * 1_024, "constitution": house.law.digest, "nonce": house.nonce()}
    far, who = format_at(house.noon + timedelta(hours=1)), "x" * 255
    approval = Approval(by=who, request=house.law.digest, expires_at=far, **nowhere)
    attestation = Attestation(by=who, principal=who, facts=facts, at=far, **nowhere)
    key = PrivateKey.derive("nobody")
    answer = house.climb(
        "op:a",
        "guardian",
        facts=facts,
        approvals=(sign(approval, key),) * APPROVALS,
        attestations=(sign(attestation, key),) * ATTESTATIONS,
    )
    assert answer.outcome == "denied"
    assert audit_ledger(house.ledger).is_good


def test_too_much_evidence_leaves_the_ledger_as_it_was(house):
    house.climb("op:a")
    before, open_before = house.receipts(), house.vm.status()

    def work(transaction):
        now = house.clock.read()
        transaction.append(Entry("auth_failure", "denied", Grounds("x"), why="kept?"), now)
        transaction.append(Entry("auth_failure", "denied", Grounds("x"), why="x" * 65_536), now)

    with pytest.raises(InputError, match="hand in fewer facts or statements"):
        house.ledger.transact(work)
    assert house.receipts() == before
    assert house.vm.status() == open_before
    assert audit_ledger(house.ledger).is_good


# ---- reading one ----------------------------------------------------------------------------


def test_a_denial_is_a_value_that_raises_only_for_whoever_asks(house):
    granted = house.climb("op:a")
    assert granted.raise_for_denial() is granted
    denied = house.climb("op:a", "phoenix", trigger="asked")
    assert not denied.granted
    assert [one.code for one in denied.unmet] == ["no_path"]
    with pytest.raises(Denied) as caught:
        denied.raise_for_denial()
    assert str(caught.value) == f"{denied.message} (receipt {denied.seq})"
    assert denied.message == "No escalation path from operator to phoenix on asked"


def test_a_receipt_that_is_read_back_says_what_the_answer_said(house):
    answer = house.climb("op:a", ttl=timedelta(minutes=5))
    again = house.receipts()[-1]
    assert again == answer
    assert (again.seq, again.lease, again.profile) == (1, "lease-1", "operator")
    assert (again.at, again.expires_at) == (house.noon, house.noon + timedelta(minutes=5))
    assert (again.rule, again.outcome, again.unmet) == ("operator_on_request", "granted", ())
