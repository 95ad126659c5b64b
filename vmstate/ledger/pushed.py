"""What sensors pushed ahead of any request: a table that points at receipts, and what these tell.

Law 2: the table can be derived again. It says of each sensor and each principal which receipt holds
the newest attestation, and until when any of that is young enough; the statement itself stands in
the receipt alone, so a row that no such receipt bears out says nothing. Each push takes away the
rows that are all too old by then, so that there are no more than were fresh at the last one.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vmstate.canonical import parse_at
from vmstate.clock import from_us, to_us
from vmstate.constitution.law import Constitution
from vmstate.constitution.people import People
from vmstate.decisions.decision import Pushed
from vmstate.decisions.evidence import SKEW_FOR, heard_until, too_old_at
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.rows import Connection
from vmstate.signing import Attestation, Signed

# With the receipt that a row names, if that took an attestation; whose it is says its body.
_SELECT = """SELECT pushed.by, pushed.principal, pushed.seq, until_us, body FROM pushed
    JOIN receipt ON receipt.seq = pushed.seq AND receipt.type = 'attestation'"""
_ABOUT = f"{_SELECT} WHERE pushed.principal = ? ORDER BY pushed.seq"
_EVERY = f"{_SELECT} ORDER BY pushed.seq"


class PushedTable:
    """Reads, and inside a transaction writes. A row that can't be read says nothing."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def about(self, principal: str) -> tuple[Pushed, ...]:
        """The newest that each sensor pushed about `principal`, whether it still counts or not."""
        found = (_read(row) for row in self._db.execute(_ABOUT, (principal,)))
        return tuple(one for one in found if one is not None)

    def every(self) -> tuple[Pushed, ...]:
        """The same about everybody, in the order in which it was pushed."""
        found = (_read(row) for row in self._db.execute(_EVERY))
        return tuple(one for one in found if one is not None)

    def rows(self) -> dict[tuple[str, str], tuple[int, int]]:
        """All that the table says, borne out or not: by whom and about whom; receipt and end."""
        rows = self._db.execute("SELECT principal, by, seq, until_us FROM pushed")
        return {(by, principal): (seq, until_us) for principal, by, seq, until_us in rows}

    def write(self, pushed: Pushed, at: datetime) -> None:
        """Put down what was pushed `at`, and take away what is too old by then."""
        said = pushed.statement
        self._db.execute("DELETE FROM pushed WHERE until_us < ?", (to_us(at),))
        row = (said.principal, said.by, pushed.seq, to_us(pushed.until))
        self._db.execute("INSERT OR REPLACE INTO pushed VALUES (?, ?, ?, ?)", row)


def _read(row: tuple[Any, ...]) -> Pushed | None:
    by, principal, seq, until_us, body = row
    try:
        signed, said = _signed(Receipt(body))
        if (said.by, said.principal) != (by, principal):
            return None
        return Pushed(seq, signed, from_us(until_us))
    except (KeyError, OverflowError, TypeError, ValueError):
        return None


def _signed(receipt: Receipt) -> tuple[Signed, Attestation]:
    """The one attestation in a receipt; raises ValueError."""
    authority: dict[str, list[Any]] = receipt.fields["authority"]
    (body,) = authority["attestations"] + authority["approvals"]
    signed = Signed.model_validate(body)
    if not isinstance(signed.statement, Attestation):
        raise ValueError(f"{signed.statement.kind} is no attestation")  # noqa: TRY004
    return signed, signed.statement


@dataclass(frozen=True, slots=True)
class _Told:
    """What one receipt says that a sensor sees."""

    seq: int
    statement: Attestation
    until: datetime


@dataclass
class PushedBook:
    """What was pushed as far as receipts tell, by whom and about whom."""

    told: dict[tuple[str, str], _Told] = field(default_factory=dict)
    ends: list[tuple[datetime, tuple[str, str]]] = field(default_factory=list)  # a heap

    @property
    def rows(self) -> dict[tuple[str, str], tuple[int, int]]:
        """What the table has to say."""
        return {key: (one.seq, to_us(one.until)) for key, one in self.told.items()}

    def has(self, statement: str) -> bool:
        """Whether the statement with this id is the newest of its sensor about somebody."""
        return any(one.statement.id == statement for one in self.told.values())

    @property
    def statements(self) -> Iterator[Attestation]:
        """What was pushed, the newest of each sensor about each principal."""
        return (one.statement for one in self.told.values())

    def take(self, receipt: Receipt, law: Constitution | None, people: People) -> Iterator[str]:
        """Take a receipt of type `attestation`; says what in it does not follow."""
        who = receipt.fields["who"]
        try:
            _, statement = _signed(receipt)
        except ValueError:
            yield "takes something else than one attestation"
            return
        key, at, seen_at = (statement.by, statement.principal), receipt.at, parse_at(statement.at)
        until = parse_at(receipt.fields["what"]["detail"]["good_until"])
        if (who["actor"], who["principal"]) != key:
            yield f"takes what {statement.by!r} attests as somebody else's"
        yield from _unfit(statement, until, at, law, people)
        earlier = self.told.get(key)
        if earlier is not None and seen_at <= parse_at(earlier.statement.at) <= at + SKEW_FOR:
            yield f"takes what is no newer than receipt {earlier.seq}"
        self._forget(at)
        last = until if law is None else heard_until(statement, law.document.facts) or until
        self.told[key] = _Told(receipt.seq, statement, last)
        heapq.heappush(self.ends, (last, key))

    def _forget(self, at: datetime) -> None:
        """Forget what is too old `at` some time, as the table does."""
        while self.ends and self.ends[0][0] < at:
            until, key = heapq.heappop(self.ends)
            if key in self.told and self.told[key].until == until:
                del self.told[key]


def _unfit(
    statement: Attestation,
    until: datetime,
    at: datetime,
    law: Constitution | None,
    people: People,
) -> Iterator[str]:
    """Why nobody could push this `at` that time, by the law of the time."""
    by, principal = statement.by, statement.principal
    if people.person(by) == people.person(principal):
        yield f"takes an attestation by {by!r}, who stands for whom it is about"
    if until < at:
        yield "takes an attestation that was too old"
    if parse_at(statement.at) > at + SKEW_FOR:
        yield "takes an attestation from the future"
    if law is None:
        return
    declared = law.document.facts
    groups = [declared[n].attested_by if n in declared else None for n in statement.facts]
    if not groups or not all(one is not None and people.in_any(by, (one,)) for one in groups):
        yield f"takes facts that {by!r} may not attest"
    elif until != too_old_at(statement, declared):
        yield "says that an attestation is good until another time than [facts] does"
