"""Leases are given back on time: in a thread of its own, or on time that somebody else moves.

Law 3: this makes receipts prompt; it does not make authority end.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from vmstate.authority import Authority
from vmstate.lease_jobs import (
    Health,
    LeaseJobStore,
    StillScheduler,
    ThreadScheduler,
    scheduler_over,
)
from vmstate.ledger.receipt import Receipt

ROUNDS_AT_ONE_INSTANT = 10_000  # a drill that grants for no time at all would never move on


class Expiry:
    """Gives leases back on time, in a thread of its own, until stopped.

    What came due before it was started is ended first, with `ended_via = "start_up"`.
    """

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._store = LeaseJobStore(authority)
        self._scheduler = scheduler_over(ThreadScheduler, self._store)

    def start(self) -> None:
        """Start the thread; returns at once, however much is overdue.

        Raises:
            RuntimeError: it was started before.
        """
        if self._scheduler.running:
            raise RuntimeError("giving back was started already")
        self._scheduler.start()
        self._authority.subscribe(self._notice)

    def stop(self) -> None:
        """Stop after the transaction under way; what is still owed stays due.

        Nothing to do if it does not run. From a listener it returns before the thread has ended.
        """
        self._authority.unsubscribe(self._notice)
        if self._scheduler.running:
            thread = getattr(self._scheduler, "_thread", None)
            self._scheduler.shutdown(wait=thread is not threading.current_thread())

    def health(self) -> Health:
        """How giving back is doing; read from the ledger and the last beat, not from a flag."""
        thread = getattr(self._scheduler, "_thread", None)
        return self._store.health(running=thread is not None and thread.is_alive())

    def _notice(self, receipt: Receipt) -> None:
        """Look again at once if a lease was made that ends before the next look."""
        if receipt.type not in {"profile_escalation", "lease_renewed"}:
            return
        next_at, ends_at = self._store.next_at, receipt.ends_at
        if next_at is None or (ends_at is not None and ends_at < next_at):
            self._scheduler.wakeup()


class VirtualExpiry:
    """The same job store on time that somebody else moves: no thread, no sleep.

    With an injected `VirtualClock` it moves that clock. Under freezegun or time-machine hand in
    their `move_to`, or move time yourself and call `run_due`.
    """

    def __init__(
        self, authority: Authority, *, move_to: Callable[[datetime], None] | None = None
    ) -> None:
        self._authority = authority
        clock: Any = authority.clock
        self._move_to = move_to or getattr(clock, "move_to", None)
        self._store = LeaseJobStore(authority)
        self._scheduler = scheduler_over(StillScheduler, self._store)
        self._scheduler.start()
        self.run_due()

    def run_due(self) -> None:
        """End everything that is due now.

        Raises:
            RuntimeError: something is still due after 10,000 rounds at one instant.
        """
        for _ in range(ROUNDS_AT_ONE_INSTANT):
            self._scheduler._process_jobs()  # noqa: SLF001 -- APScheduler 3 has no public step
            next_at = self._store.next_deadline()
            if next_at is None or next_at > self._authority.clock.read().wall:
                return
        now = self._authority.clock.read().wall
        raise RuntimeError(f"still due after {ROUNDS_AT_ONE_INSTANT:,} rounds at {now}")

    def run_until(self, at: datetime) -> None:
        """Let time pass until `at`, deadline by deadline: each end sees its own instant."""
        move_to = self._mover()
        while (next_at := self._store.next_deadline()) is not None and next_at <= at:
            move_to(max(next_at, self._authority.clock.read().wall))
            self.run_due()
        move_to(at)
        self.run_due()

    def advance(self, duration: timedelta) -> None:
        """Let `duration` pass, deadline by deadline."""
        self.run_until(self._authority.clock.read().wall + duration)

    def next_deadline(self) -> datetime | None:
        """When something ends next; None if no lease is open."""
        return self._store.next_deadline()

    def health(self) -> Health:
        """How giving back is doing; there is no thread that could have died."""
        return self._store.health(running=True)

    def stop(self) -> None:
        """Release the scheduler."""
        self._scheduler.shutdown(wait=True)

    def _mover(self) -> Callable[[datetime], None]:
        if self._move_to is None:
            raise RuntimeError("this clock can't be moved: hand in move_to, or a VirtualClock")
        return self._move_to
