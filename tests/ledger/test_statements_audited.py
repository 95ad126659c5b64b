"""Nobody's signature counts for what they did not sign, even where the log's own key vouches.

Each attack rewrites one bundle as an insider would: the tree is right and signed, and a statement
in it is used again, made up, or about something else.
"""

import copy as copies

import pytest

from vmstate import canonical
from vmstate.keys import PrivateKey
from vmstate.signing import Approval, Attestation, Order, sign

ATTESTED, APPROVED, REVOKED, NEW = 3, 5, 11, 31
LATE, NONCE = "2030-01-01T12:30:00.000000Z", "ab" * 16
KEYS = {name: PrivateKey.derive("ledger", name) for name in ("g:one", "root", "edr")}


def again(seq):
    """An attack that writes a receipt a second time, at the end."""
    return lambda said: said.append(copies.deepcopy(said[seq]))


def changed(seq, **tables):
    """An attack that sets keys in tables of a receipt."""

    def attack(said):
        for name, keys in tables.items():
            said[seq][name] |= keys

    return attack


def reasoned_otherwise(said):
    said[APPROVED]["why"] = "something else"


def statement(kind, by, said, **fields):
    made = kind(
        by=by,
        origin=fields.pop("origin", said["node"]),
        constitution=said["authority"]["constitution"],
        nonce=NONCE,
        **fields,
    )
    return sign(made, KEYS[by]).body()


def approval(*, signer="g:one", request=None, named=True, **fields):
    """An attack that puts a fresh approval into a grant that needs one."""

    def attack(all_said):
        said = all_said[APPROVED]
        about = {"request": request or said["proofs"]["request"], "expires_at": LATE}
        signed = statement(Approval, signer, said, **about, **fields)
        said["authority"]["approvals"] = [signed]
        if not named:
            del said["proofs"]["request"]

    return attack


def forged(said):
    said[APPROVED]["authority"]["approvals"][0]["signature"] = "A" * 86 + "=="


def attested_about(principal, confidence):
    def attack(all_said):
        said = all_said[ATTESTED]
        facts = {"threat.confidence": confidence}
        about = {"principal": principal, "facts": facts, "at": said["at"]}
        said["authority"]["attestations"] = [statement(Attestation, "edr", said, **about)]

    return attack


def facts_changed(said):
    facts = {**said[ATTESTED]["authority"]["facts"], "threat.confidence": "0.99"}
    said[ATTESTED]["authority"]["facts"] = facts
    hashed = canonical.digest(canonical.encode(facts))
    said[ATTESTED]["proofs"]["tem_context_hash"] = hashed


def ended_by_another_proof(lease, ending):
    def attack(all_said):
        for said in all_said[REVOKED : REVOKED + 3]:
            named = {"principal": "root", "lease": lease, "ending": ending}
            about = {"verb": "release", "arguments": named, "reason": "", "expires_at": LATE}
            said["authority"]["approvals"] = [statement(Order, "root", said, **about)]

    return attack


# name: (the attack, the receipt that is named, what is said of it)
FOUND = {
    "an approval used again": (again(APPROVED), NEW, f"uses what receipt {APPROVED} used"),
    "an attestation used again": (again(ATTESTED), NEW, f"uses what receipt {ATTESTED} used"),
    "a signed ending used again": (again(REVOKED), NEW, f"uses what receipt {REVOKED} used"),
    "an approval of another request": (
        approval(request=f"sha256:{'0' * 64}"),
        APPROVED,
        "the approval by 'g:one' is for another request",
    ),
    "an approval of a request that is not named": (
        approval(request=f"sha256:{'0' * 64}", named=False),
        APPROVED,
        "request",
    ),
    "an approval for another ledger": (
        approval(origin="golden/00000000"),
        APPROVED,
        "the statement by 'g:one' is for another ledger or law",
    ),
    "a signature that was made up": (
        forged,
        APPROVED,
        "the signature by 'g:one' does not verify",
    ),
    "a statement that is none": (
        changed(APPROVED, authority={"approvals": [{"by": "g:one"}]}),
        APPROVED,
        "holds a statement that is none",
    ),
    "a request for something else": (
        reasoned_otherwise,
        APPROVED,
        "its request is not the digest of what was granted",
    ),
    "an attestation about somebody else": (attested_about("op:z", "0.92"), ATTESTED, "edr"),
    "an attestation of other facts": (attested_about("op:a", "0.10"), ATTESTED, "edr"),
    "facts that nobody attested": (facts_changed, ATTESTED, "edr"),
    "a signed end of another lease": (
        ended_by_another_proof("lease-1", "sovereign_revoke"),
        REVOKED,
        "root",
    ),
    "a signed end of another kind": (
        ended_by_another_proof("lease-7", "crisis_concluded"),
        REVOKED,
        "root",
    ),
    "a context hash of other facts": (
        changed(ATTESTED, authority={"facts": {}}),
        ATTESTED,
        "its context hash is not that of its facts",
    ),
}


@pytest.mark.parametrize(("attack", "seq", "what"), FOUND.values(), ids=FOUND)
def test_a_statement_that_does_not_carry_its_receipt_is_found(insider, attack, seq, what):
    found = insider(attack)
    assert [one for one in found if one.seq == seq and what in one.what], found


def test_a_fresh_approval_of_the_same_request_by_the_same_person_is_as_good(insider):
    assert insider(approval()) == ()
