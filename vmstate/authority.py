"""Settle, decide, record, in one transaction. Every door leads here.

Law 2: no change without its receipt. Law 6: escalation fails closed; where nothing can be written
nothing is granted, and `LedgerUnavailable` is raised instead of a receipt. Return never waits:
what is over is over when it is read, whatever was written.

The path of a command: `submit` → `Ledger.transact` → settle → `Decider.decide` → receipts → commit
→ listeners. The path of an expiry is the same with no command in it: `settle`.
"""

import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from vmstate.clock import Clock, Moment, SystemClock
from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import load_constitution
from vmstate.decisions.command import Amend, Command, DrillMode, SetLock
from vmstate.decisions.decision import Entry
from vmstate.decisions.evidence import is_from
from vmstate.decisions.once import Once
from vmstate.decisions.settling import SETTLE
from vmstate.errors import ConstitutionError, LedgerError, LedgerUnavailable
from vmstate.ledger.in_force import InForce, kept_law
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.refusals import any_closed, put_on_record, record
from vmstate.ledger.store import BUSY_MS, Ledger
from vmstate.ledger.sweep import (
    amend_leases,
    amend_requests,
    end_covered,
    everybody,
    overdue_ends,
    settle_everybody,
)
from vmstate.ledger.transaction import DrillMark, Transaction
from vmstate.reading import Reading

log = logging.getLogger("vmstate")

PATIENCE = timedelta(milliseconds=BUSY_MS)
OWED_AT_ONCE = 500  # ends by a lock in one transaction
ENDED_AT_ONCE = 50_000  # by a clock step; a transaction of half a minute, once in a blue moon

Listener = Callable[[Receipt], None]


class Authority(Reading):
    """A constitution, a ledger and a clock. Safe to share between threads.

    The law is the ledger's: once it is amended, by whichever process, the next decision is made
    under the new one. `serving` is for `vmstate serve`, which knows its callers: where `[callers]`
    says `host = false`, nobody else may write.
    """

    def __init__(
        self,
        constitution: Constitution,
        ledger: Ledger,
        *,
        clock: Clock | None = None,
        serving: bool = False,
    ) -> None:
        super().__init__(constitution, ledger, clock)
        self._serving = serving
        self._listeners: list[Listener] = []

    @classmethod
    def open(
        cls,
        constitution: Path | str | None,
        ledger: Path | str,
        *,
        clock: Clock | None = None,
        serving: bool = False,
    ) -> Self:
        """Open a ledger that exists, under the constitution in a file. Costs the same however
        much the ledger holds, and writes nothing.

        With None for the file it is opened under the law in force as the ledger keeps it. A file
        that says something else is refused, because whoever wrote it believes that it rules.

        Raises:
            ConstitutionError: the constitution does not load.
            LedgerNotFound, LedgerMismatch, LedgerUnavailable: see `Ledger.open`.
        """
        law = None if constitution is None else load_constitution(Path(constitution))
        opened = Ledger.open(Path(ledger))
        try:
            return cls(law or kept_law(opened), opened, clock=clock, serving=serving)
        except BaseException:
            opened.close()
            raise

    @classmethod
    def create(
        cls,
        constitution: Constitution,
        ledger: Path | str,
        *,
        clock: Clock | None = None,
        origin: str | None = None,
        drill: DrillMark | None = None,
    ) -> Self:
        """Make a ledger, its key and its first receipt; see `Ledger.create`."""
        clock = clock or SystemClock()
        made = Ledger.create(Path(ledger), constitution, clock.read(), origin=origin, drill=drill)
        return cls(constitution, made, clock=clock)

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    # ---- asking -----------------------------------------------------------------------------

    def submit(self, command: Command) -> Receipt:
        swept = 0
        once = Once.of(command)

        def work(transaction: Transaction) -> tuple[tuple[Receipt, ...], Receipt]:
            nonlocal swept
            people = self._write_under(transaction).people
            keeps = once is not None and is_from(command, people)
            if once is not None and keeps:
                earlier = transaction.answered(once)
                if earlier is not None:
                    return (), earlier
            now = self.clock.read()
            stepped = self._say_first(transaction, now, SETTLE)
            if isinstance(command, Amend):
                settle_everybody(transaction, self._law.decider.law, now)
            decision = self._decide(transaction, command, now)
            if once is not None and keeps and decision.answer.proof != "none":
                decision = decision.kept(once.proofs)
            written, answer = record(transaction, command, decision)
            swept = self._sweep(transaction, decision.answer, now)
            ends: tuple[Receipt, ...] = ()
            if isinstance(command, DrillMode) and not command.on:
                # The end of a drill ends everything in it, in the same transaction.
                ends = self._settle(transaction, now, SETTLE, everybody(transaction))
            return (*stepped, *written, *ends), answer

        receipts, answer = self.ledger.transact(work)
        self._announce(receipts)
        self._announce_swept(answer.seq, swept)
        if isinstance(command, SetLock) and not self._serving:
            self._write_fallen()
        if isinstance(command, Amend):
            with self.ledger.read() as snapshot:
                self._follow(snapshot)
        return answer

    def signing_after(self) -> str | None:
        """As every door's. That the clock was set back is put on record first, if it was not: only
        what is written can be named.
        """
        found = self.set_back()
        if found is None or found.after is not None:
            return None if found is None else found.after

        def work(transaction: Transaction) -> tuple[Receipt, ...]:
            self._write_under(transaction)
            return self._say_first(transaction, self.clock.read(), SETTLE)

        try:
            self._announce(self.ledger.transact(work))
        except (LedgerError, ConstitutionError) as error:
            log.warning("a clock that was set back is not on record: %s", error)
        return super().signing_after()

    # ---- giving back ------------------------------------------------------------------------

    def settle(
        self,
        principals: Iterable[str],
        *,
        via: str = SETTLE,
        until: datetime | None = None,
        patience: timedelta = PATIENCE,
    ) -> tuple[Receipt, ...]:
        """End what is overdue of these principals, in deadline order, in one transaction.

        Leases are read again inside it: one that was ended or renewed meanwhile is left alone.
        `via` is who came to do it: `scheduler`, `settle` or `start_up`. With `until`, only what
        was due by then; `patience` is how long other writers are waited for. Of nobody, only what
        was counted of refusals is written, once its minute is over.
        """
        names = tuple(dict.fromkeys(principals))
        with self.ledger.read() as snapshot:
            if not names and not any_closed(snapshot, self.clock.read()):
                return ()

        def work(transaction: Transaction) -> tuple[Receipt, ...]:
            self._write_under(transaction)
            now = self.clock.read()
            opening = self._say_first(transaction, now, via)
            return (*opening, *self._settle(transaction, now, via, names, until))

        patience_ms = int(patience / timedelta(milliseconds=1))
        receipts = self.ledger.transact(work, patience_ms=patience_ms)
        self._announce(receipts)
        return receipts

    # ---- telling ----------------------------------------------------------------------------

    def unsubscribe(self, listener: Listener) -> None:
        """Stop calling `listener`; nothing happens if it is not called."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with each receipt that this object writes, after its commit.

        It can't hold up or undo what was decided; what it raises is logged.
        """
        self._listeners.append(listener)

    # ---- inside -----------------------------------------------------------------------------

    def _write_under(self, transaction: Transaction) -> InForce:
        """The law in force, if this process may write under it."""
        law = self._follow(transaction)
        trusted = law.constitution.document.callers.host or self._serving or self.is_drill
        if not trusted:
            raise LedgerUnavailable(
                f"{self.ledger.path}: [callers] host = false, so vmstate serve alone writes it: "
                "set VMSTATE_SOCKET to its socket; nothing was written"
            )
        transaction.address(law.constitution.document.notify)
        return law

    def _say_first(self, transaction: Transaction, now: Moment, via: str) -> tuple[Receipt, ...]:
        """Write what decides which leases are over, about the clock or a drill that is.

        A clock stepped within a boot ends whatever is over at once, whoever holds it: after a
        reboot the only hand left would be the one that was stepped (law 11). What a reboot lost
        sight of stays lost by its mark.
        """
        state = transaction.time(self.constitution.baseline)
        said = tuple(transaction.append(e, now) for e in self._law.decider.opening(state, now))
        said = (*said, *put_on_record(transaction, now))
        details = [one.fields["what"]["detail"] for one in said if one.type == "clock_anomaly"]
        if not any(detail["kind"] == "step" for detail in details):
            return said
        names = dict.fromkeys(one.principal for one in transaction.due(now, ENDED_AT_ONCE))
        return (*said, *self._settle(transaction, now, via, names))

    def _settle(
        self,
        transaction: Transaction,
        now: Moment,
        via: str,
        names: Iterable[str],
        until: datetime | None = None,
    ) -> tuple[Receipt, ...]:
        ends = overdue_ends(transaction, self._law.decider.law, names, now, via, until)
        return tuple(transaction.append(entry, now) for entry in ends)

    def _sweep(self, transaction: Transaction, answer: Entry, now: Moment) -> int:
        """Do to everybody's leases what a lock or another law does; how many receipts."""
        law = self._law.decider.law
        if answer.lock is not None:
            return end_covered(transaction, law, answer, now)
        if answer.law is not None:
            new = InForce.of(answer.law, self.ledger).decider.law
            amendment = transaction.head().tree.size - 1
            leases = amend_leases(transaction, law, new, answer, now)
            return leases + amend_requests(transaction, new, amendment, now)
        return 0

    def _write_fallen(self) -> None:
        """Write the ends that a lock left owed, some at a time: others are decided in between.

        What can't be written stays owed, as after any deadline: it is over all the same.
        """
        while True:
            began = time.monotonic()
            with self.ledger.read() as snapshot:
                names = {name for name, _, _ in snapshot.falls.due(OWED_AT_ONCE)}
            try:
                if not names or not self.settle(sorted(names)):
                    return
            except LedgerUnavailable as error:
                log.warning("ends by a lock are owed: %s", error)
                return
            # Who waits for the ledger in another process looks from time to time whether it is
            # free, and would never find it so.
            time.sleep((time.monotonic() - began) / 2)

    def _announce_swept(self, after: int, count: int) -> None:
        """Announce what one decision ended of many, read again: it may be too much to keep."""
        if self._listeners and count:
            with self.ledger.read() as snapshot:
                self._announce(snapshot.receipts(after=after, limit=count))

    def _announce(self, receipts: Iterable[Receipt]) -> None:
        for receipt in receipts:
            for listener in tuple(self._listeners):
                try:
                    listener(receipt)
                except Exception:
                    log.exception("a listener failed on receipt %s", receipt.seq)
