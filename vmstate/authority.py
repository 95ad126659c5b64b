"""Settle, decide, record, in one transaction. Every door leads here.

Law 2: no change without its receipt. Law 6: escalation fails closed; where nothing can be written
nothing is granted, and `LedgerUnavailable` is raised instead of a receipt. Return never waits:
what is over is over when it is read, whatever was written.

The path of a command: `submit` → `Ledger.transact` → settle → `Decider.decide` → receipts → commit
→ listeners. The path of an expiry is the same with no command in it: `settle`.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

from vmstate import canonical
from vmstate.clock import Clock, Moment, SystemClock
from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import load_constitution
from vmstate.decisions.command import (
    Act,
    Command,
    CreateBudget,
    Debit,
    DrillMode,
    Escalate,
    Recover,
    Release,
    Renew,
    make_command,
)
from vmstate.decisions.decider import SETTLE, Decider, expiry, in_due_order
from vmstate.decisions.decision import Decision
from vmstate.decisions.route import Explanation, shortest_route
from vmstate.decisions.statements import (
    budgets_of,
    prepare_recovery,
    prepare_request,
    sign_ending,
    statement_ids,
)
from vmstate.errors import InputError, LedgerMismatch, UnknownPrincipal
from vmstate.keys import Signer
from vmstate.leases.lease import LeaseStack, Overdue
from vmstate.leases.standing import Standing
from vmstate.ledger.checkpoint import Checkpoint
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.snapshot import Due, Scope, Snapshot
from vmstate.ledger.store import BUSY_MS, Ledger
from vmstate.ledger.transaction import DrillMark, Transaction
from vmstate.signing import Request, Signed

log = logging.getLogger("vmstate")

ANCHOR = "guardian.anchor"
PATIENCE = timedelta(milliseconds=BUSY_MS)
ENDED_AT_ONCE = 50_000  # by a clock step; a transaction of half a minute, once in a blue moon
STACKS_KEPT = 10_000  # for each thread; a stack is about a kilobyte

Listener = Callable[[Receipt], None]


class _Kept(threading.local):
    """What a thread has read of stacks, at which version of the ledger."""

    def __init__(self) -> None:
        self.version = -1
        self.stacks: dict[str, LeaseStack] = {}


class Authority:
    """A constitution, a ledger and a clock. Safe to share between threads."""

    def __init__(
        self, constitution: Constitution, ledger: Ledger, *, clock: Clock | None = None
    ) -> None:
        with ledger.read() as snapshot:
            in_force = snapshot.constitution()[0]
        if in_force != constitution.digest:
            raise LedgerMismatch(
                f"{ledger.path} is under the constitution {in_force}, not {constitution.digest}: "
                "open it with its own, or run vmstate init again if it was never used"
            )
        people = constitution.people
        if ledger.drill is not None and constitution.document.drill is not None:
            stand_ins = constitution.document.drill.stand_ins
            people = people.with_stand_ins(stand_ins, ledger.drill.stand_ins)
        self.constitution = constitution
        self.ledger = ledger
        self.clock: Clock = clock or SystemClock()
        self._decider = Decider(constitution, origin=ledger.origin, people=people)
        self._people = people
        document = constitution.document
        self._timed = tuple(sorted({*document.cooldown, *document.holds}))
        self._listeners: list[Listener] = []
        self._kept = _Kept()

    @classmethod
    def open(
        cls, constitution: Path | str, ledger: Path | str, *, clock: Clock | None = None
    ) -> Self:
        """Open a ledger that exists, under the constitution in a file. Costs the same however
        much the ledger holds, and writes nothing.

        Raises:
            ConstitutionError: the constitution does not load.
            LedgerNotFound, LedgerMismatch, LedgerUnavailable: see `Ledger.open`.
        """
        law = load_constitution(Path(constitution))
        return cls(law, Ledger.open(Path(ledger)), clock=clock)

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
        """Decide `command` and record the decision; both happen, or neither.

        Returns the receipt that answers it; `Receipt.raise_for_denial` turns a denial into an
        exception for whoever wants one.

        Raises:
            LedgerUnavailable: nothing could be written, so nothing was decided.
        """

        def work(transaction: Transaction) -> tuple[Receipt, ...]:
            now = self.clock.read()
            stepped = self._say_first(transaction, now, SETTLE)
            decision = self._decide(transaction, command, now)
            written = [transaction.append(entry, now) for entry in decision.entries]
            written = [*stepped, *written]
            if not isinstance(command, DrillMode) or command.on:
                return tuple(written)
            # The end of a drill ends everything in it, in the same transaction.
            ends = self._settle(transaction, now, SETTLE, self._everybody(transaction))
            return (*written[:-1], *ends, written[-1])

        receipts = self.ledger.transact(work)
        self._announce(sorted(receipts, key=lambda receipt: receipt.seq))
        return receipts[-1]

    def escalate(self, principal: str, to: str, *, trigger: str, **fields: Any) -> Receipt:
        """Ask for the profile `to`.

        `fields` are those of `Escalate`: `reason`, `facts` (text, whole numbers or Decimals; a
        float has no exact spelling), `ttl`, `request`, `approvals`, `attestations`,
        `renew_parent`. Raises InputError if one of them has no form, and as `submit` does.
        """
        asked = {"principal": principal, "to": to, "trigger": trigger, **fields}
        return self.submit(make_command(Escalate, asked))

    def renew(self, principal: str, lease: str, **fields: Any) -> Receipt:
        """Ask for a later deadline on the topmost lease; its rule decides again."""
        return self.submit(make_command(Renew, {"principal": principal, "lease": lease, **fields}))

    def release(
        self, principal: str, lease: str, *, ending: str = "operator_release", reason: str = ""
    ) -> Receipt:
        """Give one's own lease back, by an ending that its holder may use."""
        asked = {"principal": principal, "lease": lease, "ending": ending, "reason": reason}
        return self.submit(make_command(Release, asked))

    def revoke(
        self,
        actor: str,
        lease: str,
        *,
        key: Signer,
        ending: str = "sovereign_revoke",
        reason: str = "",
        nonce: str | None = None,
    ) -> Receipt:
        """End anybody's lease, as `actor`, who proves it with `key`."""
        proof = sign_ending(
            self.constitution,
            self.ledger.origin,
            self.clock.read().wall,
            actor,
            lease,
            key=key,
            ending=ending,
            reason=reason,
            nonce=nonce,
        )
        asked = {"principal": actor, "lease": lease, "ending": ending, "reason": reason}
        return self.submit(make_command(Release, {**asked, "proof": proof}))

    def act(self, principal: str, name: str, **fields: Any) -> Receipt:
        """Do what `[acts]` names, on the record. `fields` are `arguments` (texts) and `reason`.

        In a drill some acts only pretend; the receipt's `what.result` says so.

        Raises:
            InputError: the act is a read, which leaves no receipt: ask `may`.
        """
        return self.submit(make_command(Act, {"principal": principal, "act": name, **fields}))

    def anchor(self, principal: str, *, reason: str = "") -> Receipt:
        """Put every scroll's root and the checkpoint's digest on the record, by `guardian.anchor`.

        The digest is that of the checkpoint's unsigned body, which anybody can work out again.
        """
        return self.act(principal, ANCHOR, reason=reason)

    def create_budget(
        self, principal: str, budget: str, *, name: str, allocated: int, unit: str
    ) -> Receipt:
        """Allocate whole units to a budget with an id that is free."""
        asked = {"principal": principal, "budget": budget, "name": name}
        return self.submit(
            make_command(CreateBudget, {**asked, "allocated": allocated, "unit": unit})
        )

    def debit(self, principal: str, budget: str, amount: int, *, reason: str = "") -> Receipt:
        """Spend whole units from a budget; more than its balance is refused."""
        asked = {"principal": principal, "budget": budget, "amount": amount, "reason": reason}
        return self.submit(make_command(Debit, asked))

    def drill_mode(self, *, on: bool, set_by: str) -> Receipt:
        """Switch the mode of a drill's ledger; off ends everything in it. Refused in a live one."""
        drill = self.constitution.document.drill
        if drill is None:
            raise InputError("the constitution has no [drill] table: add one to run drills")
        asked = {"principal": drill.principal, "on": on, "set_by": set_by}
        return self.submit(make_command(DrillMode, asked))

    def prepare(
        self,
        principal: str,
        to: str,
        *,
        trigger: str,
        reason: str = "",
        facts: Mapping[str, str] | None = None,
        ttl: timedelta | None = None,
        nonce: str | None = None,
    ) -> Request:
        """Write down what is to be asked, so that others can sign exactly that.

        Raises:
            InputError: a fact that can't be read, or a field without form.
        """
        return prepare_request(
            self.constitution,
            self.ledger.origin,
            principal,
            to,
            trigger=trigger,
            reason=reason,
            facts=facts or {},
            ttl=ttl,
            nonce=nonce,
        )

    def prepare_recovery(self, principal: str, *, reason: str = "") -> Request:
        """Write down that the clock is to be declared right, for those who must approve it."""
        origin = self.ledger.origin
        return prepare_recovery(self.constitution, origin, principal, reason=reason)

    def recover(
        self, principal: str, *, request: Request, approvals: Iterable[Signed], reason: str = ""
    ) -> Receipt:
        """Declare on the record that the clock is right, with the approvals that this takes."""
        asked = {"principal": principal, "reason": reason, "request": request}
        return self.submit(make_command(Recover, {**asked, "approvals": tuple(approvals)}))

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
        was due by then; `patience` is how long other writers are waited for.
        """
        names = tuple(dict.fromkeys(principals))

        def work(transaction: Transaction) -> tuple[Receipt, ...]:
            now = self.clock.read()
            opening = self._say_first(transaction, now, via)
            return (*opening, *self._settle(transaction, now, via, names, until))

        patience_ms = int(patience / timedelta(milliseconds=1))
        receipts = self.ledger.transact(work, patience_ms=patience_ms) if names else ()
        self._announce(receipts)
        return receipts

    def due(self, *, limit: int) -> tuple[Due, ...]:
        """Leases that are over and not yet recorded as ended, the first deadline first."""
        with self.ledger.read() as snapshot:
            return snapshot.due(self.clock.read(), limit)

    def next_deadline(self) -> datetime | None:
        """When the next open lease that is not over yet will be, on the wall as it reads now."""
        with self.ledger.read() as snapshot:
            return snapshot.next_deadline(self.clock.read())

    # ---- reading: writes nothing ------------------------------------------------------------

    def may(self, principal: str, what: str) -> bool:
        """Whether `principal` may now do what the profile or act `what` takes.

        An unknown name of either kind may nothing. Decided from the deadlines, on each call.
        """
        document = self.constitution.document
        needed = what if what in document.profiles else None
        if needed is None and what in document.acts:
            needed = document.acts[what].profile
        if needed is None or not self._people.knows(principal):
            return False
        held = self._stack(principal).profile(self.clock.read())
        return self.constitution.includes(held, needed)

    def standing(self, principal: str) -> Standing:
        """Where `principal` stands now.

        Raises:
            UnknownPrincipal: nobody by that name is in any group or under [principals].
        """
        canonical.check_name(principal)
        if not self._people.knows(principal):
            raise UnknownPrincipal(self._decider.law.unknown_principal(principal).message)
        with self.ledger.read() as snapshot:
            return self._standing(snapshot, principal, self.clock.read())

    def status(self) -> tuple[Standing, ...]:
        """Everybody who stands above the baseline now, in the order of their oldest lease."""
        with self.ledger.read() as snapshot:
            now = self.clock.read()
            names = self._everybody(snapshot)
            everybody = [self._standing(snapshot, name, now) for name in names]
        return tuple(one for one in everybody if one.leases)

    def why(self, command: Command) -> Explanation:
        """What `command` would come to, decided the same way and not written."""
        with self.ledger.read() as snapshot:
            now = self.clock.read()
            decision = self._decide(snapshot, command, now)
            held = snapshot.stack(command.principal, self.constitution.baseline).profile(now)
        to = command.to if isinstance(command, Escalate) else held
        route = (
            shortest_route(self._decider.law, command.principal, held, to)
            if to in self.constitution.document.profiles
            else ()
        )
        return Explanation(held, decision.answer, route)

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

    def _say_first(self, transaction: Transaction, now: Moment, via: str) -> tuple[Receipt, ...]:
        """Write what decides which leases are over: about the clock, or a drill that is.

        A clock stepped within a boot ends whatever is over at once, whoever holds it: after a
        reboot the only hand left would be the one that was stepped (law 11). What a reboot lost
        sight of stays lost by its mark.
        """
        scope = Scope(self.constitution.baseline)
        state = transaction.state(self.constitution.baseline, scope)
        said = tuple(transaction.append(e, now) for e in self._decider.opening(state, now))
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
        overdue: list[Overdue] = []
        for name in names:
            found = transaction.stack(name, self.constitution.baseline).overdue(now)
            overdue += [one for one in found if until is None or one.due <= until]
        ends = (expiry(one, now, via) for one in in_due_order(overdue))
        return tuple(transaction.append(entry, now) for entry in ends)

    def _everybody(self, snapshot: Snapshot) -> tuple[str, ...]:
        return tuple(dict.fromkeys(lease.principal for lease in snapshot.open_leases()))

    def _decide(self, snapshot: Snapshot, command: Command, now: Moment) -> Decision:
        principal = command.principal
        if isinstance(command, Release):
            lease = snapshot.lease(command.lease)
            principal = lease.principal if lease is not None else principal
        scope = Scope(self.constitution.baseline, self._people.family(principal), self._timed)
        if isinstance(command, Act) and command.act == ANCHOR:
            command = self._anchoring(snapshot, command)
        ids, budgets = statement_ids(command), budgets_of(command, self.constitution)
        state = snapshot.state(principal, scope, ids, budgets)
        return self._decider.decide(state, command, now)

    def _anchoring(self, snapshot: Snapshot, command: Act) -> Act:
        """An anchor holds what the ledger says at its own place, whatever its caller would say."""
        if command.arguments or command.proofs:
            raise InputError(f"{ANCHOR} takes no arguments: it says what the ledger says")
        head = snapshot.head()
        body = Checkpoint.of(self.ledger.origin, head.tree).text().encode()
        roots = {scroll: root for scroll, (_, root) in snapshot.scrolls().items()}
        arguments = {"size": str(head.tree.size), **roots}
        proofs = {"checkpoint": canonical.digest(body)}
        return command.model_copy(update={"arguments": arguments, "proofs": proofs})

    def _stack(self, principal: str) -> LeaseStack:
        """The open leases of `principal`, read again once anything was written anywhere.

        What is kept are leases with their deadlines, never an answer: time is asked each time.
        """
        version = self.ledger.version()
        kept = self._kept
        if kept.version != version or len(kept.stacks) > STACKS_KEPT:
            kept.version, kept.stacks = version, {}
        stack = kept.stacks.get(principal)
        if stack is None:
            with self.ledger.read() as snapshot:
                stack = snapshot.stack(principal, self.constitution.baseline)
            kept.stacks[principal] = stack
        return stack

    def _standing(self, snapshot: Snapshot, principal: str, now: Moment) -> Standing:
        stack = snapshot.stack(principal, self.constitution.baseline)
        return Standing(principal, stack.profile(now), stack.standing(now), now, stack.watermark)

    def _announce(self, receipts: Iterable[Receipt]) -> None:
        for receipt in receipts:
            for listener in tuple(self._listeners):
                try:
                    listener(receipt)
                except Exception:
                    log.exception("a listener failed on receipt %s", receipt.seq)
