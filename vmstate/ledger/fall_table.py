"""Locks whose ends are not all on record yet: what they cover is over all the same.

A lock on a great many ends the first of them in the transaction that sets it, and leaves a row here
for the rest. From that commit on nobody holds what it covers, because whoever reads a stack reads
these rows as well (law 3); receipts follow some at a time, by whoever settles. The row goes with
the last of them. Killed in between, the row stands, and the next one to come goes on.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from vmstate.leases.lease import Lease
from vmstate.leases.lock import Fall, Lock
from vmstate.ledger.lock_table import LOCK_COLUMNS, read_lock
from vmstate.ledger.rows import Connection

_EVERY = f"""SELECT {LOCK_COLUMNS}, proof, profiles, after_seq
    FROM fall JOIN lock USING (seq) ORDER BY seq"""
_OWED = """FROM lease INDEXED BY lease_standing WHERE ended_us IS NULL
    AND seq > :after AND seq < :lock
    AND (:profiles IS NULL OR profile IN (SELECT value FROM json_each(:profiles)))
    ORDER BY seq LIMIT :n"""


class FallTable:
    """Reads, and inside a transaction writes."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def every(self) -> tuple[Fall, ...]:
        """The locks that still owe ends, in the order in which they were set."""
        return tuple(_fall(row) for row in list(self._db.execute(_EVERY)))

    def of(self, *stacks: tuple[Lease, ...]) -> list[dict[int, Fall]]:
        """For each stack, which of its leases fell by which lock, by the lease's number."""
        falls = self.every()
        return [_felled(falls, leases) if falls else {} for leases in stacks]

    def due(self, limit: int) -> Iterator[tuple[str, int, Fall]]:
        """Holder and number of leases that fell and have no recorded end, at most `limit`."""
        for fall in self.every():
            found = list(self._db.execute(f"SELECT principal, seq {_OWED}", _values(fall, limit)))
            yield from ((principal, seq, fall) for principal, seq in found)
            limit -= len(found)

    def begin(self, lock: Lock, proof: str | None, profiles: Iterable[str] | None) -> None:
        """Let everything fall that `lock` covers: these profiles, or all."""
        told = None if profiles is None else json.dumps(sorted(profiles))
        self._db.execute("INSERT INTO fall VALUES (?, ?, ?, -1)", (lock.seq, proof, told))

    def advance(self) -> None:
        """Note how far the ends are on record, and forget the locks that owe none."""
        for fall in self.every():
            first = next(self._db.execute(f"SELECT seq {_OWED}", _values(fall, 1)), None)
            if first is None:
                self._db.execute("DELETE FROM fall WHERE seq = ?", (fall.lock.seq,))
            else:
                row = (first[0] - 1, fall.lock.seq)
                self._db.execute("UPDATE fall SET after_seq = ? WHERE seq = ?", row)


def _felled(falls: tuple[Fall, ...], leases: tuple[Lease, ...]) -> dict[int, Fall]:
    found: dict[int, Fall] = {}
    for fall in falls:
        fell = False
        for lease in leases:
            # What stands on a lease that fell falls with it.
            fell = fell or (lease.seq < fall.lock.seq and fall.covers(lease.profile))
            if fell:
                found.setdefault(lease.seq, fall)
    return found


def _fall(row: tuple[Any, ...]) -> Fall:
    """The fall in a row; of one that can't be read all has fallen, and audit names the row."""
    *lock, proof, profiles, after = row
    try:
        named = None if profiles is None else frozenset(map(str, json.loads(profiles)))
    except (TypeError, ValueError):
        named = None
    return Fall(read_lock(tuple(lock)), proof, named, after)


def _values(fall: Fall, limit: int) -> dict[str, Any]:
    profiles = None if fall.profiles is None else json.dumps(sorted(fall.profiles))
    return {"after": fall.after, "lock": fall.lock.seq, "profiles": profiles, "n": max(0, limit)}
