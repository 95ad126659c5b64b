"""What an insider can't write about pushed attestations: each follows from what came before."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest
from forging import again, put

from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import load_constitution
from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_bundle, audit_ledger
from vmstate.ledger.bundle import export
from vmstate.ledger.store import Ledger
from vmstate.signing import Attestation, sign

LAW = load_constitution(Path(__file__).with_name("golden") / "constitution.toml")
KEYS = {name: PrivateKey.derive("ledger", name) for name in ("edr", "g:one")}
MINUTE = timedelta(minutes=1)
CLIMBED, PUSHED, GRANTED, NEWER, NEWEST, AGAIN = range(1, 7)
EARLY, LATE = "2030-01-01T11:00:00.000000Z", "2030-01-01T15:00:00.000000Z"


@pytest.fixture
def told(tmp_path):
    """A ledger in which a sensor pushed four times, and one of these was used; its bundle."""
    clock = VirtualClock(datetime(2030, 1, 1, 12, tzinfo=UTC))
    with closing(Authority.create(LAW, tmp_path / "l.db", clock=clock)) as vm:
        vm.escalate("op:a", "operator", trigger="asked", reason="look at ticket 4711")

        def push(confidence, about="op:a"):
            facts = {"threat.confidence": confidence}
            vm.push("edr", about, facts, KEYS["edr"]).raise_for_denial()
            clock.advance(MINUTE / 6)

        push("0.92")
        facts = {"ticket": "4711"}
        vm.escalate("op:a", "guardian", trigger="threat", facts=facts).raise_for_denial()
        push("0.95")
        push("0.97")
        push("0.40", "op:b")
        assert vm.size() == AGAIN + 1
        assert audit_ledger(vm.ledger).findings == ()
        export(vm.ledger, tmp_path / "bundle")
    assert audit_bundle(tmp_path / "bundle").findings == ()
    return tmp_path


def signed_anew(seq, by="edr", until=None, **changes):
    """An attack that has a receipt hold another statement, signed by whose key the insider has."""

    def attack(said):
        (held,) = said[seq]["authority"]["attestations"]
        statement = Attestation(**{**held["statement"], "by": by, **changes})
        said[seq]["authority"]["attestations"] = [sign(statement, KEYS[by]).body()]
        said[seq]["authority"]["facts"] = dict(statement.facts)
        said[seq]["who"]["actor"] = by
        said[seq]["what"]["detail"]["good_until"] = until or LATE

    return attack


def twice(said):
    said[PUSHED]["authority"]["attestations"] *= 2


def superseded(said):
    """The grant rests on what its sensor said before it pushed 0.92."""
    (held,) = said[GRANTED]["authority"]["attestations"]
    facts, at = {"threat.confidence": "0.95"}, "2030-01-01T11:59:59.000000Z"
    statement = Attestation(**{**held["statement"], "facts": facts, "at": at})
    said[GRANTED]["authority"]["attestations"] = [sign(statement, KEYS["edr"]).body()]
    said[GRANTED]["authority"]["facts"].update(facts)


ATTACKS = {
    "a push as another's": (
        put(PUSHED, "who", "principal", "op:b"),
        "takes what 'edr' attests as somebody else's",
    ),
    "a push that nobody signed": (
        put(PUSHED, "who", "actor", "g:one"),
        "says that 'key' proves 'g:one', and holds no signature of theirs",
    ),
    "other facts than were signed": (
        put(PUSHED, "authority", "facts", "threat.confidence", "0.99"),
        "the attestation by 'edr' is about something else",
    ),
    "a longer life": (
        put(PUSHED, "what", "detail", "good_until", LATE),
        "says that an attestation is good until another time than [facts] does",
    ),
    "one that was too old": (
        signed_anew(PUSHED, until=EARLY, at=EARLY),
        "takes an attestation that was too old",
    ),
    "one from the future": (signed_anew(PUSHED, at=LATE), "takes an attestation from the future"),
    "one by no sensor": (
        signed_anew(PUSHED, by="g:one"),
        "takes facts that 'g:one' may not attest",
    ),
    "of a fact that takes no sensor": (
        signed_anew(PUSHED, facts={"ticket": "4711"}),
        "takes facts that 'edr' may not attest",
    ),
    "of nothing": (signed_anew(PUSHED, facts={}), "takes facts that 'edr' may not attest"),
    "about oneself": (
        signed_anew(PUSHED, principal="edr"),
        "takes an attestation by 'edr', who stands for whom it is about",
    ),
    "an older one after a newer": (
        signed_anew(NEWEST, at="2030-01-01T12:00:00.000000Z"),
        "takes what is no newer than receipt 4",
    ),
    "a grant on what was said otherwise since": (
        superseded,
        "the attestation by 'edr' counts although they said otherwise at 2030-01-01T12:00:00",
    ),
    "two at once": (twice, "takes something else than one attestation"),
    "a grant on it a second time": (again(GRANTED, GRANTED + 1), "uses what receipt 3 used"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_does_not_follow_is_found(told, rewritten, name):
    attack, finding = ATTACKS[name]
    found = [one.what for one in rewritten(told, attack)]
    assert any(finding in one for one in found), found


TABLES = {
    "a row that nobody pushed": "INSERT INTO pushed VALUES ('op:c', 'edr', 2, 9000000000000000)",
    "a row taken away": "DELETE FROM pushed WHERE principal = 'op:b'",
    "another receipt": "UPDATE pushed SET seq = 4 WHERE seq = 5",
    "another life": "UPDATE pushed SET until_us = until_us + 1",
    "another principal": "UPDATE pushed SET principal = 'op:c' WHERE principal = 'op:b'",
    "another sensor": "UPDATE pushed SET by = 'g:one' WHERE principal = 'op:b'",
}


def edited(told, change):
    with closing(apsw.Connection(str(told / "l.db"))) as db:
        db.execute(change)
        assert db.changes() > 0


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_says_otherwise_is_found(told, name):
    edited(told, TABLES[name])
    with closing(Ledger.open(told / "l.db")) as ledger:
        found = [one.what for one in audit_ledger(ledger).findings]
    assert found == ["the table of pushed attestations is not what the receipts took"]
