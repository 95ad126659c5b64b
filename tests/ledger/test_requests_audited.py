"""What an insider can't write about requests: each follows from what came before, or is found."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest
from forging import drop, put

from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_bundle, audit_ledger
from vmstate.ledger.bundle import export
from vmstate.ledger.store import Ledger

GOLDEN = Path(__file__).with_name("golden") / "constitution.toml"
ONE_OF = '{ count = 1, of = ["guardians", "sovereigns"] }\n\n[escalations.phoenix'
STAGED = '[{ count = 1, of = ["guardians"] }, { count = 1, of = ["sovereigns"] }]'
REQUESTS = '\n[requests]\nwaits = "1h"\nusable_for = "15m"\nopen_at_most = 3\n'
KEYS = {name: PrivateKey.derive("ledger", name) for name in ("root", "g:one", "g:two")}
MINUTE = timedelta(minutes=1)
(GRANT, OPENED, FIRST, SECOND, CLIMBED, RELEASED, AGAIN, WITHDRAWN, THIRD, DENIED, LAST) = range(
    1, 12
)
EXPIRED = 13  # beside the lease that it would have stood on


@pytest.fixture
def told(tmp_path):
    """A ledger in which requests were activated, withdrawn, denied and ran out; its bundle."""
    toml = GOLDEN.read_text(encoding="utf-8")
    assert ONE_OF in toml
    toml = toml.replace(ONE_OF, f"{STAGED}\n\n[escalations.phoenix")
    law = read_constitution(f"{toml}{REQUESTS}".encode())
    clock = VirtualClock(datetime(2030, 1, 1, 12, tzinfo=UTC))
    with closing(Authority.create(law, tmp_path / "l.db", clock=clock)) as vm:
        vm.escalate("op:a", "operator", trigger="asked", reason="look at ticket 4711")

        def opened():
            prepared = vm.prepare("op:a", "guardian", trigger="asked", reason="restore it")
            assert vm.open_request(prepared).type == "request"
            return prepared.id

        first = opened()
        for by in ("g:one", "root"):
            assert vm.approve(first, by, KEYS[by]).outcome == "recorded"
        granted = vm.activate("op:a", first).raise_for_denial()
        vm.release("op:a", granted.lease)
        clock.advance(5 * MINUTE)
        vm.withdraw("op:a", opened())
        vm.deny("g:two", opened(), key=KEYS["g:two"]).raise_for_denial()
        opened()
        clock.advance(60 * MINUTE)
        vm.settle(["op:a"])
        assert vm.size() == EXPIRED + 1
        assert audit_ledger(vm.ledger).findings == ()
        export(vm.ledger, tmp_path / "bundle")
    assert audit_bundle(tmp_path / "bundle").findings == ()
    return tmp_path


LATE = "2030-01-01T15:00:00.000000Z"
ATTACKS = {
    "another reason": (
        put(OPENED, "why", "restore all of it"),
        "opens a request that is not what it says",
    ),
    "a longer wait": (
        put(OPENED, "what", "detail", "waits_until", LATE),
        "waits for another time than [requests] says",
    ),
    "another rule": (
        put(OPENED, "authority", "rule", "phoenix_on_quorum"),
        "waits for a climb that 'phoenix_on_quorum' does not allow",
    ),
    "complete after half of it": (
        put(FIRST, "what", "detail", "state", "complete"),
        "leaves a request complete, which does not follow",
    ),
    "pending after all of it": (
        put(SECOND, "what", "detail", "state", "pending"),
        "leaves a request pending, which does not follow",
    ),
    "usable for longer": (
        put(SECOND, "what", "detail", "usable_until", LATE),
        "gives a request another time than [requests] says",
    ),
    "an approval that was not handed in": (
        drop(SECOND),
        "rests on a statement by 'root' that was not handed in",
    ),
    "a request that nobody opened": (
        drop(OPENED),
        "which is no open request",
    ),
    "a withdrawal by somebody else": (
        put(WITHDRAWN, "who", "actor", "op:b"),
        "has a request withdrawn by 'op:b', who may not",
    ),
    "a denial by the requester": (
        put(DENIED, "who", "actor", "op:a"),
        "has a request denied by 'op:a', who may not",
    ),
    "a denial on the host's word": (
        put(DENIED, "who", "proof", "host"),
        "has a request denied by 'g:two', who may not",
    ),
    "an end that is none": (
        put(WITHDRAWN, "what", "detail", "state", "forgotten"),
        "ends a request by 'forgotten', which is no end of one",
    ),
    "a lock that nobody set": (
        put(WITHDRAWN, "what", "detail", "state", "locked"),
        "says that a lock ended a request, and none covers it",
    ),
    "another deadline": (
        put(EXPIRED, "due", LATE),
        "says a request was over at another time than its deadline",
    ),
    "somebody else's end": (
        put(WITHDRAWN, "who", "principal", "op:b"),
        "ends a request of somebody else",
    ),
    "somebody else's approval": (
        put(FIRST, "who", "principal", "op:b"),
        "takes a statement for another request",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_does_not_follow_is_found(told, rewritten, name):
    attack, finding = ATTACKS[name]
    found = [one.what for one in rewritten(told, attack)]
    assert any(finding in one for one in found), found


def test_a_request_that_ended_does_not_end_again(told, rewritten):
    found = [one.what for one in rewritten(told, lambda said: said.append(dict(said[WITHDRAWN])))]
    assert any("which is no open request" in one for one in found)


TABLES = {
    "a deadline": (
        "UPDATE request SET deadline_us = deadline_us + 1 WHERE seq = 11",
        "the table of requests is wrong on the request of receipt 11: deadline",
    ),
    "a state": (
        "UPDATE request SET state = 'complete', ended_us = NULL WHERE seq = 9",
        "the table of requests is wrong on the request of receipt 9: state, ended",
    ),
    "a rule": (
        "UPDATE request SET rule = 'phoenix_on_quorum' WHERE seq = 7",
        "the table of requests is wrong on the request of receipt 7: rule",
    ),
    "how long it waits by the boot hand": (
        "UPDATE request SET deadline_boot_us = 1 WHERE seq = 7",
        "the table of requests gives the request of receipt 7 another time by the boot hand",
    ),
    "the receipt that took a statement": (
        "UPDATE handed_in SET seq = 1 WHERE seq = 3",
        "the table of requests is wrong on the request of receipt 2: taken",
    ),
    "the id of a statement": (
        "UPDATE handed_in SET id = 'sha256:0' WHERE seq = 3",
        "the table of requests is wrong on the request of receipt 2: taken",
    ),
    "a statement taken away": (
        "DELETE FROM handed_in WHERE seq = 3",
        "the table of requests is wrong on the request of receipt 2: statements",
    ),
    "a row taken away": (
        "DELETE FROM request WHERE seq = 7",
        "the table of requests has no row for the request of receipt 7, or none that can be read",
    ),
    "a body": (
        "UPDATE request SET body = x'7b7d' WHERE seq = 7",
        "the table of requests has no row for the request of receipt 7, or none that can be read",
    ),
    "a row that nobody opened": (
        """INSERT INTO request SELECT 99, 'sha256:9', principal, rule, body, state, opened_us,
           opened_boot, opened_boot_us, waits_us, usable_us, deadline_us, deadline_boot,
           deadline_boot_us, ended_us, ended_boot, ended_boot_us FROM request WHERE seq = 7""",
        "the table of requests has 5 rows, the receipts open 4",
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_says_otherwise_is_found(told, name):
    change, finding = TABLES[name]
    with closing(apsw.Connection(str(told / "l.db"))) as db:
        db.execute(change)
    with closing(Ledger.open(told / "l.db")) as ledger:
        assert finding in [one.what for one in audit_ledger(ledger).findings]
