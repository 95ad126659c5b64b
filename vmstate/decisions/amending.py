"""Deciding an amendment: another law, by the approvals that the law in force asks for.

The receipt stands under the old law, which is what was asked; the new one rules what follows it.

What becomes of a lease is said by its rule as it was, in `on_amend`: it is kept as it is, cut to
what the new law allows (`clamp`), or ended. Never does one last longer than it would have. Whatever
its rule says, a lease ends whose holder, rule, profile or place on the ladder the new law does not
have, and with a lease ends what stands on it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from vmstate.canonical import Json, format_at
from vmstate.clock import Moment, duration_us
from vmstate.constitution.document import Escalation
from vmstate.constitution.guards import ApprovalGuard, Case
from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import read_constitution
from vmstate.constitution.people import People
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.backing import bounds_said
from vmstate.decisions.command import AMENDMENT, NEW_LAW, Amend
from vmstate.decisions.decision import Entry, Grounds, State
from vmstate.decisions.ending import end_of
from vmstate.decisions.evidence import hear_approvals, nonce_of, used_ids
from vmstate.decisions.lasting import hold_left
from vmstate.decisions.law import (
    Law,
    clock_faults,
    exception_faults,
    proof_faults,
    seated_approvals,
)
from vmstate.decisions.refusing import denial
from vmstate.leases.lease import AMENDED, PARENT_ENDED, Lease

TOLD = 100  # effects that are foreseen by name; the others are counted


def amend(law: Law, state: State, command: Amend, now: Moment) -> Entry:
    """The receipt of an amendment, or of its refusal; `effects` says what it does to leases.

    Raises:
        ConstitutionError: the new law does not load.
    """
    new = read_constitution(command.toml, name="the new constitution")
    facts = {NEW_LAW: new.digest}
    unmet = [*proof_faults(law, state, command), *clock_faults(state, now)]
    unmet += _amendment_faults(law, state, new)
    at = law.setting(state, now, command.principal)
    heard = hear_approvals(command.approvals, command.request, at)
    table = law.document.amendment
    if table is not None:
        case = Case(
            command.principal, law.people, approvers=heard.approvers, rejected=heard.rejected
        )
        prepare = "vmstate amend NEW.toml -o FILE"
        unmet += ApprovalGuard("amendment.needs.approval", table.needs.approval, prepare)(case)
    unmet += exception_faults(command, AMENDMENT, facts, at)
    if unmet or table is None:
        return denial(state, command, unmet, now)
    counted = seated_approvals(law, heard, table.needs.approval)
    request = command.request

    id_ = None if request is None else request.id
    return Entry(
        "constitution_amended",
        "recorded",
        Grounds("amendment", facts=facts, approvals=counted, request=id_),
        actor=command.asked_by,
        principal=command.principal,
        proof=command.proof,
        why=command.reason,
        trigger=AMENDMENT,
        detail={
            "from": law.constitution.digest,
            "to": new.digest,
            "name": new.name,
            "version": new.version,
            **nonce_of(request),
        },
        spends=tuple(used_ids(counted, request)),
        law=new,
    )


def _amendment_faults(law: Law, state: State, new: Constitution) -> list[Unmet]:
    unmet = []
    if law.document.amendment is None:
        remedy = "make another ledger, under another constitution"
        given = law.constitution.name
        unmet.append(Unmet("amendment", "no_amendment", "[amendment]", given, remedy))
    if state.drill is not None:
        remedy = "change the file, and run the drill again"
        unmet.append(Unmet("drill", "amend_drill", "a live ledger", law.origin, remedy))
    if new.digest == law.constitution.digest:
        remedy = "nothing to do"
        unmet.append(Unmet("amendment", "amends_nothing", "another law", new.digest, remedy))
    return unmet


# ---- what it does to leases -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Effect:
    """What becomes of one lease: `after` is the lease as it is from then on.

    `why` is empty if it stays as it was. `ending` is None if it stays open.
    """

    lease: Lease
    after: Lease
    why: str = ""
    ending: str | None = None

    @property
    def is_change(self) -> bool:
        """Whether there is anything to put on record."""
        return self.ending is not None or self.after != self.lease


@dataclass(frozen=True, slots=True)
class Amendment:
    """What an amendment would do, foreseen and not written.

    `old_toml` is the law in force as it was read; `effects` are those that change a lease, the
    first `TOLD` of them. `requests` are open, and would be asked anew with nothing signed for them.
    """

    old: str
    new: str
    old_toml: bytes
    kept: int
    clamped: int
    ended: int
    effects: tuple[Effect, ...]
    requests: int

    @classmethod
    def of(
        cls, old: Constitution, new: Constitution, found: Iterable[Effect], *, requests: int
    ) -> "Amendment":
        """Count what is found, in bounded memory."""
        kept = clamped = ended = 0
        told: list[Effect] = []
        for one in found:
            kept += not one.is_change
            ended += one.ending is not None
            clamped += one.is_change and one.ending is None
            if one.is_change and len(told) < TOLD:
                told.append(one)
        return cls(old.digest, new.digest, old.toml, kept, clamped, ended, tuple(told), requests)


def effects(old: Law, new: Law, state: State, now: Moment) -> tuple[Effect, ...]:
    """What becomes of one principal's leases, in the order in which it is put on record.

    `state` is theirs under the new law; nothing of it is overdue. Ends come before cuts, and each
    from the top of the stack, so that at no time anything outlives what it stands on.
    """
    found: list[Effect] = []
    for lease in state.stack.leases:
        found.append(_effect(old, new, state, lease, found[-1] if found else None, now))
    ended = [one for one in reversed(found) if one.ending is not None]
    return (*ended, *(one for one in reversed(found) if one.ending is None))


def effect_entry(effect: Effect, amendment: Entry, seq: int, below: str, now: Moment) -> Entry:
    """The receipt of an effect that changes something; `seq` is that of the amendment."""
    lease, after = effect.lease, effect.after
    said: dict[str, Json] = {"amendment": seq, "why": effect.why}
    if effect.ending is not None:
        how = effect.ending
        return end_of(lease, how, now, rule="amendment", below=below, by=amendment, detail=said)
    return Entry(
        "lease_clamped",
        "recorded",
        Grounds("amendment"),
        actor=amendment.actor,
        principal=lease.principal,
        proof=amendment.proof,
        why=amendment.why,
        lease=lease.id,
        parent=lease.parent,
        trigger=lease.trigger,
        from_profile=below,
        to_profile=lease.profile,
        expires_at=after.expires_at,
        clipped_by=effect.why,
        detail={**said, "was": format_at(lease.expires_at), **bounds_said(after)},
        renews=after,
    )


def gone(
    old: Constitution,
    new: Constitution,
    people: People,
    *,
    principal: str,
    profile: str,
    rule: str,
    below: str,
) -> str | None:
    """Why a lease by `rule` can't go on under the new law, whatever `on_amend` says, or None.

    `people` are the new law's, `below` is the profile that it stands on.
    """
    was, will = old.rules.get(rule), new.rules.get(rule)
    if not people.knows(principal):
        return "unknown_principal"
    if was is None or will is None or (will.from_, will.to) != (below, profile):
        return "rule_gone"
    if was.trigger != will.trigger:
        return "rule_gone"
    if old.lineage(profile) != new.lineage(profile):
        return "profile_moved"
    if was.on_amend == "end":
        return "rule_ends"
    requester = will.needs.requester
    if was.on_amend == "clamp" and requester and not people.in_any(principal, requester):
        return "requester"
    return None


def latest_end(
    was: Escalation,
    will: Escalation,
    *,
    granted_at: datetime,
    expires_at: datetime,
    renewals: int,
) -> datetime:
    """Until when the new rule would let a lease last at most that the old one granted.

    It was granted or last renewed at `expires_at` less the old TTL or later, and would by the new
    rule have had the new TTL from then on; and so often as that rule would have renewed it.
    """
    since = max(granted_at, expires_at - was.ttl)
    often = 1 + min(renewals, will.renewals)
    return min(expires_at, since + will.ttl, granted_at + often * will.ttl)


def _effect(
    old: Law, new: Law, state: State, lease: Lease, parent: Effect | None, now: Moment
) -> Effect:
    if parent is not None and parent.ending is not None:
        return Effect(lease, lease, "parent", PARENT_ENDED)
    below = parent.lease.profile if parent is not None else state.stack.baseline
    why = gone(
        old.constitution,
        new.constitution,
        new.people,
        principal=lease.principal,
        profile=lease.profile,
        rule=lease.rule,
        below=below,
    )
    if why is not None:
        return Effect(lease, lease, why, AMENDED)
    after = lease
    if old.document.escalations[lease.rule].on_amend == "clamp":
        after, why = _clamped(old, new, state, lease, now)
    if parent is not None and parent.after.expires_at < after.expires_at:
        after, why = _cut(after, parent.after.expires_at), "parent"
    if after != lease and (state.stack.left(after, now) <= timedelta() or after.is_spent):
        return Effect(lease, lease, why or "", AMENDED)
    return Effect(lease, after, why or "")


def _clamped(
    old: Law, new: Law, state: State, lease: Lease, now: Moment
) -> tuple[Lease, str | None]:
    """The lease cut to what the new law allows, and by what; as it was if nothing cuts it."""
    was = old.document.escalations[lease.rule]
    will = new.document.escalations[lease.rule]
    until = latest_end(
        was,
        will,
        granted_at=lease.granted_at,
        expires_at=lease.expires_at,
        renewals=lease.renewals,
    )
    why = "ttl" if until < lease.expires_at else None
    hold = hold_left(new, state, lease.profile, now)
    if hold is not None:
        over = max(timedelta(), state.stack.longest(lease, now) - hold)
        if lease.expires_at - over < until:
            until, why = lease.expires_at - over, "hold"
    after = _cut(lease, until)
    if will.max_uses is not None and (after.max_uses is None or will.max_uses < after.max_uses):
        after, why = replace(after, max_uses=will.max_uses), why or "uses"
    if will.idle_ttl is not None and (after.idle_ttl is None or will.idle_ttl < after.idle_ttl):
        # From here on; when anything was last done under it is not known to the new law.
        idle = replace(after, idle_ttl=will.idle_ttl)
        idle = idle.alive(now, state.stack.longest(after, now))
        sooner = state.stack.left(idle, now) < state.stack.left(after, now)
        after = replace(idle, deadline=idle.deadline if sooner else after.deadline)
        why = why or "idle"
    return after, why


def _cut(lease: Lease, at: datetime) -> Lease:
    """The lease with its ends not after `at`; both hands are cut alike."""
    return replace(lease, limit=_by(lease.limit, at), deadline=_by(lease.deadline, at))


def _by(end: Moment, at: datetime) -> Moment:
    over = max(timedelta(), end.wall - at)
    return Moment(end.wall - over, end.boot_id, end.boot_us - duration_us(over))
