"""What is to be told of receipts, written with them: nothing is decided and then forgotten to tell.

A row is written in the transaction of the receipt that it is about, one for each `[notify]` target
that asked for such events, and leaves `waiting` when it was told. What tells it comes later and
elsewhere (`vmstate.notices`), so that no listener stands in the way of a decision.

    request   a receipt of a request or of an approval
    ending    planned with a grant or a renewal, for `before` its end; dropped with the lease
    ended     a lease ended, however it did
    lock      somebody was locked, or a lock lifted
    denied    refusals, in numbers: of one principal for one set of reasons, or of one asker for
              whomever else, once a minute at most
    amended   the constitution was amended

A target that is never reached keeps its rows. They are as many as the receipts it is to be told of,
refusals excepted: of those at most `FOLDS` wait for a target, each with its count, and what is
refused beyond them is told together. Of the rows that were told the newest `KEPT` stay.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from vmstate.clock import Moment, duration_us, from_us, to_us
from vmstate.constitution.document import Notify
from vmstate.leases.lease import Lease
from vmstate.ledger.receipt import Receipt

BEFORE = timedelta(minutes=5)  # an end is told so long ahead where the constitution does not say
APART = timedelta(minutes=1)  # between two messages about the same refusals
FOLDS = 256  # refusals of so many kinds wait for one target; names can be made up without end
KEPT = 1_000  # rows that were told, for whoever asks what went out
FAULT_CHARACTERS = 200
STUCK_AFTER = 5  # attempts after which a row no longer stands before others
LATE_AFTER = timedelta(minutes=1)  # for a row that nobody even tried to tell

OTHERS = ""  # the fold of refusals that have no row of their own
_NOBODY, _FOR_OTHERS = "?", "@"  # no principal's name begins so

_EVENT_OF = {
    "request": "request",
    "approval": "request",
    "profile_deescalation": "ended",
    "lock": "lock",
    "constitution_amended": "amended",
}
# At once, when the wall has come, when the boot hand has: an index for each, whatever is planned.
_IS_DUE = """id IN (
    SELECT id FROM outbox WHERE told_us IS NULL AND target = :target AND planned = 0
    UNION SELECT id FROM outbox WHERE told_us IS NULL AND target = :target AND planned = 1
        AND due_us <= :wall
    UNION SELECT id FROM outbox WHERE told_us IS NULL AND target = :target AND planned = 1
        AND due_boot = :boot AND due_boot_us <= :boot_us)"""
_IS_FREE = "(hold_boot <> :boot OR hold_boot_us <= :boot_us)"
_ROW = """id, target, event, seq, first_seq, count, lease_seq, due_us, attempts, fault,
    claimed, told_us, fold"""
# What failed often stands behind what did not: one that is never accepted holds up nobody.
_DUE = f"""SELECT {_ROW} FROM outbox WHERE {_IS_DUE} AND {_IS_FREE}
    ORDER BY attempts >= {STUCK_AFTER}, due_us, id LIMIT :n"""
_WAITING = f"SELECT {_ROW} FROM outbox WHERE {_IS_DUE} ORDER BY due_us, id LIMIT :n"
_BACKLOG = f"""SELECT count(*), min(due_us), max(attempts) FROM outbox WHERE {_IS_DUE}"""
_FAULT = f"SELECT fault FROM outbox WHERE {_IS_DUE} ORDER BY attempts DESC, id LIMIT 1"
_INSERT = """INSERT INTO outbox (target, event, seq, first_seq, count, fold, lease_seq, planned,
    due_us, due_boot, due_boot_us, claimed, hold_boot, hold_boot_us, attempts, fault)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', 0, 0, '')"""
_OPEN_FOLD = """SELECT id FROM outbox WHERE target = ? AND fold = ? AND told_us IS NULL
    AND claimed = 0 ORDER BY id DESC LIMIT 1"""
_LAST_FOLD_TOLD = """SELECT told_us, told_boot, told_boot_us FROM outbox
    WHERE target = ? AND fold = ? AND told_us IS NOT NULL ORDER BY id DESC LIMIT 1"""
_FOLDS_WAITING = "SELECT count(*) FROM outbox WHERE target = ? AND fold > '' AND told_us IS NULL"
_DROP_OLD = """DELETE FROM outbox WHERE told_us IS NOT NULL AND id <= (SELECT id FROM outbox
    WHERE told_us IS NOT NULL ORDER BY id DESC LIMIT 1 OFFSET ?)"""


class Connection(Protocol):
    """What is needed of a database connection."""

    def execute(self, statements: str, bindings: Any = ()) -> Any: ...


@dataclass(frozen=True, slots=True)
class Notice:
    """A row: `event` about the receipt `seq`, for `target`; refusals from `first_seq`, `count`."""

    id: int
    target: str
    event: str
    seq: int
    first_seq: int
    count: int
    lease_seq: int | None
    due_at: datetime
    attempts: int
    fault: str
    claimed: bool
    told_at: datetime | None
    fold: str | None

    @property
    def is_of_many(self) -> bool:
        """Whether it counts the refusals of more people than the last of them."""
        fold = self.fold
        return fold is not None and (fold == OTHERS or fold[0] in (_NOBODY, _FOR_OTHERS))

    @property
    def is_for_others(self) -> bool:
        """Whether it counts what one asker was refused for others, and not for themselves."""
        return self.fold is not None and self.fold.startswith(_FOR_OTHERS)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for one target and is due; `attempts` and `fault` are of what failed most."""

    target: str
    waiting: int
    oldest_at: datetime | None
    late_for: timedelta
    attempts: int
    fault: str

    @property
    def is_behind(self) -> bool:
        """Whether somebody should look: an attempt failed, or nobody tries."""
        return self.attempts > 0 or self.late_for > LATE_AFTER

    @property
    def message(self) -> str:
        """What waits since when, and why, as a sentence."""
        what = "1 notice waits" if self.waiting == 1 else f"{self.waiting} notices wait"
        since = "" if self.oldest_at is None else f" since {self.oldest_at:%Y-%m-%d %H:%M:%SZ}"
        why = f", {self.fault}" if self.fault else ", nobody tried: run vmstate serve"
        return f"{self.target} is behind: {what}{since}{why}"


def is_told(receipt: Receipt) -> str | None:
    """Which event a receipt is, if it is one; what is planned with it is another matter."""
    return _EVENT_OF.get(receipt.type) if receipt.granted else "denied"


class Outbox:
    """The table, through a connection that reads it, or writes it in a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    # ---- with a receipt -----------------------------------------------------------------------

    def post(
        self,
        targets: Mapping[str, Notify],
        receipt: Receipt,
        now: Moment,
        *,
        moved: Lease | None = None,
        ended: Lease | None = None,
    ) -> None:
        """Write what each target is to be told of `receipt`.

        `moved` is the lease that it grants or renews, `ended` the one that it ends.
        """
        event = is_told(receipt)
        lease = moved or ended
        if lease is not None and any("ending" in one.events for one in targets.values()):
            drop = "DELETE FROM outbox WHERE lease_seq = ? AND told_us IS NULL AND claimed = 0"
            self._db.execute(drop, (lease.seq,))
        for name, target in targets.items():
            if moved is not None and "ending" in target.events:
                self._plan(name, receipt.seq, moved, target.before or BEFORE)
            if event == "denied" and event in target.events:
                self._fold(name, receipt, now)
            elif event is not None and event in target.events:
                self._insert(name, event, receipt.seq, now)

    def _plan(self, target: str, seq: int, lease: Lease, before: timedelta) -> None:
        """For a lease that is shorter than `before` it is told at once, which is late enough."""
        at = lease.limit
        us = duration_us(before)
        moment = Moment(from_us(max(0, to_us(at.wall) - us)), at.boot_id, at.boot_us - us)
        self._insert(target, "ending", seq, moment, lease_seq=lease.seq, planned=True)

    def _fold(self, target: str, receipt: Receipt, now: Moment) -> None:
        """Count a refusal in the row that waits for its like, or begin one."""
        fold = _fold_of(receipt)
        row = self._open_fold(target, fold)
        if row is None and self._too_many(target):
            fold, row = OTHERS, self._open_fold(target, OTHERS)
        number = receipt.folded or 1
        if row is not None:
            more = "UPDATE outbox SET count = count + ?, seq = ? WHERE id = ?"
            self._db.execute(more, (number, receipt.seq, row))
            return
        told = next(self._db.execute(_LAST_FOLD_TOLD, (target, fold)), None)
        if told is None:
            self._insert(target, "denied", receipt.seq, now, fold=fold, count=number)
            return
        wait = duration_us(APART)
        due = Moment(from_us(told[0] + wait), told[1], told[2] + wait)
        self._insert(target, "denied", receipt.seq, due, fold=fold, planned=True, count=number)

    def _open_fold(self, target: str, fold: str) -> int | None:
        # What is on its way has its numbers already: a new row is begun beside it.
        row = next(self._db.execute(_OPEN_FOLD, (target, fold)), None)
        return None if row is None else int(row[0])

    def _too_many(self, target: str) -> bool:
        return bool(next(self._db.execute(_FOLDS_WAITING, (target,)))[0] >= FOLDS)

    def _insert(
        self,
        target: str,
        event: str,
        seq: int,
        due: Moment,
        *,
        fold: str | None = None,
        lease_seq: int | None = None,
        planned: bool = False,
        count: int = 1,
    ) -> None:
        moment = (to_us(due.wall), due.boot_id, due.boot_us)
        row = (target, event, seq, seq, count, fold, lease_seq, int(planned), *moment)
        self._db.execute(_INSERT, row)

    # ---- telling ------------------------------------------------------------------------------

    def due(self, target: str, now: Moment, limit: int) -> tuple[Notice, ...]:
        """What is to be told to `target` now and by nobody else, the oldest first."""
        return self._read(_DUE, target, now, limit)

    def claim(
        self, target: str, now: Moment, *, limit: int, until_boot_us: int
    ) -> tuple[Notice, ...]:
        """Take what is due, so that no other process tells it before `until_boot_us`."""
        found = self.due(target, now, limit)
        for one in found:
            self._db.execute(
                "UPDATE outbox SET claimed = 1, hold_boot = ?, hold_boot_us = ? WHERE id = ?",
                (now.boot_id, until_boot_us, one.id),
            )
        return found

    def told(self, notices: Iterable[Notice], now: Moment) -> None:
        """These were delivered; of what was, only the newest are kept."""
        for one in notices:
            self._db.execute(
                "UPDATE outbox SET claimed = 0, told_us = ?, told_boot = ?, told_boot_us = ? "
                "WHERE id = ? AND told_us IS NULL",
                (to_us(now.wall), now.boot_id, now.boot_us, one.id),
            )
        self._db.execute(_DROP_OLD, (KEPT,))

    def failed(self, notice: Notice, fault: str, now: Moment, *, hold_us: int) -> None:
        """This was not delivered, and is not tried again for `hold_us`."""
        self._db.execute(
            "UPDATE outbox SET claimed = 0, attempts = attempts + 1, fault = ?, hold_boot = ?, "
            "hold_boot_us = ? WHERE id = ? AND told_us IS NULL",
            (fault[:FAULT_CHARACTERS], now.boot_id, now.boot_us + hold_us, notice.id),
        )

    def free(self, notices: Iterable[Notice]) -> None:
        """These were claimed and not tried."""
        for one in notices:
            free = "UPDATE outbox SET claimed = 0, hold_boot = '' WHERE id = ? AND told_us IS NULL"
            self._db.execute(free, (one.id,))

    def drop(self, notices: Iterable[Notice]) -> None:
        """These are no longer true."""
        for one in notices:
            self._db.execute("DELETE FROM outbox WHERE id = ? AND told_us IS NULL", (one.id,))

    def forget(self, targets: Iterable[str]) -> None:
        """Nothing more is told to these: the constitution no longer names them."""
        for name in targets:
            self._db.execute("DELETE FROM outbox WHERE target = ?", (name,))

    # ---- looking ------------------------------------------------------------------------------

    def targets(self) -> tuple[str, ...]:
        """Every target that something waits for, or waited for not long ago."""
        rows = self._db.execute("SELECT DISTINCT target FROM outbox ORDER BY target")
        return tuple(row[0] for row in rows)

    def waiting(self, target: str, now: Moment, limit: int) -> tuple[Notice, ...]:
        """What is due and was not delivered, tried or not, the oldest first."""
        return self._read(_WAITING, target, now, limit)

    def backlog(self, target: str, now: Moment) -> Backlog:
        """How far behind `target` is."""
        values = _values(target, now)
        count, oldest_us, attempts = next(self._db.execute(_BACKLOG, values))
        if not count:
            return Backlog(target, 0, None, timedelta(), 0, "")
        oldest_at = from_us(oldest_us)
        fault = str(next(self._db.execute(_FAULT, values))[0])
        late_for = max(timedelta(), now.wall - oldest_at)
        return Backlog(target, count, oldest_at, late_for, attempts, fault)

    def _read(self, query: str, target: str, now: Moment, limit: int) -> tuple[Notice, ...]:
        rows = self._db.execute(query, {**_values(target, now), "n": limit})
        return tuple(_notice(row) for row in list(rows))


def _fold_of(receipt: Receipt) -> str:
    """Of whom, and why: refusals of which this is the same are told together.

    Names that nobody knows are one, and so are all those that one asker asks for: whoever makes
    them up would have a row for each.
    """
    codes = sorted({one.code for one in receipt.unmet})
    who = receipt.fields["who"]
    of = who["principal"]
    if "unknown_principal" in codes:
        of = _NOBODY
    elif who["actor"] != who["principal"]:
        of = f"{_FOR_OTHERS}{who['actor']}"
    return f"{of} {' '.join(codes)}"


def _values(target: str, now: Moment) -> dict[str, Any]:
    return {
        "target": target,
        "wall": to_us(now.wall),
        "boot": now.boot_id,
        "boot_us": now.boot_us,
    }


def _notice(row: tuple[Any, ...]) -> Notice:
    return Notice(
        id=row[0],
        target=row[1],
        event=row[2],
        seq=row[3],
        first_seq=row[4],
        count=row[5],
        lease_seq=row[6],
        due_at=from_us(row[7]),
        attempts=row[8],
        fault=row[9],
        claimed=bool(row[10]),
        told_at=None if row[11] is None else from_us(row[11]),
        fold=row[12],
    )
