"""The table of requests that were left open, and of what was handed in for them."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from vmstate import canonical
from vmstate.clock import Moment, from_us, to_us
from vmstate.decisions.pending import Asked
from vmstate.errors import InputError
from vmstate.leases.watermark import Watermark
from vmstate.ledger.rows import PAGE, Connection, moment_row, next_deadlines
from vmstate.signing import Signed, read_request, read_signed

_COLUMNS = """seq, id, principal, rule, body, state, opened_us, opened_boot, opened_boot_us,
    waits_us, usable_us, deadline_us, deadline_boot, deadline_boot_us,
    ended_us, ended_boot, ended_boot_us"""
_SELECT = f"SELECT {_COLUMNS} FROM request"
_ANY_OPEN = "SELECT 1 FROM request INDEXED BY request_waiting WHERE ended_us IS NULL LIMIT 1"
_STATEMENTS = "SELECT body FROM handed_in WHERE request_seq = ? ORDER BY seq, id"
# What the wall ended, what the boot hand ended, what an earlier wall of this boot ended of earlier
# boots, what a clock in the past voided, and what was opened under another law.
_DUE = f"""SELECT {_COLUMNS} FROM (
    SELECT * FROM (SELECT * FROM request
        WHERE ended_us IS NULL AND deadline_us <= :wall ORDER BY deadline_us, seq DESC LIMIT :n)
    UNION SELECT * FROM (SELECT * FROM request
        WHERE ended_us IS NULL AND deadline_boot = :boot AND deadline_boot_us <= :boot_us
        ORDER BY deadline_boot_us LIMIT :n)
    UNION SELECT * FROM (SELECT * FROM request
        WHERE :latest > :wall AND ended_us IS NULL AND deadline_us <= :latest
        AND deadline_boot <> :boot ORDER BY deadline_us LIMIT :n)
    UNION SELECT * FROM (SELECT * FROM request
        WHERE :void AND ended_us IS NULL AND seq < :below
        AND (opened_boot < :keep OR opened_boot > :keep) LIMIT :n)
    UNION SELECT * FROM (SELECT * FROM request
        WHERE ended_us IS NULL AND seq < (SELECT max(seq) FROM constitution) LIMIT :n))
    ORDER BY deadline_us, seq DESC LIMIT :n"""


class AskedTable:
    """Reads, and inside a transaction writes. A row that can't be read is no request."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def named(self, request: str) -> Asked | None:
        """The request with this id, open or over; None if there never was one."""
        row = next(self._db.execute(f"{_SELECT} WHERE id = ?", (request,)), None)
        return None if row is None else self._read(row)

    def ids(self, prefix: str) -> tuple[str, ...]:
        """The ids that begin so, two at most: more would tell nobody anything."""
        rows = self._db.execute(
            "SELECT id FROM request WHERE id >= ? AND id < ? ORDER BY id LIMIT 2",
            (prefix, f"{prefix}g"),
        )
        return tuple(row[0] for row in rows)

    def waiting(self, names: Iterable[str]) -> tuple[Asked, ...]:
        """The requests of these people that have no recorded end, as they were opened."""
        if next(self._db.execute(_ANY_OPEN), None) is None:
            return ()
        # Named, or SQLite may read all that these people ever asked for.
        query = f"{_SELECT} INDEXED BY request_open WHERE principal = ? AND ended_us IS NULL"
        query = f"{query} ORDER BY seq"
        found = [self._read(row) for name in names for row in self._db.execute(query, (name,))]
        return tuple(one for one in found if one is not None)

    def every(self, principal: str | None = None, *, open_only: bool = False) -> Iterator[Asked]:
        """Requests in the order in which they were opened."""
        clauses, index = ["seq > :after"], ""
        clauses += ["principal = :principal"] if principal is not None else []
        clauses += ["ended_us IS NULL"] if open_only else []
        if open_only:
            index = f"INDEXED BY {'request_waiting' if principal is None else 'request_open'}"
        query = f"{_SELECT} {index} WHERE {' AND '.join(clauses)} ORDER BY seq LIMIT {PAGE}"
        after = -1
        named = {} if principal is None else {"principal": principal}
        while rows := list(self._db.execute(query, {"after": after, **named})):
            found = (self._read(row) for row in rows)
            yield from (one for one in found if one is not None)
            after = rows[-1][0]

    def rows(self) -> int:
        """How many rows there are, whether they can be read or not."""
        return int(next(self._db.execute("SELECT count(*) FROM request"))[0])

    def due(self, values: dict[str, Any]) -> tuple[Asked, ...]:
        """Open requests that are over; `values` are those by which leases are found too."""
        if next(self._db.execute(_ANY_OPEN), None) is None:
            return ()  # asked first: the question itself costs a hundred times this
        found = [self._read(row) for row in list(self._db.execute(_DUE, values))]
        return tuple(one for one in found if one is not None)

    def next_after(self, now: Moment, mark: Watermark) -> Iterator[timedelta]:
        """How long until the next deadline, by each hand that may reach one."""
        return next_deadlines(self._db, "request", now, mark)

    # ---- writing ----------------------------------------------------------------------------

    def write(self, asked: Asked, seq: int) -> None:
        """Put down what receipt `seq` made of a request, and of its statements."""
        ended = (None, None, None) if asked.ended is None else moment_row(asked.ended)
        usable_us = None if asked.usable_until is None else to_us(asked.usable_until)
        moving = (asked.state, usable_us, *moment_row(asked.deadline), *ended)
        if seq == asked.seq:
            row = (
                asked.seq,
                asked.id,
                asked.principal,
                asked.rule,
                asked.request.bytes(),
                *moment_row(asked.opened),
                to_us(asked.waits_until),
                *moving,
            )
            self._db.execute(
                "INSERT INTO request (seq, id, principal, rule, body, opened_us, opened_boot, "
                "opened_boot_us, waits_us, state, usable_us, deadline_us, deadline_boot, "
                f"deadline_boot_us, ended_us, ended_boot, ended_boot_us) "
                f"VALUES (?{', ?' * (len(row) - 1)})",
                row,
            )
            return
        # Compare and set: the request must still be open, or nothing of this happened.
        changed = list(
            self._db.execute(
                "UPDATE request SET state = ?, usable_us = ?, deadline_us = ?, deadline_boot = ?, "
                "deadline_boot_us = ?, ended_us = ?, ended_boot = ?, ended_boot_us = ? "
                "WHERE seq = ? AND ended_us IS NULL RETURNING seq",
                (*moving, asked.seq),
            )
        )
        if not changed:
            raise RuntimeError("a decision was made on a request that is not open")
        self._keep(asked, seq)

    def _keep(self, asked: Asked, seq: int) -> None:
        """Keep the statements that stand for it now, and no others."""
        query = "SELECT id FROM handed_in WHERE request_seq = ?"
        kept = {row[0] for row in self._db.execute(query, (asked.seq,))}
        standing = {one.statement.id: one for one in asked.statements}
        for gone in kept - standing.keys():
            self._db.execute(
                "DELETE FROM handed_in WHERE request_seq = ? AND id = ?", (asked.seq, gone)
            )
        for id_, signed in standing.items():
            if id_ not in kept:
                row = (asked.seq, id_, seq, canonical.encode(signed.body()))
                self._db.execute("INSERT INTO handed_in VALUES (?, ?, ?, ?)", row)

    def taken(self, seq: int) -> dict[str, int]:
        """By which receipt each statement was taken for the request of receipt `seq`."""
        query = "SELECT id, seq FROM handed_in WHERE request_seq = ?"
        return dict(self._db.execute(query, (seq,)))

    # ---- inside -----------------------------------------------------------------------------

    def _read(self, row: tuple[Any, ...]) -> Asked | None:
        try:
            bodies = [one[0] for one in self._db.execute(_STATEMENTS, (row[0],))]
            return _asked(row, tuple(read_signed(body) for body in bodies))
        except (InputError, OverflowError, TypeError, ValueError):
            return None


def _asked(row: tuple[Any, ...], statements: tuple[Signed, ...]) -> Asked:
    request = read_request(row[4])
    if (request.id, request.principal) != (row[1], row[2]):
        raise ValueError("the columns beside a request are not its own")
    return Asked(
        seq=row[0],
        request=request,
        rule=row[3],
        opened=Moment(from_us(row[6]), row[7], row[8]),
        waits_until=from_us(row[9]),
        deadline=Moment(from_us(row[11]), row[12], row[13]),
        usable_until=None if row[10] is None else from_us(row[10]),
        state=row[5],
        statements=statements,
        ended=None if row[14] is None else Moment(from_us(row[14]), row[15], row[16]),
    )
