"""The table of locks."""

from collections.abc import Iterator
from typing import Any

from vmstate.clock import Moment, from_us
from vmstate.leases.lock import SCOPES, Lock
from vmstate.ledger.rows import Connection, moment_row

LOCK_COLUMNS = """seq, scope, name, by, reason, locked_us, locked_boot, locked_boot_us,
    until_us, until_boot, until_boot_us, state"""
_SELECT = f"SELECT {LOCK_COLUMNS} FROM lock"


class LockTable:
    """Reads, and inside a transaction writes."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def standing(self) -> tuple[Lock, ...]:
        """The locks without a recorded end, in the order in which they were set."""
        rows = self._db.execute(f"{_SELECT} WHERE state = 'locked' ORDER BY seq")
        return tuple(read_lock(row) for row in rows)

    def every(self) -> Iterator[Lock]:
        """Every lock there ever was, in that order."""
        return (read_lock(row) for row in self._db.execute(f"{_SELECT} ORDER BY seq"))

    def write(self, lock: Lock) -> None:
        """Put down a lock that was set, or what became of it."""
        until = (None, None, None) if lock.until is None else moment_row(lock.until)
        told = (lock.seq, lock.scope, lock.name, lock.by, lock.reason)
        row = (*told, *moment_row(lock.locked), *until, lock.state)
        self._db.execute(
            f"INSERT INTO lock VALUES (?{', ?' * (len(row) - 1)}) "
            "ON CONFLICT (seq) DO UPDATE SET state = excluded.state",
            row,
        )


def read_lock(row: tuple[Any, ...]) -> Lock:
    """The lock in a row; one that can't be read is on everybody, and audit names the row."""
    try:
        locked = Moment(from_us(row[5]), row[6], row[7])
        until = None if row[8] is None else Moment(from_us(row[8]), row[9], row[10])
        scope = SCOPES[SCOPES.index(row[1])]
        return Lock(row[0], scope, row[2], row[3], row[4], locked, until, row[11])
    except (OverflowError, TypeError, ValueError):
        nowhere = Moment(from_us(0), "", 0)
        return Lock(row[0], "all", "", "", "its row can't be read: run vmstate audit", nowhere)
