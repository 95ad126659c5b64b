"""What a ledger and its law answer to whoever asks; nothing here writes.

What is over is over when it is read, whatever was written. The law is the ledger's: an amendment,
by whichever process, is followed by the next question.
"""

import threading
from dataclasses import replace
from datetime import datetime
from shlex import quote

from vmstate import canonical
from vmstate.clock import Clock, Moment, SystemClock
from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import read_constitution
from vmstate.decisions.amending import Amendment
from vmstate.decisions.command import Activate, Command, Escalate
from vmstate.decisions.decision import Decision, State
from vmstate.decisions.pending import Asked
from vmstate.decisions.pushing import Attested, attested_for, attested_now
from vmstate.decisions.route import Explanation, shortest_route
from vmstate.decisions.showing import Pending
from vmstate.door import Door, check_request_id
from vmstate.errors import LedgerMismatch, UnknownPrincipal
from vmstate.leases.lease import Certain, Lease
from vmstate.leases.lock import Lock
from vmstate.leases.standing import Standing
from vmstate.leases.watermark import SetBack
from vmstate.ledger.bearing import find_request, state_for
from vmstate.ledger.checkpoint import Heads
from vmstate.ledger.in_force import InForce
from vmstate.ledger.outbox import Backlog, Outbox
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.snapshot import Due, Snapshot
from vmstate.ledger.store import Ledger
from vmstate.ledger.sweep import everybody, foresee
from vmstate.treasury.budget import Budget

PROFILES_KEPT = 250_000  # for each thread; one takes about 200 bytes


class _Kept(threading.local):
    """What a thread has read of who holds what, at which version of the ledger."""

    def __init__(self) -> None:
        self.version = -1
        self.held: dict[str, Certain] = {}


class Reading(Door):
    """The half of an authority that only reads: who holds what, why, and what was written."""

    def __init__(self, constitution: Constitution, ledger: Ledger, clock: Clock | None) -> None:
        with ledger.read() as snapshot:
            in_force = snapshot.in_force()
        if in_force != constitution.digest:
            raise LedgerMismatch(
                f"{ledger.path} is under the constitution {in_force}, not {constitution.digest}: "
                "have it amended (vmstate amend), or open it under its own, which vmstate "
                f"--ledger {quote(str(ledger.path))} constitution show prints"
            )
        self.ledger = ledger
        self.clock: Clock = clock or SystemClock()
        self._law = InForce.of(constitution, self.ledger)
        self._kept = _Kept()

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

    def set_back(self) -> SetBack | None:
        with self.ledger.read() as snapshot:
            return snapshot.watermark().set_back(self.clock.read())

    def due(self, *, limit: int) -> tuple[Due, ...]:
        with self.ledger.read() as snapshot:
            return snapshot.due(self.clock.read(), limit)

    def next_deadline(self) -> datetime | None:
        """When the next open lease that is not over yet will be, on the wall as it reads now."""
        with self.ledger.read() as snapshot:
            return snapshot.next_deadline(self.clock.read())

    def may(self, principal: str, what: str) -> bool:
        held = self._held(principal)  # first: reading it is what finds an amended law
        return self._law.constitution.admits(held, what)

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
            state = self._state(snapshot, command)
            attested = attested_for(law.decider.law, state, answer, now)
            held = snapshot.stack(command.principal, self.constitution.baseline).profile(now)
        to = command.to if isinstance(command, Escalate) else held
        route = (
            shortest_route(law.decider.law, command.principal, held, to)
            if to in law.constitution.document.profiles
            else ()
        )
        return Explanation.of(answer, held, route, now.wall, attested=attested)

    def foresee_amendment(self, toml: bytes) -> Amendment:
        new = InForce.of(read_constitution(toml, name="the new constitution"), self.ledger)
        with self.ledger.read() as snapshot:
            law, now = self._follow(snapshot), self.clock.read()
            found = foresee(snapshot, law.decider.law, new.decider.law, now)
            asked = snapshot.requests.every(open_only=True)
            waiting = sum(self._shown(snapshot, one, now).is_open for one in asked)
            return Amendment.of(law.constitution, new.constitution, found, requests=waiting)

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

    def attested(self, principal: str | None = None) -> tuple[Attested, ...]:
        with self.ledger.read() as snapshot:
            law, now = self._follow(snapshot).decider.law, self.clock.read()
            table = snapshot.pushed
            pushed = table.every() if principal is None else table.about(principal)
            used = snapshot.used(one.statement.id for one in pushed)
            state = replace(snapshot.time(law.constitution.baseline), used=used)
            return tuple(attested_now(law, state, pushed, now))

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

    # ---- inside -----------------------------------------------------------------------------

    def _follow(self, snapshot: Snapshot) -> InForce:
        """The law in force in `snapshot`, which another process may have amended."""
        self._law = self._law.now_in(snapshot, self.ledger)
        return self._law

    def _decide(self, snapshot: Snapshot, command: Command, now: Moment) -> Decision:
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
        if kept.version != version:
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
            if len(kept.held) >= PROFILES_KEPT:
                kept.held.clear()
            kept.held[principal] = certain
        return stack.profile(now)

    def _standing(self, snapshot: Snapshot, principal: str, now: Moment) -> Standing:
        stack = snapshot.stack(principal, self.constitution.baseline)
        return Standing(principal, stack.profile(now), stack.standing(now), now, stack.watermark)
