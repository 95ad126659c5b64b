"""Whose end is not to be tried again yet: what keeps a failing end from becoming a hot loop.

Counted on the boot hand of the clock, which nobody can set back.
"""

import threading
from collections.abc import Iterable
from datetime import timedelta

from vmstate.clock import Moment, duration_us

CHUNK = 500  # principals ended in one transaction: a flush is shared, other writers wait little
HEARTBEAT_FOR = timedelta(seconds=1)  # how late a lease made by another process may be noticed
CLAIM_FOR = HEARTBEAT_FOR  # what was handed out and came to nothing waits a beat, and no longer
BACK_OFF = tuple(timedelta(seconds=s) for s in (1, 2, 5, 15, 60))
STUCK_AFTER = len(BACK_OFF)  # tries after which a lease counts as stuck


class Claims:
    """Who is not to be tried again yet, and how often they failed. Counted on the boot hand."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._not_before_us: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self._most_together: dict[str, int] = {}
        self._closed_until_us = 0
        self._closings = 0
        self._boot_id = ""

    def begin(self, now: Moment) -> None:
        """Start counting anew in a new boot, whose hand says nothing about an earlier one."""
        with self._lock:
            if self._boot_id != now.boot_id:
                self._boot_id, self._closed_until_us, self._closings = now.boot_id, 0, 0
                self._not_before_us.clear()

    def held(self, now: Moment) -> frozenset[str]:
        with self._lock:
            for name in [n for n, us in self._not_before_us.items() if us <= now.boot_us]:
                del self._not_before_us[name]
            return frozenset(self._not_before_us)

    def claim(self, names: Iterable[str], now: Moment) -> None:
        with self._lock:
            until = now.boot_us + duration_us(CLAIM_FOR)
            self._not_before_us.update(dict.fromkeys(names, until))

    def done(self, names: Iterable[str]) -> None:
        with self._lock:
            self._closings = 0
            for name in names:
                self._not_before_us.pop(name, None)
                self._failures.pop(name, None)
                self._most_together.pop(name, None)

    def failed(self, names: tuple[str, ...], now: Moment) -> None:
        """One alone waits; a group is tried again in halves, until the culprit is alone."""
        with self._lock:
            for name in names:
                if len(names) > 1:
                    self._most_together[name] = len(names) // 2
                    self._not_before_us.pop(name, None)
                    continue
                count = self._failures[name] = self._failures.get(name, 0) + 1
                wait = BACK_OFF[min(count, len(BACK_OFF)) - 1]
                self._not_before_us[name] = now.boot_us + duration_us(wait)

    def close(self, names: Iterable[str], now: Moment) -> None:
        """The whole ledger can't be written: nobody is to blame, everybody waits."""
        with self._lock:
            wait = BACK_OFF[min(self._closings, len(BACK_OFF) - 1)]
            self._closings += 1
            self._closed_until_us = now.boot_us + duration_us(wait)
            for name in names:
                self._not_before_us.pop(name, None)

    def closed_for(self, now: Moment) -> timedelta:
        with self._lock:
            left = timedelta(microseconds=self._closed_until_us - now.boot_us)
            return min(max(left, timedelta()), BACK_OFF[-1])

    def next_release(self, now: Moment) -> timedelta | None:
        with self._lock:
            first = min(self._not_before_us.values(), default=None)
            if first is None:
                return None
            return timedelta(microseconds=max(0, first - now.boot_us))

    def together(self, name: str) -> int:
        with self._lock:
            return self._most_together.get(name, CHUNK)

    def stuck(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted(n for n, c in self._failures.items() if c >= STUCK_AFTER))
