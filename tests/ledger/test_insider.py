"""Who has the log's key can sign any tree, but not say in it what nobody could have decided.

Each attack rewrites one bundle as an insider would: numbers, links and checkpoint are made to fit
again, with the real key. What is left to find is that one thing does not follow from another.
"""

import copy as copies

import pytest
from forging import put

from vmstate import canonical

APPROVED, RENEWED, REVOKED, RELEASED, EXPIRED, GRANTED, NEW = 5, 9, 11, 14, 17, 28, 31
LATE, DAY_LATER = "2030-01-01T12:30:00.000000Z", "2030-01-02T12:00:00.000000Z"


def append(seq, **what):
    """An attack that writes a copy of a receipt at the end, changed in `what`."""

    def attack(said):
        said.append(copies.deepcopy(said[seq]))
        said[-1]["what"] |= what

    return attack


def afterwards(seq, then):
    return lambda said: said[seq].update(then=then)


def swap(first, second):
    def attack(said):
        said[first], said[second] = said[second], said[first]

    return attack


def spelled_otherwise(said):
    return b'{"v":1,' + canonical.encode(said)[1:].replace(b',"v":1', b"", 1)


# name: (the attack, the receipt that is named, what is said of it)
FOUND = {
    # leases
    "a child that outlives its parent": (
        put(APPROVED, "what", "expires_at", DAY_LATER),
        APPROVED,
        "outlives the lease that it stands on",
    ),
    "a renewal beyond the parent": (
        put(RENEWED, "what", "expires_at", DAY_LATER),
        RENEWED,
        "outlives the lease that it stands on",
    ),
    "a lease that stands on nothing": (
        put(APPROVED, "what", "parent", "lease-999"),
        APPROVED,
        "stands on 'lease-999', which is not open",
    ),
    "a lease on one that was over": (
        append(GRANTED, lease=f"lease-{NEW}", parent="lease-28", expires_at=DAY_LATER),
        NEW,
        "outlives the lease that it stands on",
    ),
    "a lease that was over at once": (
        put(GRANTED, "what", "expires_at", "2030-01-01T12:00:00.000000Z"),
        GRANTED,
        "grants a lease that is over when it begins",
    ),
    "a lease of another number": (
        put(GRANTED, "what", "lease", "lease-99"),
        GRANTED,
        "grants 'lease-99', its number makes that 'lease-28'",
    ),
    "a renewal of nothing": (
        put(RENEWED, "what", "lease", "lease-999"),
        RENEWED,
        "renews 'lease-999', which is not open",
    ),
    "a renewal after the end": (
        put(RENEWED, "at", LATE),
        RENEWED,
        "renews 'lease-3' after its end",
    ),
    "an end without a grant": (
        append(EXPIRED, lease="lease-999"),
        NEW,
        "ends 'lease-999', which is not open",
    ),
    "a second end": (append(RELEASED), NEW, "ends 'lease-3', which is not open"),
    "a release after the end": (put(RELEASED, "at", LATE), RELEASED, "after its end"),
    "an end under one that stands on it": (
        swap(REVOKED, REVOKED + 1),
        REVOKED,
        "ends 'lease-5', on which another still stands",
    ),
    "an end of another's lease": (
        put(RELEASED, "who", "principal", "op:z"),
        RELEASED,
        "names another holder or profile of 'lease-3'",
    ),
    "an end that reverses something else": (
        afterwards(RELEASED, lambda said: said.update(reverses=None)),
        RELEASED,
        "does not name the receipt that granted 'lease-3'",
    ),
    "an end with another deadline": (
        put(EXPIRED, "due", LATE),
        EXPIRED,
        "says 'lease-16' was due at another time than its deadline",
    ),
    # form and place
    "another order of keys": (
        afterwards(RENEWED, spelled_otherwise),
        RENEWED,
        "not a canonical receipt: JSON is not in its canonical spelling (RFC 8785)",
    ),
    "another number": (
        afterwards(GRANTED, lambda said: said.update(seq=7)),
        GRANTED,
        "says it is number 7",
    ),
    "another link": (
        afterwards(GRANTED, lambda said: said.update(scroll_prev=f"sha256:{'0' * 64}")),
        GRANTED - 2,  # the one before it in its scroll
        f"is not what receipt {GRANTED} follows in scroll 'identity': one of them was changed",
    ),
    "another scroll": (
        put(GRANTED, "scroll", "treasury"),
        GRANTED,
        "type 'profile_escalation' does not go into scroll 'treasury'",
    ),
    "another log": (
        put(GRANTED, "node", "golden/00000000"),
        GRANTED,
        "was written by 'golden/00000000', this is 'golden/",
    ),
    "another law": (
        put(GRANTED, "authority", "constitution", f"sha256:{'0' * 64}"),
        GRANTED,
        "was written under a constitution that was not in force",
    ),
    "a key that signed nothing": (
        put(GRANTED, "who", "proof", "key"),
        GRANTED,
        "says that 'key' proves 'op:f', and holds no signature of theirs",
    ),
    "an account that nobody gave": (
        put(GRANTED, "who", "proof", "peer"),
        GRANTED,
        "says that 'peer' proves 'op:f', who has no account",
    ),
    "a token that nobody gave": (
        put(GRANTED, "who", "proof", "token"),
        GRANTED,
        "says that 'token' proves 'op:f', who has no token",
    ),
    "a proof that is none": (
        put(GRANTED, "who", "proof", "none"),
        GRANTED,
        "says that 'none' proves 'op:f', which is no proof",
    ),
    "an actor without a proof": (
        put(GRANTED, "who", "proof", None),
        GRANTED,
        "names who asked without a proof, or a proof of nobody",
    ),
    "a revocation on the host's word": (
        put(REVOKED, "who", "proof", "host"),
        REVOKED,
        "takes 'root' on the host's word, and needs a proof",
    ),
    "an unknown type": (
        put(GRANTED, "type", "gift"),
        GRANTED,
        "type 'gift' does not go into scroll 'identity'",
    ),
    "a number for a name": (put(GRANTED, "what", "lease", 28), GRANTED, "grants 28, its number"),
    "a list for a table": (put(GRANTED, "authority", []), GRANTED, "'authority' has other keys"),
    "a time that is none": (put(GRANTED, "at", "noon"), GRANTED, "a field has the wrong shape"),
}


@pytest.mark.parametrize(("attack", "seq", "what"), FOUND.values(), ids=FOUND)
def test_what_does_not_follow_is_found_and_the_receipt_named(insider, attack, seq, what):
    found = insider(attack)
    assert [one for one in found if one.seq == seq and what in one.what], found
    # The signature and the root are good: only what the receipts say gives it away.
    assert not [one for one in found if one.seq is None and "checkpoint" in one.what]


def test_a_rewriting_that_changes_nothing_is_as_good_as_the_original(insider, copy):
    before = (copy / "bundle" / "receipts.jsonl").read_bytes()
    assert insider(lambda _: None) == ()
    assert (copy / "bundle" / "receipts.jsonl").read_bytes() == before


def test_the_findings_are_as_many_as_would_tell_anybody_something(insider):
    found = insider(lambda said: said.extend(copies.deepcopy(said[RELEASED]) for _ in range(200)))
    assert len(found) == 100
