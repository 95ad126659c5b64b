"""Decide a command. Pure: the same constitution, state, command and moment give the same answer.

Law 4: settle first. Whatever of a principal is overdue ends before their command is looked at, in
deadline order, so the receipts read the same whether the scheduler came before the command, after
it, or not at all.

Law 7: all unmet requirements are reported. Law 8: a denial is a value, an entry like any other.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from vmstate.canonical import Json, format_at
from vmstate.clock import Moment, duration_us
from vmstate.constitution.document import HOLDER
from vmstate.constitution.guards import ApprovalGuard, Case
from vmstate.constitution.law import Constitution
from vmstate.constitution.people import People
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.acting import act, create_budget, debit, drill_mode, mode_entry
from vmstate.decisions.amending import amend
from vmstate.decisions.asking import activate, deny_request, hand_in, lapse, open_request, withdraw
from vmstate.decisions.calling import call, tally
from vmstate.decisions.climb import climb
from vmstate.decisions.command import (
    CLOCK_RECOVERY,
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
    Recover,
    Release,
    Renew,
    SetLock,
    Tally,
    Withdraw,
)
from vmstate.decisions.decision import Decision, Entry, Grounds, State
from vmstate.decisions.evidence import Setting, hear_approvals, hear_caller, hear_order, used_ids
from vmstate.decisions.law import (
    Law,
    personal_locks,
    proof_faults,
    request_faults,
    seated_approvals,
)
from vmstate.decisions.locking import lift_lock, lock_ends, set_lock
from vmstate.decisions.pending import Asked, Lapse, lapse_of
from vmstate.decisions.refusing import denial
from vmstate.decisions.renewal import renew
from vmstate.decisions.showing import Pending, show
from vmstate.leases.lease import EXPIRED, IDLE, PARENT_ENDED, USES_SPENT, Lease, LeaseStack, Overdue
from vmstate.signing import Signed

_Answer = Callable[[Law, State, Any, Moment], tuple[Entry, ...]]

SCHEDULER, SETTLE, START_UP = "scheduler", "settle", "start_up"


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
        return show(self.law, state, asked, now)

    def decide(self, state: State, command: Command, now: Moment) -> Decision:
        """Settle, then judge `command`, then end the lease that it used up, if it did."""
        entries = list(self.settle(state, now, SETTLE))
        for entry in entries:
            state = state_after(state, entry, now)
        command = self._proven(state, command, now)
        answers = _ANSWERS[type(command)](self.law, state, command, now)
        granted = answers[-1].outcome != "denied"
        if granted and command.proof == "none" and not isinstance(command, HandIn):
            raise RuntimeError(f"{command.verb} was granted to somebody whom nothing proves")
        if granted and command.order is not None:
            answers = _by_order(answers, command.order)
        for entry in answers:
            state = state_after(state, entry, now)
        return Decision((*entries, *answers, *spent(state, now)), answers[-1], now)

    def _proven(self, state: State, command: Command, now: Moment) -> Command:
        """The command with what proves who asks: its order, or the caller's account or token.

        What does not prove it is taken away, and why it does not is reported as unmet. A statement
        that is handed in proves its signer by itself, whoever carries it.
        """
        if isinstance(command, HandIn):
            return command.model_copy(update={"order": None})
        if command.order is None and command.caller is None:
            return command
        fault: Unmet | None = None
        if command.order is not None:
            at = self.law.setting(state, now, command.asked_by)
            fault = hear_order(command.order, command, at)
            if fault is None:
                return command
        known: dict[str, object] = {"order": None}
        if command.caller is not None:
            stranger = hear_caller(command.caller, command.asked_by, self.law.people)
            known["proven"] = "none" if stranger is not None else command.caller.proof
            fault = fault or stranger
        if fault is not None:
            known["claims"] = (*command.claims, fault)
        return command.model_copy(update=known)


def _by_order(answers: tuple[Entry, ...], order: Signed) -> tuple[Entry, ...]:
    """The answers with the order that proved who asked: each holds it, and it counts once."""
    held = [
        replace(one, grounds=replace(one.grounds, approvals=(*one.grounds.approvals, order)))
        for one in answers
    ]
    spends = (*held[0].spends, order.statement.id)
    return (replace(held[0], spends=spends), *held[1:])


def clock_entries(state: State, now: Moment) -> tuple[Entry, ...]:
    """What has to be said about the clock before anything else is written at `now`."""
    mark = state.watermark
    step = mark.step_us(now)
    if step is None or mark.newest is None:
        return ()
    grounds = Grounds("recovery")
    if not mark.is_behind(now):
        stepped: dict[str, Json] = {"kind": "step", "step_us": step}
        return (Entry("clock_anomaly", "recorded", grounds, detail=stepped),)
    newest = format_at(mark.newest.wall)
    after = mark.after_regression(now, state.next_seq)
    until = format_at(after.held_until) if after.held_until is not None else None
    detail: dict[str, Json] = {"kind": "regression", "step_us": step, "newest": newest}
    detail["held_until"] = until
    return (Entry("clock_anomaly", "recorded", grounds, detail=detail, watermark=after),)


def owed(
    leases: Iterable[Overdue], requests: Iterable[Lapse], now: Moment, via: str
) -> tuple[Entry, ...]:
    """What time has ended, the first deadline first; at one instant what began last, so that the
    top of a stack comes before what it stands on.
    """
    ends = [((one.due, -one.lease.seq), expiry(one, now, via)) for one in leases]
    ends += [((one.due, -one.asked.seq), lapse(one, now, via)) for one in requests]
    return tuple(entry for _, entry in sorted(ends, key=lambda end: end[0]))


def overdue_requests(
    waiting: Iterable[Asked], stack: LeaseStack, constitution: str, now: Moment
) -> Iterator[Lapse]:
    """Those of `waiting` that are over at `now`; see `lapse_of`."""
    found = (lapse_of(one, stack, constitution, now) for one in waiting)
    return (one for one in found if one is not None)


def expiry(overdue: Overdue, now: Moment, via: str) -> Entry:
    """The end of a lease that time ended: no command, no actor."""
    lease = overdue.lease
    by_wall = lease.deadline.wall <= now.wall
    paths = {EXPIRED: f"endings.{EXPIRED}", IDLE: f"escalations.{lease.rule}.idle_ttl"}
    # The end in effect is the deadline. A lease lost to a clock has none that could be trusted.
    ended = overdue.end or now
    hand: dict[str, Json] = {
        "hand": "wall" if by_wall else "boot",
        "late_us": duration_us(overdue.late_for),
    }
    return Entry(
        "profile_deescalation",
        "expired",
        Grounds(paths.get(overdue.ending, "endings")),
        principal=lease.principal,
        due=overdue.due,
        lease=lease.id,
        parent=lease.parent,
        trigger=lease.trigger,
        ending=overdue.ending,
        from_profile=lease.profile,
        to_profile=overdue.below,
        expires_at=lease.expires_at,
        ended_via=via,
        detail=hand if overdue.ending in paths else None,
        ends=replace(lease, ended=ended, ending=overdue.ending),
    )


def spent(state: State, now: Moment) -> tuple[Entry, ...]:
    """The end of a lease that was used as often as it may be, and of what stands on it."""
    stack = state.stack
    used_up = next((lease for lease in stack.leases if lease.is_spent), None)
    if used_up is None:
        return ()
    entries = []
    for lease in reversed(stack.leases[stack.leases.index(used_up) :]):
        ending = USES_SPENT if lease == used_up else PARENT_ENDED
        entry = Entry(
            "profile_deescalation",
            "expired",
            Grounds(f"escalations.{used_up.rule}.max_uses"),
            principal=lease.principal,
            lease=lease.id,
            parent=lease.parent,
            trigger=lease.trigger,
            ending=ending,
            from_profile=lease.profile,
            to_profile=stack.below(lease),
            expires_at=lease.expires_at,
            ends=replace(lease, ended=now, ending=ending),
        )
        entries.append(entry)
    return tuple(entries)


def state_after(state: State, entry: Entry, now: Moment) -> State:
    """The state once `entry` is written."""
    mark = (entry.watermark or state.watermark).after_receipt(now)
    stack = replace(state.stack, watermark=mark).with_changed(*entry.touches)
    record = state.record
    if entry.ends is not None:
        stack = stack.after_end(entry.ends)
        record = _recorded(record, entry.ends)
    if entry.renews is not None:
        stack = replace(stack, leases=(*stack.leases[:-1], entry.renews))
        record = _recorded(record, entry.renews)
    if entry.opens is not None:
        stack = replace(stack, leases=(*stack.leases, entry.opens))
        record = (*record, entry.opens)
    drill = entry.drill or state.drill
    if drill is not None:
        stack = replace(stack, closes=drill.until)
    locks = state.locks
    if entry.lock is not None:
        others = tuple(one for one in locks if one.seq != entry.lock.seq)
        locks = (*others, entry.lock) if entry.lock.state == "locked" else others
    waiting, asked = state.waiting, state.asked
    if entry.asks is not None:
        still = tuple(one for one in waiting if one.seq != entry.asks.seq)
        waiting = (*still, entry.asks) if entry.asks.is_open else still
        same = asked is not None and asked.seq == entry.asks.seq
        asked = entry.asks if same else asked
    budgets = state.budgets
    if entry.budget is not None:
        budgets = {**budgets, entry.budget.id: entry.budget}
    return replace(
        state,
        stack=stack,
        record=record,
        next_seq=state.next_seq + 1,
        drill=drill,
        budgets=budgets,
        locks=locks,
        waiting=waiting,
        asked=asked,
    )


def _recorded(record: tuple[Lease, ...], lease: Lease) -> tuple[Lease, ...]:
    return (*(other for other in record if other.seq != lease.seq), lease)


def _release(law: Law, state: State, command: Release, now: Moment) -> tuple[Entry, ...]:
    """End a lease, and with it what stands above it; or say why not.

    Somebody else's lease gives the same answer as one that does not exist, unless the caller has
    proven to be somebody who may end it.
    """
    actor, ending = command.asked_by, command.ending
    table = law.document.endings.get(ending)
    unmet: list[Unmet] = []
    if table is None or table.by is None:
        known = ", ".join(n for n, t in law.document.endings.items() if t.by is not None)
        remedy = f"name one of {known}"
        unmet.append(Unmet("endings", "ending_unknown", known, ending, remedy))
    if not law.people.knows(actor):
        unmet.append(law.unknown_principal(actor))
    unmet += command.claims
    lease = next((one for one in state.stack.leases if one.id == command.lease), None)
    by = table.by if table is not None and table.by is not None else ()
    groups = tuple(group for group in by if group != HOLDER)
    own = lease is not None and lease.principal == actor
    locked = [] if own else personal_locks(law, state, actor)
    unmet += locked
    admitted = command.is_proven and not locked and law.people.in_any(actor, groups)
    if lease is None or not (own or admitted):
        remedy = "name a live lease of your own; to end another's, vmstate revoke with a key"
        unmet.append(Unmet("endings", "unknown_lease", "a live lease", command.lease, remedy))
    elif by and not admitted and HOLDER not in by:
        remedy = f"have it signed by somebody in {', '.join(groups)}: --as NAME --key FILE"
        unmet.append(Unmet(f"endings.{ending}.by", "ending_not_admitted", ending, actor, remedy))
    if command.setup and state.drill is None:
        remedy = "release it as it is"
        unmet.append(Unmet("drill", "not_a_drill", "a drill's ledger", "set-up", remedy))
    if unmet or lease is None or table is None:
        return (denial(state, command, unmet, now, lease=command.lease),)
    grounds = Grounds(f"endings.{ending}")
    first = state.stack.leases[0] if table.to == "baseline" else lease
    lowest = state.stack.leases.index(first)
    entries = []
    for above in reversed(state.stack.leases[lowest:]):
        # A fall to the baseline names its ending on every rung; else what stood above just falls.
        named = above == lease or table.to == "baseline"
        entries.append(
            _ended(state, above, ending if named else PARENT_ENDED, command, grounds, now)
        )
    return tuple(entries)


def _ended(
    state: State, lease: Lease, ending: str, command: Release, grounds: Grounds, now: Moment
) -> Entry:
    return Entry(
        "profile_deescalation",
        "reverted",
        grounds,
        actor=command.asked_by,
        principal=lease.principal,
        proof=command.proof,
        why=command.reason,
        lease=lease.id,
        parent=lease.parent,
        trigger=lease.trigger,
        ending=ending,
        from_profile=lease.profile,
        to_profile=state.stack.below(lease),
        expires_at=lease.expires_at,
        setup=command.setup,
        ends=replace(lease, ended=now, ending=ending, unseated=command.setup),
    )


def _recover(law: Law, state: State, command: Recover, now: Moment) -> Entry:
    """Let grants go on although the clock reads earlier than the ledger, if approvals say so."""
    unmet = proof_faults(law, state, command)
    until = state.watermark.refuses_grants(now)
    if until is None:
        remedy = "nothing to do"
        given = format_at(now.wall)
        unmet.append(Unmet("recovery", "no_regression", "a clock in the past", given, remedy))
    table = law.document.recovery
    at: Setting = law.setting(state, now, command.principal)
    heard = hear_approvals(command.approvals, command.request, at)
    if table is None:
        remedy = "set the clock right, or wait"
        unmet.append(Unmet("recovery", "no_recovery", "[recovery]", "no such table", remedy))
    else:
        case = Case(
            command.principal, law.people, approvers=heard.approvers, rejected=heard.rejected
        )
        prepare = "vmstate recover --clock -o FILE"
        guard = ApprovalGuard("recovery.needs.approval", table.needs.approval, prepare)
        unmet += guard(case)
    if command.request is not None:
        wanted: dict[str, Json] = {
            "to": None,
            "trigger": CLOCK_RECOVERY,
            "facts": {},
            "ttl_us": None,
        }
        unmet += request_faults(command.request, command, wanted, at)
    if unmet or until is None or table is None:
        return denial(state, command, unmet, now)
    counted = seated_approvals(law, heard, table.needs.approval)
    return Entry(
        "recovery",
        "recorded",
        Grounds(
            "recovery",
            approvals=counted,
            request=command.request.id if command.request is not None else None,
        ),
        actor=command.asked_by,
        principal=command.principal,
        proof=command.proof,
        why=command.reason,
        trigger=CLOCK_RECOVERY,
        detail={"kind": "clock", "held_until": format_at(until), **_nonce(command)},
        spends=tuple(used_ids(counted, command.request)),
        watermark=state.watermark.after_recovery(now),
    )


def _nonce(command: Recover) -> dict[str, str]:
    return {"request_nonce": command.request.nonce} if command.request is not None else {}


def _one(judge: Callable[[Law, State, Any, Moment], Entry]) -> _Answer:
    """A judge whose answer is always one receipt."""
    return lambda law, state, command, now: (judge(law, state, command, now),)


# Who judges which command; each answers with the receipts to be, the answer proper last.
_ANSWERS: Mapping[type, _Answer] = {
    Escalate: climb,
    Renew: _one(renew),
    OpenRequest: open_request,
    HandIn: _one(hand_in),
    DenyRequest: _one(deny_request),
    Withdraw: _one(withdraw),
    Activate: activate,
    Release: _release,
    Recover: _one(_recover),
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
