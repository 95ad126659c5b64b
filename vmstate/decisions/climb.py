"""Deciding a climb: by which rule, and with the lease below renewed where that is asked too."""

from dataclasses import replace

from vmstate.clock import Moment
from vmstate.constitution.facts import did_you_mean
from vmstate.constitution.guards import Case
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.backing import backed, bounded, charge
from vmstate.decisions.command import Escalate, Renew
from vmstate.decisions.decision import Entry, State
from vmstate.decisions.hearing import Hearing, hear
from vmstate.decisions.lasting import would_last
from vmstate.decisions.law import Law
from vmstate.decisions.pending import Asked
from vmstate.decisions.refusing import denial, no_path, with_cost
from vmstate.decisions.renewal import renew
from vmstate.decisions.requested import told_of
from vmstate.leases.lease import Lease
from vmstate.leases.watermark import later


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
    unmet += verdict_unmet if asked is None else told_of(asked, verdict_unmet)
    if rule is None or unmet:
        # What a denied climb would have renewed stays as it was: the renewal is not written.
        refused = denial(state, command, unmet, now, rule=rule, hearing=hearing.brought)
        return (with_cost(law, state, refused, rule),)
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
        proven=command.proven,
        caller=command.caller,
        order=command.order,
        claims=command.claims,
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


def judge(
    law: Law, held: str, command: Escalate, case: Case
) -> tuple[str | None, tuple[Unmet, ...]]:
    """The rule that answers for who holds `held`, if there is one, and what it finds missing."""
    profiles = law.document.profiles
    if command.to not in profiles:
        known = ", ".join(profiles)
        remedy = f"name one of {known}{did_you_mean(command.to, profiles)}"
        return None, (Unmet("profiles", "unknown_profile", known, command.to, remedy),)
    if law.constitution.includes(held, command.to):
        remedy = "renew the lease, or go on: it may be used"
        if law.constitution.includes(law.document.constitution.baseline, command.to):
            remedy = "go on: it may be used, and takes no lease"
        return None, (Unmet(f"profiles.{command.to}", "already_held", command.to, held, remedy),)
    verdict = law.machine.attempt(held, command.to, command.trigger, case)
    if not verdict.granted and verdict.rule is None:
        ways = [
            f"{r.to} on {r.trigger}" for r in law.document.escalations.values() if r.from_ == held
        ]
        remedy = f"from {held} there are: {', '.join(dict.fromkeys(ways)) or 'none'}"
        return None, (no_path(held, command.to, command.trigger, remedy), *case.faults)
    return verdict.rule, verdict.unmet


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
    lease = bounded(lease, table, now, length)
    entry = backed(law, command, hearing, lease, rule, clipped_by)
    return replace(
        entry,
        type="profile_escalation",
        from_profile=table.from_,
        to_profile=command.to,
        reversible=True,
        setup=command.setup,
        opens=lease,
        touches=state.stack.alive_below(len(state.stack.leases), now),
        **charge(table, state),
    )
