"""Reading a ledger as of one instant: who holds what, what is due, what was written.

A snapshot is good inside the read or the transaction that handed it out, and no longer.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from vmstate.clock import Moment, from_us, to_us
from vmstate.constitution.document import SCROLLS
from vmstate.decisions.decision import DrillState, State
from vmstate.decisions.once import Once
from vmstate.decisions.pending import Asked
from vmstate.errors import InputError, LedgerNotFound, TamperError
from vmstate.leases.lease import Lease, LeaseStack, lease_id
from vmstate.leases.watermark import Watermark, elapsed, passed
from vmstate.ledger.asked import AskedTable
from vmstate.ledger.fall_table import FallTable
from vmstate.ledger.finding import SEE_AUDIT
from vmstate.ledger.lease_table import LeaseTable
from vmstate.ledger.lock_table import LockTable
from vmstate.ledger.merkle import Tree
from vmstate.ledger.pushed import PushedTable
from vmstate.ledger.receipt import Receipt, spell_leaf
from vmstate.ledger.rows import PAGE, Connection
from vmstate.treasury.budget import Budget

_TIMES = """newest_us, newest_boot, newest_boot_us, ahead_us, voided_below, voided_except,
    held_until_us, recovered_us, recovered_boot, recovered_boot_us,
    signed_us, since_us, back"""
_HEAD = f"SELECT size, peaks, note, {_TIMES} FROM head"
_WATERMARK = f"SELECT size, {_TIMES} FROM head"
_BUDGET = "SELECT id, name, unit, allocated, spent, seq FROM budget"
_RECEIPT = "SELECT body FROM receipt WHERE seq = ?"
_RECEIPTS = "SELECT seq, body FROM receipt WHERE seq > :after {filters} ORDER BY seq LIMIT :n"
_LAST_OF_SCROLL = """SELECT scroll_seq, leaf FROM receipt WHERE scroll = ?
    ORDER BY scroll_seq DESC LIMIT 1"""


@dataclass(frozen=True, slots=True)
class Head:
    """The tree, its signed note, and what was last known of time."""

    tree: Tree
    note: str
    watermark: Watermark


@dataclass(frozen=True, slots=True)
class Due:
    """An open lease, or an open request, that is over and whose end is owed.

    `lease` is its id, of whichever it is. `late_for` counts by either hand.
    """

    principal: str
    lease: str
    ended_at: datetime
    late_for: timedelta


@dataclass(frozen=True, slots=True)
class Scope:
    """Which leases bear on a decision: the baseline, the person's names, the profiles that wait."""

    baseline: str
    family: tuple[str, ...] = ()
    timed: tuple[str, ...] = ()


class Snapshot:
    """Reads; changes nothing."""

    def __init__(self, connection: Connection, *, is_drill: bool = False) -> None:
        self._db = connection
        self._is_drill = is_drill
        self.leases = LeaseTable(connection)
        self.requests = AskedTable(connection)
        self.locks = LockTable(connection)
        self.falls = FallTable(connection)
        self.pushed = PushedTable(connection)

    def head(self) -> Head:
        row = next(self._db.execute(_HEAD), None)
        if row is None:
            raise TamperError(f"the ledger has no head{SEE_AUDIT}")
        try:
            return Head(Tree.from_bytes(row[0], row[1]), row[2], _watermark((row[0], *row[3:])))
        except (ValueError, OverflowError, TypeError) as error:
            raise TamperError(f"the ledger's head is damaged: {error}") from error

    def watermark(self) -> Watermark:
        """What was last known of time; the head without its tree."""
        row = next(self._db.execute(_WATERMARK), None)
        if row is None:
            raise TamperError(f"the ledger has no head{SEE_AUDIT}")
        return _watermark(row)

    def stack(self, principal: str, baseline: str) -> LeaseStack:
        """The open leases of `principal`, as last recorded."""
        drill = self.drill()
        closes = drill.until if drill is not None else None
        leases = self.leases.open_of(principal)
        (felled,) = self.falls.of(leases)
        return LeaseStack(baseline, self.watermark(), leases, closes, felled)

    def stacks(self, principals: Iterable[str], baseline: str) -> dict[str, LeaseStack]:
        """The same of each of `principals`, as of one moment; at most a page of them."""
        drill, mark = self.drill(), self.watermark()
        closes = drill.until if drill is not None else None
        found = self.leases.open_of_all(principals)
        felled = self.falls.of(*found.values())
        return {
            name: LeaseStack(baseline, mark, leases, closes, fell)
            for (name, leases), fell in zip(found.items(), felled, strict=True)
        }

    def execute(self, statement: str, bindings: Any = ()) -> Iterator[tuple[Any, ...]]:
        """For the tables that are nobody's evidence, which modules beside this one know."""
        return self._db.execute(statement, bindings)

    def drill(self) -> DrillState | None:
        """The mode of this ledger if it is a drill's."""
        if not self._is_drill:
            return None
        row = next(
            self._db.execute("SELECT until_us, until_boot, until_boot_us, off FROM drill"), None
        )
        if row is None:
            return DrillState()
        return DrillState(Moment(from_us(row[0]), row[1], row[2]), off=bool(row[3]))

    def time(self, baseline: str) -> State:
        """What bears on a decision whomever it is about: time, the drill's mode, locks."""
        head, drill = self.head(), self.drill()
        stack = LeaseStack(baseline, head.watermark, (), None if drill is None else drill.until)
        locks = self.locks.standing()
        return State(baseline, stack, head.tree.size, drill=drill, locks=locks)

    def state(
        self,
        principal: str,
        scope: Scope,
        statements: Iterable[str] = (),
        budgets: Iterable[str] = (),
        asked: Asked | None = None,
    ) -> State:
        """All that bears on a decision about `principal`; the rest are ids of what is handed in.

        `asked` is the request that the decision is about.
        """
        state = self.time(scope.baseline)
        leases = self.leases.open_of(principal)
        (felled,) = self.falls.of(leases)
        record = self.leases.record(scope.family, scope.timed)
        others = tuple(one for one in scope.family if one != principal)
        kin = self.stacks(others, scope.baseline) if others and scope.timed else {}
        named = {one: found for one in budgets if (found := self.budget(one)) is not None}
        allocated = next(self._db.execute("SELECT total(allocated) FROM budget"))[0]
        return replace(
            state,
            principal=principal,
            stack=replace(state.stack, leases=leases, felled=felled),
            record=record,
            kin=tuple(kin.values()),
            used=self.used(statements),
            budgets=named,
            allocated=int(allocated),
            waiting=self.requests.waiting(scope.family or (principal,)),
            asked=asked,
        )

    def budget(self, budget: str) -> Budget | None:
        """The budget with this id; None if none was allocated."""
        row = next(self._db.execute(f"{_BUDGET} WHERE id = ?", (budget,)), None)
        return None if row is None else Budget(*row)

    def budgets(self) -> tuple[Budget, ...]:
        """Every budget, in the order of their allocation."""
        return tuple(Budget(*row) for row in self._db.execute(f"{_BUDGET} ORDER BY seq"))

    def used(self, statements: Iterable[str]) -> frozenset[str]:
        """Which of these statement ids counted before."""
        asked = "SELECT id FROM statement WHERE id = ?"
        return frozenset(row[0] for one in statements for row in self._db.execute(asked, (one,)))

    def due(self, now: Moment, limit: int) -> tuple[Due, ...]:
        """Open leases and requests that are over at `now`, the first deadline first, at most
        `limit`.
        """
        if (drill := self.drill()) and drill.until is not None and passed(drill.until, now):
            late_for, until = max(timedelta(), now.wall - drill.until.wall), drill.until.wall
            everything: Iterable[Lease | Asked] = chain(
                self.leases.every(open_only=True), self.requests.every(open_only=True)
            )
            some = zip(range(limit), everything, strict=False)
            return tuple(Due(one.principal, one.id, until, late_for) for _, one in some)
        mark = self.head().watermark
        behind = mark.is_behind(now)
        below = self.head().tree.size if behind else mark.voided_below
        values = {
            "wall": to_us(now.wall),
            "latest": to_us(mark.latest_wall(now)),
            "boot": now.boot_id,
            "boot_us": now.boot_us,
            "void": int(below > 0),
            "below": below,
            "keep": now.boot_id if behind else mark.voided_except,
            "n": limit,
        }
        found = []
        for principal, seq, deadline in self.leases.due(values):
            late_for = max(timedelta(), -mark.left(deadline, now))
            found.append(Due(principal, lease_id(seq), deadline.wall, late_for))
        over = {one.lease for one in found}
        for principal, seq, fall in self.falls.due(limit):
            if (lease := lease_id(seq)) not in over:
                at = fall.lock.locked
                found.append(Due(principal, lease, at.wall, elapsed(at, now)))
        for one in self.requests.due(values):
            late_for = max(timedelta(), -mark.left(one.deadline, now))
            found.append(Due(one.principal, one.id, one.deadline.wall, late_for))
        return tuple(sorted(found, key=lambda one: one.ended_at)[:limit])

    def next_deadline(self, now: Moment) -> datetime | None:
        """When, on the wall as it reads at `now`, the next open lease or request that is not over
        yet will be.

        None if there is none; what is over already is `due`.
        """
        mark = self.head().watermark
        lefts = chain(self.leases.next_after(now, mark), self.requests.next_after(now, mark))
        ends = [now.wall + left for left in lefts]
        drill = self.drill()
        if ends and drill is not None and drill.until is not None and now.wall < drill.until.wall:
            ends.append(drill.until.wall)
        return min(ends, default=None)

    def receipt(self, seq: int) -> Receipt:
        """Receipt number `seq`; raises LedgerNotFound."""
        row = next(self._db.execute(_RECEIPT, (seq,)), None)
        if row is None:
            size = self.head().tree.size
            raise LedgerNotFound(f"there is no receipt {seq}: the ledger has 0 to {size - 1}")
        return Receipt(row[0])

    def receipts(
        self,
        *,
        after: int = -1,
        limit: int | None = None,
        principal: str | None = None,
        type_: str | None = None,
        denied: bool = False,
    ) -> Iterator[Receipt]:
        """Receipts in their order, those numbered above `after`, as they are asked for."""
        clauses = [
            "AND principal = :principal" if principal is not None else "",
            "AND type = :type" if type_ is not None else "",
            "AND outcome = 'denied'" if denied else "",
        ]
        query = _RECEIPTS.format(filters=" ".join(clauses))
        while limit is None or limit > 0:
            page = PAGE if limit is None else min(PAGE, limit)
            values = {"after": after, "n": page, "principal": principal, "type": type_}
            used = {name: value for name, value in values.items() if f":{name}" in query}
            rows: Sequence[tuple[int, bytes]] = list(self._db.execute(query, used))
            for seq, body in rows:
                after = seq
                yield Receipt(body)
            if len(rows) < page:
                return
            limit = None if limit is None else limit - len(rows)

    def constitution(self) -> tuple[str, bytes, bytes]:
        """Digest, canonical bytes and TOML of the law in force."""
        query = "SELECT digest, canonical, toml FROM constitution ORDER BY seq DESC LIMIT 1"
        row = next(self._db.execute(query), None)
        if row is None:
            raise TamperError(f"the ledger has no constitution{SEE_AUDIT}")
        digest, canonical, toml = row
        return digest, canonical, toml

    def in_force(self) -> str:
        """The digest of the law in force."""
        query = "SELECT digest FROM constitution ORDER BY seq DESC LIMIT 1"
        row = next(self._db.execute(query), None)
        if row is None:
            raise TamperError(f"the ledger has no constitution{SEE_AUDIT}")
        return str(row[0])

    def law(self, digest: str) -> tuple[bytes, bytes] | None:
        """Canonical bytes and TOML of the law with this digest, if it ever was in force."""
        query = "SELECT canonical, toml FROM constitution WHERE digest = ? ORDER BY seq DESC"
        row = next(self._db.execute(query, (digest,)), None)
        return None if row is None else (row[0], row[1])

    def laws(self) -> tuple[tuple[int, str], ...]:
        """Every constitution's receipt and digest."""
        rows = self._db.execute("SELECT seq, digest FROM constitution ORDER BY seq")
        return tuple((seq, digest) for seq, digest in rows)

    def statements(self) -> Iterator[tuple[str, int]]:
        """The ids of used statements and the receipts that rest on them."""
        yield from self._db.execute("SELECT id, seq FROM statement ORDER BY seq, id")

    def answered(self, once: Once) -> Receipt | None:
        """The receipt that answered this command before; None if it comes for the first time.

        Raises:
            InputError: its key answered another command.
        """
        query = "SELECT command, seq FROM answered WHERE key = ?"
        row = next(self._db.execute(query, (once.key,)), None)
        if row is None:
            return None
        if row[0] != once.command:
            raise InputError(
                f"the idempotency key answered another command, receipt {row[1]}: "
                "give this one a key of its own"
            )
        return self.receipt(row[1])

    def answers(self) -> Iterator[tuple[str, tuple[str, int]]]:
        """Every idempotency key's digest, the command's, and the receipt that answered."""
        rows = self._db.execute("SELECT key, command, seq FROM answered ORDER BY seq")
        return ((key, (command, seq)) for key, command, seq in rows)

    def index(self) -> Iterator[tuple[Any, ...]]:
        """Every row of `receipt`, its columns in the schema's order."""
        return self._db.execute(
            "SELECT seq, leaf, body, scroll, scroll_seq, type, outcome, principal, lease_seq "
            "FROM receipt ORDER BY seq"
        )

    def scrolls(self) -> dict[str, tuple[int, str]]:
        """How many receipts each scroll has, and its root: the id of its newest receipt."""
        found = {}
        for scroll in SCROLLS:
            last = self.last_of_scroll(scroll)
            if last is not None:
                found[scroll] = (last[0] + 1, spell_leaf(last[1]))
        return found

    def last_of_scroll(self, scroll: str) -> tuple[int, bytes] | None:
        """Number and leaf of the newest receipt in `scroll`."""
        row = next(self._db.execute(_LAST_OF_SCROLL, (scroll,)), None)
        return None if row is None else (row[0], row[1])

    def leaf(self, seq: int) -> bytes:
        """The leaf hash of receipt `seq`."""
        return bytes(next(self._db.execute("SELECT leaf FROM receipt WHERE seq = ?", (seq,)))[0])


def _watermark(row: tuple[Any, ...]) -> Watermark:
    """The mark in a row of `_WATERMARK`; raises TamperError."""
    try:
        newest = Moment(from_us(row[1]), row[2], row[3]) if row[0] else None
        held_until = None if row[7] is None else from_us(row[7])
        recovered = None if row[8] is None else Moment(from_us(row[8]), row[9], row[10])
        return Watermark(newest, row[4], row[5], row[6], held_until, recovered, *row[11:])
    except (ValueError, OverflowError, TypeError) as error:
        raise TamperError(f"the ledger's head is damaged: {error}") from error
