"""The table of leases: who holds what, who held what, and whose end is due."""

import json
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from vmstate.clock import Moment, duration_us, from_us
from vmstate.leases.lease import Lease, lease_id
from vmstate.leases.watermark import Watermark
from vmstate.ledger.rows import LATEST_US, PAGE, Connection, any_due, moment_row, next_deadlines

RECORD_LEASES = 64  # of one profile: its cool-down keeps more from falling into one hold

_COLUMNS = """seq, principal, profile, rule, trigger, parent_seq,
    granted_us, granted_boot, granted_boot_us, limit_us, limit_boot, limit_boot_us,
    deadline_us, deadline_boot, deadline_boot_us, renewals, max_uses, idle_us, uses,
    ended_us, ended_boot, ended_boot_us, ending, unseated"""
# Whether the receipt of a lease's number granted it to its holder.
_BORNE_OUT = """EXISTS (SELECT 1 FROM receipt WHERE receipt.seq = lease.seq
    AND receipt.type = 'profile_escalation' AND receipt.outcome = 'granted'
    AND receipt.principal = lease.principal AND receipt.lease_seq = lease.seq)"""
_OPEN_OF = f"""SELECT {_COLUMNS}, {_BORNE_OUT} FROM lease
    WHERE principal = ? AND ended_us IS NULL ORDER BY seq"""
# The same of many people; the order of the joins is said, or SQLite may read every open lease.
_OPEN_OF_ALL = f"""SELECT {_COLUMNS}, {_BORNE_OUT}
    FROM json_each(?) AS one CROSS JOIN lease INDEXED BY lease_open
    WHERE principal = one.value AND ended_us IS NULL ORDER BY one.key, seq"""
_EVERY_OPEN = f"""SELECT {_COLUMNS} FROM lease INDEXED BY lease_standing
    WHERE ended_us IS NULL AND seq > ?
    ORDER BY seq LIMIT ?"""
# Everybody at the lowest lease of theirs, so that each comes once.
_HOLDERS = """SELECT seq, principal FROM lease AS one INDEXED BY lease_standing
    WHERE ended_us IS NULL AND seq > ?
    AND seq = (SELECT min(seq) FROM lease WHERE principal = one.principal AND ended_us IS NULL)
    ORDER BY seq LIMIT ?"""
_EVERY = f"SELECT {_COLUMNS} FROM lease WHERE seq > ? ORDER BY seq LIMIT ?"
_RECORD = f"""SELECT {_COLUMNS} FROM lease WHERE principal = ? AND profile = ?
    ORDER BY seq DESC LIMIT ?"""
_ONE = f"SELECT {_COLUMNS} FROM lease WHERE seq = ?"
_ENDS = "principal, seq, deadline_us, deadline_boot, deadline_boot_us"
# What the wall ended, what the boot hand ended, what an earlier wall of this boot ended of earlier
# boots, and what a clock in the past voided.
_DUE = f"""SELECT {_ENDS} FROM (
    SELECT * FROM (SELECT {_ENDS} FROM lease
        WHERE ended_us IS NULL AND deadline_us <= :wall ORDER BY deadline_us, seq DESC LIMIT :n)
    UNION SELECT * FROM (SELECT {_ENDS} FROM lease
        WHERE ended_us IS NULL AND deadline_boot = :boot AND deadline_boot_us <= :boot_us
        ORDER BY deadline_boot_us LIMIT :n)
    UNION SELECT * FROM (SELECT {_ENDS} FROM lease
        WHERE :latest > :wall AND ended_us IS NULL AND deadline_us <= :latest
        AND deadline_boot <> :boot ORDER BY deadline_us LIMIT :n)
    UNION SELECT * FROM (SELECT {_ENDS} FROM lease INDEXED BY lease_standing
        WHERE :void AND ended_us IS NULL AND seq < :below
        AND (granted_boot < :keep OR granted_boot > :keep) LIMIT :n))
    ORDER BY deadline_us, seq DESC LIMIT :n"""


class LeaseTable:
    """Reads, and inside a transaction writes. A row that can't be read is no lease."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def named(self, lease: str) -> Lease | None:
        """The lease with this id, open or ended; None if there never was one."""
        seq = lease_seq(lease)
        row = next(self._db.execute(_ONE, (seq,)), None) if seq is not None else None
        return None if row is None else _read(row)

    def open_of(self, principal: str) -> tuple[Lease, ...]:
        """The leases of `principal` without a recorded end, those below the first that can't be
        read or that no receipt granted them: it is denied, and what stands on it.
        """
        return _as_far_as_borne_out(self._db.execute(_OPEN_OF, (principal,)))

    def open_of_all(self, principals: Iterable[str]) -> dict[str, tuple[Lease, ...]]:
        """The same of each of `principals`, in one question."""
        found: dict[str, list[tuple[Any, ...]]] = {name: [] for name in principals}
        for row in self._db.execute(_OPEN_OF_ALL, (json.dumps(list(found)),)):
            found[row[1]].append(row)
        return {name: _as_far_as_borne_out(rows) for name, rows in found.items()}

    def record(self, names: Iterable[str], profiles: Iterable[str]) -> tuple[Lease, ...]:
        """What these people held of these profiles, the newest first, so much as bears on time."""
        wanted = [(name, profile, RECORD_LEASES) for name in names for profile in profiles]
        rows = (row for one in wanted for row in self._db.execute(_RECORD, one))
        return tuple(lease for row in rows if (lease := _read(row)) is not None)

    def every(self, *, open_only: bool = False) -> Iterator[Lease]:
        """Leases in the order of their grants, those without a recorded end or all there were."""
        query, after = _EVERY_OPEN if open_only else _EVERY, -1
        while rows := list(self._db.execute(query, (after, PAGE))):
            found = (_read(row) for row in rows)
            yield from (one for one in found if one is not None)
            after = rows[-1][0]

    def holders(self) -> Iterator[str]:
        """Everybody with an open lease, once, in the order of their lowest.

        What is ended from the top of a stack while this goes on changes nothing of it.
        """
        after = -1
        while rows := list(self._db.execute(_HOLDERS, (after, PAGE))):
            yield from (principal for _, principal in rows)
            after = rows[-1][0]

    def rows(self) -> Iterator[int]:
        """The number of every row, whether it can be read or not."""
        return (row[0] for row in self._db.execute("SELECT seq FROM lease ORDER BY seq"))

    def due(self, values: dict[str, Any]) -> Iterator[tuple[str, int, Moment]]:
        """Holder, number and deadline of open leases that are over by `values`."""
        if not any_due(self._db, "lease", values):
            return
        for principal, seq, us, boot, boot_us in self._db.execute(_DUE, values):
            if 0 <= us < LATEST_US:
                yield principal, seq, Moment(from_us(us), boot, boot_us)

    def next_after(self, now: Moment, mark: Watermark) -> Iterator[timedelta]:
        """How long until the next deadline, by each hand that may reach one."""
        return next_deadlines(self._db, "lease", now, mark)

    # ---- writing ----------------------------------------------------------------------------

    def open(self, lease: Lease) -> None:
        """Put down a lease that was granted."""
        row = (
            lease.seq,
            lease.principal,
            lease.profile,
            lease.rule,
            lease.trigger,
            lease_seq(lease.parent) if lease.parent else None,
            *moment_row(lease.granted),
            *_term_row(lease),
        )
        self._db.execute(
            f"INSERT INTO lease VALUES (?{', ?' * (len(row) - 1)}, NULL, NULL, NULL, NULL, 0)", row
        )

    def change(self, lease: Lease) -> None:
        """Write the terms of a lease that was renewed, used or kept alive."""
        self._change_one(
            "limit_us = ?, limit_boot = ?, limit_boot_us = ?, "
            "deadline_us = ?, deadline_boot = ?, deadline_boot_us = ?, "
            "renewals = ?, max_uses = ?, idle_us = ?, uses = ?",
            (*_term_row(lease), lease.seq),
        )

    def end(self, lease: Lease) -> None:
        """Write how a lease ended."""
        assert lease.ended is not None
        self._change_one(
            "ended_us = ?, ended_boot = ?, ended_boot_us = ?, ending = ?, unseated = ?",
            (*moment_row(lease.ended), lease.ending, int(lease.unseated), lease.seq),
        )

    def _change_one(self, columns: str, values: tuple[Any, ...]) -> None:
        """Compare and set: the lease must still be open, or nothing of this happened."""
        update = f"UPDATE lease SET {columns} WHERE seq = ? AND ended_us IS NULL RETURNING seq"
        if not list(self._db.execute(update, values)):
            raise RuntimeError("a decision was made on a lease that is not open")


def lease_seq(lease: str) -> int | None:
    """The number in a lease's id, or None if it is no lease's id."""
    number = lease.removeprefix("lease-")
    if lease == number or not number.isascii() or not number.isdigit() or len(number) > 18:  # noqa: PLR2004 -- SQLite's integers
        return None
    return int(number) if lease_id(int(number)) == lease else None


def _as_far_as_borne_out(rows: Iterable[tuple[Any, ...]]) -> tuple[Lease, ...]:
    """The leases in one person's rows, below the first that is none or that nothing granted."""
    leases = []
    for row in rows:
        lease = _read(row) if row[-1] else None
        if lease is None:
            break
        leases.append(lease)
    return tuple(leases)


def _read(row: tuple[Any, ...]) -> Lease | None:
    """The lease in a row, or None if somebody wrote what is no lease; audit names the row."""
    try:
        return _lease(row)
    except (OverflowError, TypeError, ValueError):
        return None


def _lease(row: tuple[Any, ...]) -> Lease:
    return Lease(
        seq=row[0],
        principal=row[1],
        profile=row[2],
        rule=row[3],
        trigger=row[4],
        parent=None if row[5] is None else lease_id(row[5]),
        granted=Moment(from_us(row[6]), row[7], row[8]),
        limit=Moment(from_us(row[9]), row[10], row[11]),
        deadline=Moment(from_us(row[12]), row[13], row[14]),
        renewals=row[15],
        max_uses=row[16],
        idle_ttl=None if row[17] is None else timedelta(microseconds=row[17]),
        uses=row[18],
        ended=None if row[19] is None else Moment(from_us(row[19]), row[20], row[21]),
        ending=row[22],
        unseated=bool(row[23]),
    )


def _term_row(lease: Lease) -> tuple[Any, ...]:
    idle_us = None if lease.idle_ttl is None else duration_us(lease.idle_ttl)
    ends = (*moment_row(lease.limit), *moment_row(lease.deadline))
    return (*ends, lease.renewals, lease.max_uses, idle_us, lease.uses)
