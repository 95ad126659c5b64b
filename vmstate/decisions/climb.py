"""Deciding a climb or a renewal: who may, and until when it really lasts.

Law 5: a lease is cut to what is left of the lease below it and of the hold cap, on both hands of
the clock, and `clipped_by` says so. A renewal asks the same rule again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypedDict

from vmstate.canonical import Json, format_at
from vmstate.clock import Moment, duration_us
from vmstate.constitution.document import Escalation
from vmstate.constitution.facts import did_you_mean
from vmstate.constitution.guards import Case, Wait
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import Command, Escalate, Release, Renew
from vmstate.decisions.decision import Entry, Grounds, State
from vmstate.decisions.evidence import FactsHeard, Heard, hear_approvals, hear_facts, used_ids
from vmstate.decisions.law import (
    Law,
    clock_faults,
    lock_faults,
    request_faults,
    seated_approvals,
    standing_faults,
)
from vmstate.decisions.pending import Asked
from vmstate.leases.lease import Lease, LeaseStack, lease_id
from vmstate.leases.watermark import Watermark, later
from vmstate.treasury.budget import Budget, cost_line

NO_RULE = "escalations"


class _Charge(TypedDict, total=False):
    """The fields of an entry that a cost fills in."""

    cost: tuple[Json, ...]
    budget: Budget


@dataclass(frozen=True, slots=True)
class Hearing:
    """A command's evidence, and what is wrong with it whichever rule is asked."""

    case: Case
    facts: FactsHeard
    approvals: Heard
    unmet: tuple[Unmet, ...]


def climb(
    law: Law, state: State, command: Escalate, now: Moment, asked: Asked | None = None
) -> tuple[Entry, ...]:
    """One entry; two if the lease below is renewed in the same breath.

    `asked` is the open request that is activated: its rule answers, and no other.
    """
    before: tuple[Entry, ...] = ()
    unmet: list[Unmet] = []
    if command.renew_parent and state.stack.leases:
        renewal = _renew_parent(law, state, command, now)
        # A parent that lasts as long as it can already is no reason against the climb.
        unmet += [one for one in renewal.grounds.unmet if one.code != "renewal_gains_nothing"]
        if renewal.renews is not None:
            before = (renewal,)
            stack = state.stack.with_changed(*renewal.touches, renewal.renews)
            state = replace(state, stack=stack, next_seq=state.next_seq + 1)
    held = state.stack.profile(now)
    hearing = hear(law, state, command, now, asked)
    unmet += hearing.unmet
    rule, verdict_unmet = judge(law, held, command, hearing.case)
    unmet += verdict_unmet
    if rule is None or unmet:
        # What a denied climb would have renewed stays as it was: the renewal is not written.
        refused = denial(state, command, unmet, now, rule=rule, hearing=hearing.facts)
        return (_with_cost(law, state, refused, rule),)
    return (*before, _grant(law, state, command, rule, hearing, now))


def _renew_parent(law: Law, state: State, command: Escalate, now: Moment) -> Entry:
    """Renew what a climb stands on, with what can count for both.

    Facts on the requester's own word can. A signature counts once, and the climb's is the climb's:
    a rule that takes one is renewed by itself.
    """
    lease = state.stack.leases[-1]
    needs, declared = law.document.escalations[lease.rule].needs, law.document.facts
    asked = Renew(
        principal=command.principal,
        actor=command.actor,
        reason=command.reason,
        lease=lease.id,
        facts={
            name: text
            for name, text in command.facts.items()
            if name in needs.facts and name in declared and declared[name].attested_by is None
        },
    )
    attested = [name for name in needs.facts if declared[name].attested_by is not None]
    takes = (["approval"] if needs.approval else []) + [f"attestation of {n}" for n in attested]
    if not takes:
        return renew(law, state, asked, now)
    remedy = f"renew it by itself first: vmstate renew {lease.id}; then climb without it"
    path = f"escalations.{lease.rule}.needs"
    apart = Unmet(path, "renewed_apart", " and ".join(takes), lease.id, remedy)
    return denial(state, asked, [apart], now, rule=lease.rule, lease=lease.id)


def renew(law: Law, state: State, command: Renew, now: Moment) -> Entry:
    """Set a new deadline on the topmost lease, if its rule would grant it again."""
    stack = state.stack
    lease = next((one for one in stack.leases if one.id == command.lease), None)
    if lease is None:
        remedy = "name a live lease of your own: vmstate status"
        unknown = Unmet(NO_RULE, "unknown_lease", "a live lease", command.lease, remedy)
        unmet = [*standing_faults(law, state, command), unknown]
        return denial(state, command, unmet, now, lease=command.lease)
    table = law.document.escalations[lease.rule]
    wanted = {"to": lease.profile, "trigger": lease.trigger}
    hearing = _hear(law, state, command, now, wanted, pinned=lease)
    unmet = [*hearing.unmet, *_renewal_faults(stack, lease, table)]
    below = stack.below(lease)
    verdict = law.machine.attempt(below, lease.profile, lease.trigger, hearing.case)
    unmet += verdict.unmet
    if not verdict.granted and verdict.rule is None:
        remedy = "let the lease end: its rule is no longer in force"
        unmet.append(_no_path(below, lease.profile, lease.trigger, remedy))
    parent = stack.leases[-2] if len(stack.leases) > 1 else None
    wait = hearing.case.waits[lease.profile]
    parent_left = stack.longest(parent, now) if parent is not None else None
    length, clipped_by = _length(table, command.ttl, parent_left, wait)
    if length <= stack.longest(lease, now) and not unmet:
        until, then = format_at(lease.expires_at), format_at(now.wall + length)
        remedy = "renew what it stands on first, or later" if clipped_by else "renew it later"
        unmet.append(Unmet(NO_RULE, "renewal_gains_nothing", then, until, remedy))
    if unmet:
        refused = denial(
            state, command, unmet, now, rule=lease.rule, hearing=hearing.facts, lease=lease.id
        )
        return _with_cost(law, state, refused, lease.rule)
    limit, renewals = later(now, length), lease.renewals + 1
    longer = _bounded(replace(lease, limit=limit, renewals=renewals), table, now, length)
    entry = _backed(law, command, hearing, longer, lease.rule, clipped_by)
    return replace(
        entry,
        type="lease_renewed",
        from_profile=below,
        to_profile=lease.profile,
        renews=longer,
        touches=stack.alive_below(len(stack.leases) - 1, now),
        **_charge(table, state),
    )


def denial(
    state: State,
    command: Command,
    unmet: list[Unmet],
    now: Moment,
    *,
    rule: str | None = None,
    hearing: FactsHeard | None = None,
    lease: str | None = None,
) -> Entry:
    """A refusal: it names everything that was missing and changes nothing."""
    grounds = Grounds(
        rule or (unmet[0].rule if unmet else NO_RULE),
        facts=hearing.stated if hearing else {},
        unmet=tuple(dict.fromkeys(unmet)),
    )
    ttl = getattr(command, "ttl", None)
    return Entry(
        "auth_failure",
        "denied",
        grounds,
        actor=command.asked_by,
        principal=command.principal,
        proof=command.proof,
        why=command.reason,
        lease=lease,
        trigger=command.trigger if isinstance(command, Escalate) else None,
        ending=command.ending if isinstance(command, Release) else None,
        from_profile=None if isinstance(command, Release) else state.stack.profile(now),
        to_profile=command.to if isinstance(command, Escalate) else None,
        ttl_requested_us=duration_us(ttl) if ttl else None,
    )


def hear(
    law: Law, state: State, command: Escalate, now: Moment, asked: Asked | None = None
) -> Hearing:
    """What stands behind a climb; `asked` as in `climb`."""
    wanted = {"to": command.to, "trigger": command.trigger}
    heard = _hear(law, state, command, now, wanted)
    if asked is not None:
        return replace(heard, case=replace(heard.case, rule=asked.rule))
    if command.request is None or command.request.id not in {one.id for one in state.waiting}:
        return heard
    remedy = "vmstate request activate, or withdraw it"
    open_ = Unmet("requests", "request_open", "no open request", command.request.id, remedy)
    return replace(heard, unmet=(*heard.unmet, open_))


def _hear(
    law: Law,
    state: State,
    command: Escalate | Renew,
    now: Moment,
    wanted: Mapping[str, str],
    *,
    pinned: Lease | None = None,
) -> Hearing:
    at = law.setting(state, now, command.principal)
    facts = hear_facts(command.facts, command.attestations, law.document.facts, at)
    approvals = hear_approvals(command.approvals, command.request, at)
    unmet = [*standing_faults(law, state, command), *drill_faults(state, now)]
    unmet += lock_faults(law, state, command.principal, wanted["to"])
    if command.setup and state.drill is None:
        remedy = "climb by the rules as they are"
        unmet.append(Unmet("drill", "not_a_drill", "a drill's ledger", "set-up", remedy))
    unmet += clock_faults(state, now)
    if command.request is not None:
        ttl = duration_us(command.ttl) if command.ttl else None
        asked: dict[str, Json] = {**wanted, "facts": dict(facts.stated), "ttl_us": ttl}
        unmet += request_faults(command.request, command, asked, at)
    profile = wanted["to"]
    case = Case(
        principal=command.principal,
        people=law.people,
        reason=command.reason,
        facts=facts.values,
        faults=facts.faults,
        approvers=approvals.approvers,
        rejected=approvals.rejected,
        ttl=command.ttl,
        waits={
            profile: _wait(law, state, profile, now, exempt=pinned is not None or command.setup)
        },
        rule=pinned.rule if pinned else None,
        balances={name: budget.available for name, budget in state.budgets.items()},
    )
    return Hearing(case, facts, approvals, tuple(unmet))


def judge(
    law: Law, held: str, command: Escalate, case: Case
) -> tuple[str | None, tuple[Unmet, ...]]:
    profiles = law.document.profiles
    if command.to not in profiles:
        known = ", ".join(profiles)
        remedy = f"name one of {known}{did_you_mean(command.to, profiles)}"
        return None, (Unmet("profiles", "unknown_profile", known, command.to, remedy),)
    if law.constitution.includes(held, command.to):
        remedy = "renew the lease, or go on: it may be used"
        return None, (Unmet(f"profiles.{command.to}", "already_held", command.to, held, remedy),)
    verdict = law.machine.attempt(held, command.to, command.trigger, case)
    if not verdict.granted and verdict.rule is None:
        ways = [
            f"{r.to} on {r.trigger}" for r in law.document.escalations.values() if r.from_ == held
        ]
        remedy = f"from {held} there are: {', '.join(dict.fromkeys(ways)) or 'none'}"
        return None, (_no_path(held, command.to, command.trigger, remedy), *case.faults)
    return verdict.rule, verdict.unmet


def _no_path(held: str, to: str, trigger: str, remedy: str) -> Unmet:
    given = f"{held} to {to} on {trigger}"
    return Unmet(NO_RULE, "no_path", "an escalation that the constitution names", given, remedy)


def _grant(
    law: Law, state: State, command: Escalate, rule: str, hearing: Hearing, now: Moment
) -> Entry:
    table = law.document.escalations[rule]
    parent = state.stack.leases[-1] if state.stack.leases else None
    length, clipped_by = would_last(state, table, hearing.case, now)
    limit = later(now, length)
    lease = Lease(
        seq=state.next_seq,
        principal=command.principal,
        profile=command.to,
        rule=rule,
        trigger=command.trigger,
        parent=parent.id if parent else None,
        granted=now,
        limit=limit,
        deadline=limit,
    )
    lease = _bounded(lease, table, now, length)
    entry = _backed(law, command, hearing, lease, rule, clipped_by)
    return replace(
        entry,
        type="profile_escalation",
        from_profile=table.from_,
        to_profile=command.to,
        reversible=True,
        setup=command.setup,
        opens=lease,
        touches=state.stack.alive_below(len(state.stack.leases), now),
        **_charge(table, state),
    )


def _bounded(lease: Lease, table: Escalation, now: Moment, left: timedelta) -> Lease:
    """`lease` with its rule's other bounds, from `now` on; a renewal gives no new uses."""
    bounded = replace(lease, deadline=lease.limit, max_uses=table.max_uses, idle_ttl=table.idle_ttl)
    return bounded.alive(now, left)


def bounds_said(lease: Lease) -> dict[str, Json]:
    """How a receipt says by what else than time a lease is bounded; nothing if by nothing."""
    said: dict[str, Json] = {}
    if lease.max_uses is not None:
        said["max_uses"] = lease.max_uses
    if lease.idle_ttl is not None:
        said["idle_ttl_us"] = duration_us(lease.idle_ttl)
    return said


def _charge(table: Escalation, state: State) -> _Charge:
    """What a grant or renewal costs, charged with it; a guard has seen that it is there."""
    if table.cost is None:
        return {}
    budget, amount = state.budgets[table.cost.budget], table.cost.amount
    line = cost_line(
        budget.id, budget.unit, requested=amount, available=budget.available, charged=amount
    )
    return {"cost": (line,), "budget": budget.after(amount)}


def _with_cost(law: Law, state: State, refused: Entry, rule: str | None) -> Entry:
    """A refusal that says what the rule would have cost, and what there was to pay it."""
    table = law.document.escalations.get(rule or "")
    if table is None or table.cost is None:
        return refused
    name, amount = table.cost.budget, table.cost.amount
    budget = state.budgets.get(name)
    unit, available = (budget.unit, budget.available) if budget is not None else ("", 0)
    line = cost_line(name, unit, requested=amount, available=available, charged=0)
    return replace(refused, cost=(line,))


def drill_faults(state: State, now: Moment) -> list[Unmet]:
    """Nothing is granted in a drill before its mode is on, or after."""
    drill = state.drill
    if drill is None or drill.is_on(now):
        return []
    wanted, remedy = "a drill that is running", "start another drill: vmstate drill run"
    if drill.until is None:
        remedy = "switch it on: Authority.drill_mode(on=True), as vmstate drill run does"
        return [Unmet("drill", "drill_not_on", wanted, "never on", remedy)]
    ended = format_at(min(drill.until.wall, now.wall))
    return [Unmet("drill.ttl", "drill_over", wanted, ended, remedy)]


def _backed(
    law: Law,
    command: Escalate | Renew,
    hearing: Hearing,
    lease: Lease,
    rule: str,
    clipped_by: str | None,
) -> Entry:
    """What a grant and a renewal have in common: the evidence they rest on, each used up."""
    needs = law.document.escalations[rule].needs
    approvals = seated_approvals(law, hearing.approvals, needs.approval)
    request = command.request
    nonce: dict[str, Json] = {} if request is None else {"request_nonce": request.nonce}
    grounds = Grounds(
        rule,
        facts=hearing.facts.stated,
        approvals=approvals,
        attestations=hearing.facts.counted,
        request=request.id if request is not None else None,
    )
    return Entry(
        "",
        "granted",
        grounds,
        actor=command.asked_by,
        principal=command.principal,
        proof=command.proof,
        why=command.reason,
        lease=lease_id(lease.seq),
        parent=lease.parent,
        trigger=lease.trigger,
        expires_at=lease.expires_at,
        ttl_requested_us=duration_us(command.ttl) if command.ttl else None,
        clipped_by=clipped_by,
        detail={**nonce, **bounds_said(lease)} or None,
        spends=tuple(used_ids((*approvals, *grounds.attestations), request)),
    )


def would_last(
    state: State, table: Escalation, case: Case, now: Moment
) -> tuple[timedelta, str | None]:
    """How long a climb by this rule would last from `now`, and what would cut it."""
    parent = state.stack.leases[-1] if state.stack.leases else None
    parent_left = state.stack.longest(parent, now) if parent is not None else None
    return _length(table, case.ttl, parent_left, case.waits[table.to])


def _length(
    table: Escalation, asked: timedelta | None, parent_left: timedelta | None, wait: Wait
) -> tuple[timedelta, str | None]:
    """How long the lease would really last, and what cut it if anything did."""
    length, clipped_by = min(table.ttl, asked or table.ttl), None
    if parent_left is not None and parent_left < length:
        length, clipped_by = parent_left, "parent"
    if wait.hold_left is not None and wait.hold_left < length:
        length, clipped_by = wait.hold_left, "hold"
    return length, clipped_by


def hold_left(law: Law, state: State, profile: str, now: Moment) -> timedelta | None:
    """How long `profile` may still be held at a stretch; None if there is no such bound."""
    return _wait(law, state, profile, now, exempt=True).hold_left


def _wait(law: Law, state: State, profile: str, now: Moment, *, exempt: bool) -> Wait:
    """What time forbids: cool-down since the profile was last left, and the hold under way.

    A renewal and a drill's set-up are `exempt` from cool-down, and from nothing else.

    Leases of one profile are one hold unless its cool-down passed between them (DESIGN 5).
    """
    cooldown = law.document.cooldown.get(profile, timedelta())
    cap = law.document.holds.get(profile)
    mark = state.watermark
    leases = [lease for lease in state.record if lease.profile == profile]
    left = [lease for lease in leases if lease.ended is not None and not lease.unseated]
    past = [mark.since(lease.ended, now) for lease in left if lease.ended is not None]
    cooling = timedelta() if exempt else max(timedelta(), cooldown - min(past, default=cooldown))
    return Wait(cooling, None if cap is None else cap - _held_for(mark, leases, cooldown, now))


def _held_for(mark: Watermark, leases: list[Lease], cooldown: timedelta, now: Moment) -> timedelta:
    """How long the hold under way has lasted: back over every lease that reaches into it."""
    start, rest, found = now, leases, True
    while found:
        reaching = [
            one for one in rest if one.ended is None or mark.since(one.ended, start) < cooldown
        ]
        rest = [one for one in rest if one not in reaching]
        found = bool(reaching)
        for lease in reaching:
            if mark.since(lease.granted, now) > mark.since(start, now):
                start = lease.granted
    return mark.since(start, now)


def _renewal_faults(stack: LeaseStack, lease: Lease, table: Escalation) -> list[Unmet]:
    unmet = []
    path = f"escalations.{lease.rule}.renewals"
    top = stack.leases[-1]
    if lease != top:
        remedy = f"renew {top.id}, or release it first"
        unmet.append(Unmet(path, "not_top", top.id, lease.id, remedy))
    if lease.renewals >= table.renewals:
        given, most = _times(lease.renewals), _times(table.renewals)
        unmet.append(Unmet(path, "renewals_spent", most, given, "let it end, then ask anew"))
    if table.max_uses is not None and lease.uses >= table.max_uses:
        # Only where the law was amended since: else its last use would have ended it.
        path = f"escalations.{lease.rule}.max_uses"
        given, most = _times(lease.uses), _times(table.max_uses)
        unmet.append(Unmet(path, "uses_spent", most, given, "let it end, then ask anew"))
    return unmet


def _times(count: int) -> str:
    return {0: "not at all", 1: "once"}.get(count, f"{count} times")
