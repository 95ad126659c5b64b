"""Decide a command. Pure: the same constitution, state, command and moment give the same answer.

Law 4: settle first. Whatever of a principal is overdue ends before their command is looked at, in
deadline order, so the receipts read the same whether the scheduler came before the command, after
it, or not at all.

Law 7: all unmet requirements are reported, to whoever is proven to ask. Law 8: a denial is a value,
an entry like any other.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vmstate.clock import Moment
from vmstate.constitution.law import Constitution
from vmstate.constitution.people import People
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.acting import act, create_budget, debit, drill_mode, mode_entry
from vmstate.decisions.amending import amend
from vmstate.decisions.asking import open_request
from vmstate.decisions.calling import call, tally
from vmstate.decisions.climb import climb
from vmstate.decisions.closing import activate, deny_request, withdraw
from vmstate.decisions.command import (
    Act,
    Activate,
    Amend,
    Call,
    Command,
    CreateBudget,
    Debit,
    DenyRequest,
    DrillMode,
    Escalate,
    HandIn,
    LiftLock,
    OpenRequest,
    Push,
    Recover,
    Release,
    Renew,
    SetLock,
    Tally,
    Withdraw,
)
from vmstate.decisions.decision import Decision, Entry, State
from vmstate.decisions.ending import release
from vmstate.decisions.evidence import hear_caller, hear_order, hear_signer, is_signed
from vmstate.decisions.following import state_after, with_kin
from vmstate.decisions.handing_in import hand_in
from vmstate.decisions.law import Law
from vmstate.decisions.locking import lift_lock, lock_ends, set_lock
from vmstate.decisions.pending import Asked
from vmstate.decisions.pushing import push
from vmstate.decisions.recovering import recover
from vmstate.decisions.refusing import for_stranger
from vmstate.decisions.renewal import renew
from vmstate.decisions.settling import SETTLE, clock_entries, overdue_requests, owed, spent
from vmstate.decisions.showing import Pending, show
from vmstate.signing import Signed

_Answer = Callable[[Law, State, Any, Moment], tuple[Entry, ...]]


class Decider:
    """The constitution, the people and the ledger's origin, asked about one case at a time."""

    def __init__(
        self, constitution: Constitution, *, origin: str, people: People | None = None
    ) -> None:
        people = people or constitution.people
        self.law = Law(constitution, origin, people, constitution.machine())

    def settle(self, state: State, now: Moment, via: str) -> tuple[Entry, ...]:
        """What `now` has brought about without anybody asking, in the order of its receipts.

        `via` goes into the receipts as `ended_via`: who came to write them.
        """
        entries = list(self.opening(state, now))
        for entry in entries:
            state = state_after(state, entry, now)
        mine = (one for one in state.waiting if one.principal == state.principal)
        lapses = overdue_requests(mine, state.stack, self.law.constitution.digest, now)
        return (*entries, *owed(state.stack.overdue(now), lapses, now, via))

    def opening(self, state: State, now: Moment) -> tuple[Entry, ...]:
        """What has to be written first: about the clock, and locks or a drill that are over."""
        entries = (*clock_entries(state, now), *lock_ends(state, now))
        drill = state.drill
        if drill is None or drill.until is None or drill.off or drill.is_on(now):
            return entries
        return (*entries, mode_entry(self.law, state, now, "its time was up"))

    def show(self, state: State, asked: Asked, now: Moment) -> Pending:
        """An open request as those who are to sign it see it; nothing is written."""
        for entry in self.settle(state, now, SETTLE):
            state = state_after(state, entry, now)
        return show(self.law, with_kin(state, now), asked, now)

    def decide(self, state: State, command: Command, now: Moment) -> Decision:
        """Settle, then judge `command`, then end the lease that it used up, if it did."""
        entries = list(self.settle(state, now, SETTLE))
        for entry in entries:
            state = state_after(state, entry, now)
        state = with_kin(state, now)
        command = self._proven(state, command, now)
        answers = _ANSWERS[type(command)](self.law, state, command, now)
        granted = answers[-1].outcome != "denied"
        if granted and command.proof == "none":
            raise RuntimeError(f"{command.verb} was granted to somebody whom nothing proves")
        if granted and command.order is not None:
            answers = _by_order(answers, command.order)
        unproven = command.proof == "none" and command.caller is not None
        if not granted and unproven:
            answers = (*answers[:-1], for_stranger(command, answers[-1]))
        for entry in answers:
            state = state_after(state, entry, now)
        return Decision((*entries, *answers, *spent(state, now)), answers[-1], now)

    def _proven(self, state: State, command: Command, now: Moment) -> Command:
        """The command with what proves who asks: a signature, or the caller's account or token.

        A good signature proves its signer and says nothing of who carries it: an order, or what is
        handed in. A bad one is its carrier's own doing, so they are named, as for a name that
        nobody signed for. What does not prove it is taken away, and why it does not is reported as
        unmet; so is what the command says of itself.
        """
        people, caller = self.law.people, command.caller
        known: dict[str, object] = {"order": None, "proven": "host"}
        faults: list[Unmet | None] = []
        if isinstance(command, HandIn | Push):
            if is_signed(command, people):
                return command.model_copy(update={**known, "proven": "key"})
            # Without a caller there is nobody else to name, and its judge says what is wrong.
            faults.append(None if caller is None else hear_signer(command.statement, people))
        elif command.order is not None:
            at = self.law.setting(state, now, command.asked_by)
            faults.append(hear_order(command.order, command, at))
            if faults == [None]:
                return command
        if caller is not None:
            stranger = hear_caller(caller, command.asked_by, people)
            known["proven"] = caller.proof if stranger is None else "none"
            faults.append(stranger)
        elif not (self._trusts_host(state) or isinstance(command, HandIn | Push)):
            known["proven"] = "none"
            faults = faults or [_untrusted(command.asked_by)]
        known["claims"] = (*command.claims, *(one for one in faults if one is not None))
        return command.model_copy(update=known)

    def _trusts_host(self, state: State) -> bool:
        return self.law.document.callers.host or state.drill is not None


def _untrusted(actor: str) -> Unmet:
    remedy = "sign it (--key FILE), or ask through vmstate serve"
    required = "a signature, an account or a token"
    return Unmet("callers.host", "not_proven", required, actor, remedy)


def _by_order(answers: tuple[Entry, ...], order: Signed) -> tuple[Entry, ...]:
    """The answers with the order that proved who asked: each holds it, and it counts once."""
    held = [
        replace(one, grounds=replace(one.grounds, approvals=(*one.grounds.approvals, order)))
        for one in answers
    ]
    spends = (*held[0].spends, order.statement.id)
    return (replace(held[0], spends=spends), *held[1:])


def _one(judge: Callable[[Law, State, Any, Moment], Entry]) -> _Answer:
    """A judge whose answer is always one receipt."""
    return lambda law, state, command, now: (judge(law, state, command, now),)


# Who judges which command; each answers with the receipts to be, the answer proper last.
_ANSWERS: Mapping[type, _Answer] = {
    Escalate: climb,
    Renew: _one(renew),
    OpenRequest: open_request,
    HandIn: _one(hand_in),
    Push: _one(push),
    DenyRequest: _one(deny_request),
    Withdraw: _one(withdraw),
    Activate: activate,
    Release: release,
    Recover: _one(recover),
    Amend: _one(amend),
    SetLock: _one(set_lock),
    LiftLock: _one(lift_lock),
    Act: _one(act),
    Call: _one(call),
    Tally: _one(tally),
    CreateBudget: _one(create_budget),
    Debit: _one(debit),
    DrillMode: _one(drill_mode),
}
