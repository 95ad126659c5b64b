"""Settle, decide, record, in one transaction. Every door leads here.

Law 2: no change without its receipt. Law 6: escalation fails closed; where nothing can be written
nothing is granted, and `LedgerUnavailable` is raised instead of a receipt. Return never waits:
what is over is over when it is read, whatever was written.

The path of a command: `submit` → `Ledger.transact` → settle → `Decider.decide` → receipts → commit
→ listeners. The path of an expiry is the same with no command in it: `settle`.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from vmstate import canonical
from vmstate.clock import Clock, Moment, SystemClock
from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import load_constitution, read_constitution
from vmstate.decisions.amending import Amendment
from vmstate.decisions.command import Act, Activate, Amend, Command, DrillMode, Escalate
from vmstate.decisions.decision import Decision, Entry, State
from vmstate.decisions.evidence import is_from
from vmstate.decisions.once import Once
from vmstate.decisions.pending import Asked
from vmstate.decisions.route import Explanation, shortest_route
from vmstate.decisions.settling import SETTLE
from vmstate.decisions.showing import Pending
from vmstate.door import ANCHOR, Door, check_request_id
from vmstate.errors import LedgerMismatch, LedgerUnavailable, UnknownPrincipal
from vmstate.leases.lease import Certain, Lease
from vmstate.leases.lock import Lock
from vmstate.leases.standing import Standing
from vmstate.ledger.bearing import anchoring, find_request, state_for
from vmstate.ledger.checkpoint import Heads
from vmstate.ledger.in_force import InForce
from vmstate.ledger.outbox import Backlog, Outbox
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.refusals import any_closed, put_on_record, record
from vmstate.ledger.snapshot import Due, Scope, Snapshot
from vmstate.ledger.store import BUSY_MS, Ledger
from vmstate.ledger.sweep import (
    amend_leases,
    amend_requests,
    end_covered,
    everybody,
    foresee,
    overdue_ends,
    settle_everybody,
)
from vmstate.ledger.transaction import DrillMark, Transaction
from vmstate.treasury.budget import Budget

log = logging.getLogger("vmstate")

PATIENCE = timedelta(milliseconds=BUSY_MS)
ENDED_AT_ONCE = 50_000  # by a clock step; a transaction of half a minute, once in a blue moon
PROFILES_KEPT = 250_000  # for each thread; one takes about 200 bytes

Listener = Callable[[Receipt], None]


class _Kept(threading.local):
    """What a thread has read of who holds what, at which version of the ledger."""

    def __init__(self) -> None:
        self.version = -1
        self.held: dict[str, Certain] = {}


class Authority(Door):
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
        with ledger.read() as snapshot:
            in_force = snapshot.in_force()
        if in_force != constitution.digest:
            raise LedgerMismatch(
                f"{ledger.path} is under the constitution {in_force}, not {constitution.digest}: "
                "open it with its own, have it amended (vmstate amend), or run vmstate init again "
                "if it was never used"
            )
        self.ledger = ledger
        self.clock: Clock = clock or SystemClock()
        self._serving = serving
        self._law = InForce.of(constitution, self.ledger)
        self._listeners: list[Listener] = []
        self._kept = _Kept()

    @classmethod
    def open(
        cls,
        constitution: Path | str,
        ledger: Path | str,
        *,
        clock: Clock | None = None,
        serving: bool = False,
    ) -> Self:
        """Open a ledger that exists, under the constitution in a file. Costs the same however
        much the ledger holds, and writes nothing.

        Raises:
            ConstitutionError: the constitution does not load.
            LedgerNotFound, LedgerMismatch, LedgerUnavailable: see `Ledger.open`.
        """
        law = load_constitution(Path(constitution))
        return cls(law, Ledger.open(Path(ledger)), clock=clock, serving=serving)

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

    @property
    def constitution(self) -> Constitution:
        return self._law.constitution

    @property
    def origin(self) -> str:
        return self.ledger.origin

    @property
    def is_drill(self) -> bool:
        return self.ledger.drill is not None

    def now(self) -> datetime:
        return self.clock.read().wall

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
            if once is not None and is_from(command, people):
                earlier = transaction.answered(once)
                if earlier is not None:
                    return (), earlier
            now = self.clock.read()
            stepped = self._say_first(transaction, now, SETTLE)
            if isinstance(command, Amend):
                settle_everybody(transaction, self._law.decider.law, now)
            decision = self._decide(transaction, command, now)
            if once is not None and decision.answer.proof != "none":
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
        if isinstance(command, Amend):
            with self.ledger.read() as snapshot:
                self._follow(snapshot)
        return answer

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

    def due(self, *, limit: int) -> tuple[Due, ...]:
        with self.ledger.read() as snapshot:
            return snapshot.due(self.clock.read(), limit)

    def next_deadline(self) -> datetime | None:
        """When the next open lease that is not over yet will be, on the wall as it reads now."""
        with self.ledger.read() as snapshot:
            return snapshot.next_deadline(self.clock.read())

    # ---- reading: writes nothing ------------------------------------------------------------

    def may(self, principal: str, what: str) -> bool:
        held = self._held(principal)  # first: reading it is what finds an amended law
        law = self._law.constitution
        if what in law.document.profiles:
            return law.includes(held, what)
        act = law.document.acts.get(what)
        return act is not None and law.includes(held, act.profile)

    def locks(self) -> tuple[Lock, ...]:
        with self.ledger.read() as snapshot:
            self._follow(snapshot)
            now = self.clock.read()
            return tuple(one for one in snapshot.locks.standing() if one.stands(now))

    def standing(self, principal: str) -> Standing:
        canonical.check_name(principal)
        with self.ledger.read() as snapshot:
            law = self._follow(snapshot)
            if not law.people.knows(principal):
                raise UnknownPrincipal(law.decider.law.unknown_principal(principal).message)
            return self._standing(snapshot, principal, self.clock.read())

    def status(self) -> tuple[Standing, ...]:
        with self.ledger.read() as snapshot:
            self._follow(snapshot)
            now = self.clock.read()
            found = [self._standing(snapshot, name, now) for name in everybody(snapshot)]
        return tuple(one for one in found if one.leases)

    def why(self, command: Command) -> Explanation:
        with self.ledger.read() as snapshot:
            law = self._follow(snapshot)
            now = self.clock.read()
            answer = self._decide(snapshot, command, now).answer
            held = snapshot.stack(command.principal, self.constitution.baseline).profile(now)
        to = command.to if isinstance(command, Escalate) else held
        route = (
            shortest_route(law.decider.law, command.principal, held, to)
            if to in law.constitution.document.profiles
            else ()
        )
        return Explanation.of(answer, held, route, now.wall)

    def foresee_amendment(self, toml: bytes) -> Amendment:
        new = InForce.of(read_constitution(toml, name="the new constitution"), self.ledger)
        with self.ledger.read() as snapshot:
            law, now = self._follow(snapshot), self.clock.read()
            found = foresee(snapshot, law.decider.law, new.decider.law, now)
            return Amendment.of(law.constitution, new.constitution, found)

    def lease(self, lease: str) -> Lease | None:
        with self.ledger.read() as snapshot:
            return snapshot.leases.named(lease)

    def requests(
        self, principal: str | None = None, *, open_only: bool = True
    ) -> tuple[Pending, ...]:
        with self.ledger.read() as snapshot:
            self._follow(snapshot)
            now = self.clock.read()
            found = snapshot.requests.every(principal, open_only=open_only)
            shown = [self._shown(snapshot, one, now) for one in found]
        return tuple(one for one in shown if one.is_open or not open_only)

    def request(self, request: str) -> Pending:
        with self.ledger.read() as snapshot:
            self._follow(snapshot)
            asked = find_request(snapshot, check_request_id(request))
            return self._shown(snapshot, asked, self.clock.read())

    def budgets(self) -> tuple[Budget, ...]:
        with self.ledger.read() as snapshot:
            return snapshot.budgets()

    def heads(self) -> Heads:
        with self.ledger.read() as snapshot:
            return Heads(snapshot.head().note, snapshot.scrolls())

    def size(self) -> int:
        with self.ledger.read() as snapshot:
            return snapshot.head().tree.size

    def receipt(self, seq: int) -> Receipt:
        with self.ledger.read() as snapshot:
            return snapshot.receipt(seq)

    def receipts(
        self,
        *,
        after: int = -1,
        limit: int = 1_000,
        principal: str | None = None,
        type_: str | None = None,
        denied: bool = False,
    ) -> tuple[Receipt, ...]:
        with self.ledger.read() as snapshot:
            found = snapshot.receipts(
                after=after, limit=limit, principal=principal, type_=type_, denied=denied
            )
            return tuple(found)

    def version(self) -> int:
        return self.ledger.version()

    def law_in_force(self) -> Constitution:
        """The law as the ledger has it now, which another process may have amended."""
        with self.ledger.read() as snapshot:
            return self._follow(snapshot).constitution

    def backlogs(self) -> tuple[Backlog, ...]:
        with self.ledger.read() as snapshot:
            named = self._follow(snapshot).constitution.document.notify
            outbox, now = Outbox(snapshot), self.clock.read()
            return tuple(outbox.backlog(name, now) for name in named)

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

    def _follow(self, snapshot: Snapshot) -> InForce:
        """The law in force in `snapshot`, which another process may have amended."""
        self._law = self._law.now_in(snapshot, self.ledger)
        return self._law

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
        scope = Scope(self.constitution.baseline)
        state = transaction.state(self.constitution.baseline, scope)
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

    def _decide(self, snapshot: Snapshot, command: Command, now: Moment) -> Decision:
        if isinstance(command, Act) and command.act == ANCHOR:
            command = anchoring(snapshot, self.origin, command)
        return self._law.decider.decide(self._state(snapshot, command), command, now)

    def _shown(self, snapshot: Snapshot, asked: Asked, now: Moment) -> Pending:
        command = Activate(principal=asked.principal, request=asked.id)
        return self._law.decider.show(self._state(snapshot, command), asked, now)

    def _state(self, snapshot: Snapshot, command: Command) -> State:
        return state_for(snapshot, command, self._law.decider.law, self._law.timed)

    def _held(self, principal: str) -> str:
        """The profile that `principal` holds now; "", above nothing, for who is unknown or locked.

        What is kept is a profile with the time over which it is certain, and only until anything
        is written anywhere; both hands of the clock are asked each time.
        """
        version, kept = self.ledger.version(), self._kept
        if kept.version != version or len(kept.held) > PROFILES_KEPT:
            with self.ledger.read() as snapshot:
                self._follow(snapshot)
            kept.version, kept.held = version, {}
        found = kept.held.get(principal)
        if found is not None and found.holds(self.clock.read()):
            return found.profile
        law = self._law
        if not law.people.knows(principal):
            return ""
        baseline = law.constitution.baseline
        with self.ledger.read() as snapshot:
            stack, locks = snapshot.stack(principal, baseline), snapshot.locks.standing()
        now = self.clock.read()  # after what it is compared with: reading may have had to wait
        covers = (one for one in locks if law.decider.law.covers(one, principal, baseline))
        if any(one.stands(now) for one in covers):
            return ""  # not kept: it may be over any time
        if (certain := stack.certain(now)) is not None:
            kept.held[principal] = certain
        return stack.profile(now)

    def _standing(self, snapshot: Snapshot, principal: str, now: Moment) -> Standing:
        stack = snapshot.stack(principal, self.constitution.baseline)
        return Standing(principal, stack.profile(now), stack.standing(now), now, stack.watermark)

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
