"""A command that runs as long as a lease lasts, and not a tick longer.

    granted ─────────────────────────────── TERM ──── grace ──── KILL at the deadline
            ───── lock, revoke, release ──── TERM, 30 ms, KILL

The deadline is counted here, on both hands of the clock, whatever happens to the ledger meanwhile,
and by the process that keeps the command (`keeper.py`), whatever happens to this one.
What ends a lease early is seen in the ledger by a thread of its own, so that a service which hangs
can't hold up the deadline; one that can't be read for long is as good as an end (law 6).
"""

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from types import FrameType
from typing import Any, Self

from vmstate.clock import Clock, SystemClock
from vmstate.door import Door
from vmstate.errors import UnknownPrincipal, VmstateError
from vmstate.interfaces.cli.processes import Family
from vmstate.leases.standing import Standing

LOOK_EVERY = 0.005  # seconds: how soon an early end is seen
TICK = 0.25  # seconds: how soon a clock that was stepped, or a machine that slept, is noticed
LAST_WORDS = timedelta(milliseconds=30)  # from TERM to KILL once the lease is over
BLIND_FOR = 5.0  # seconds: how long the ledger may be out of sight
FORWARDED = (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
# On a terminal the kernel sends these to the command itself; told twice, it would give up twice.
KEYS = (signal.SIGINT, signal.SIGQUIT)
STAYS = "a lease does not stop, and so neither does what runs under it: Ctrl-C ends both\r\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`code` is the command's exit code; `ended` why it was ended, None if it ended by itself.

    `left` are processes that could not be ended.
    """

    code: int
    ended: str | None
    left: tuple[int, ...]


class Watch:
    """Whether a lease still stands, as last seen; looks in a thread of its own."""

    def __init__(self, door: Door, standing: Standing, lease: str, clock: Clock) -> None:
        self._door, self._clock, self._lease = door, clock, lease
        self._standing = standing
        self._seen = time.monotonic()
        self._is_over = False
        self._stop = threading.Event()
        self.wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._look, name="vmstate run", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(LOOK_EVERY * 10)  # one that hangs in a read is left to hang
        if not self._thread.is_alive():
            os.close(self.wake)
            os.close(self._waker)

    def over(self) -> str | None:
        """Why the lease is taken to be over before its time; None while it stands."""
        if self._is_over:
            return f"{self._lease} was ended"
        if time.monotonic() - self._seen > BLIND_FOR:
            return f"the ledger can't be read, so nobody knows whether {self._lease} still stands"
        return None

    def left(self) -> timedelta:
        """How long it still lasts, with all that it stands on."""
        standing = replace(self._standing, now=self._clock.read())
        lasting = []
        for lease in standing.leases:
            lasting.append(standing.left(lease))
            if lease.id == self._lease:
                break
        return min(lasting, default=timedelta())

    def _look(self) -> None:
        version = None
        while not self._stop.wait(LOOK_EVERY):
            try:
                here = self._door.version()
                if here != version:
                    standing = self._door.standing(self._standing.principal)
                    version = here
                    if self._lease not in (one.id for one in standing.leases):
                        break
                    self._standing = standing
                self._seen = time.monotonic()
            except UnknownPrincipal:
                break
            except VmstateError:
                continue  # looked for again, and not for ever
        if not self._stop.is_set():
            self._is_over = True
            os.write(self._waker, b".")


def supervise(family: Family, watch: Watch, grace: timedelta) -> Outcome:
    """Wait for the command, and end it with the lease; nothing of it is left afterwards."""
    grace = min(grace, watch.left() / 2)
    ended: str | None = None
    watch.start()
    while family.code() is None:
        family.go_on()
        if (over := watch.over()) is not None:
            ended = over
            break
        left = watch.left()
        family.hold(left)
        if left <= timedelta():
            ended = "its lease is over"
            break
        if left > grace:
            ended = None  # renewed, perhaps after it had been told
        elif ended is None:
            ended = "its lease is about to end"
            family.tell(signal.SIGTERM)
        till = left if ended is not None else left - grace
        family.wait(min(till.total_seconds(), TICK), watch.wake)
    if ended is None and watch.left() <= timedelta():
        ended = "its lease is over"  # by its keeper, or late by itself while we were held up
    if not family.is_gone():
        # What it leaves running would outlive the lease: it goes too.
        _last_words(family, min(LAST_WORDS, watch.left()))
    left_over = family.end()
    code = family.code()
    watch.stop()
    return Outcome(128 + signal.SIGKILL if code is None else code, ended, left_over)


def _last_words(family: Family, most: timedelta) -> None:
    until = time.monotonic() + most.total_seconds()
    if most > timedelta():
        family.tell(signal.SIGTERM)
        family.tell(signal.SIGCONT)
    while time.monotonic() < until and not family.is_gone():
        time.sleep(0.002)


class Forwarding:
    """Hands signals on to the command, which decides what they mean; and does not stop itself.

    Those that come before there is a command are kept for it. A handler stands even for what is
    not handed on: what is ignored here would be ignored by the command too.
    """

    def __init__(self) -> None:
        self._family: Family | None = None
        self._waiting: list[int] = []
        self._before: dict[int, Any] = {}
        self._is_told = False

    def __enter__(self) -> Self:
        for number in (*FORWARDED, *KEYS, signal.SIGTSTP):
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def to(self, family: Family) -> None:
        """Hand on to `family` from here on, and what came before."""
        self._family = family
        waiting, self._waiting = self._waiting, []
        for number in waiting:
            self._hear(number, None)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTSTP:
            if not self._is_told:
                self._is_told = True
                os.write(sys.stderr.fileno(), STAYS.encode())  # a handler may not wait for a lock
            return
        if self._family is None:
            self._waiting.append(number)
        elif number not in KEYS or not self._family.is_foreground:
            self._family.tell(number)


def clock_of(door: Door) -> Clock:
    """The clock by which `door` judges, or one of this machine, which is the service's too."""
    clock: Clock = getattr(door, "clock", None) or SystemClock()
    return clock
