"""Deciding a renewal: the same rule asked again, for the topmost lease and a later deadline."""

from dataclasses import replace

from vmstate.canonical import format_at
from vmstate.clock import Moment
from vmstate.constitution.document import Escalation
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.backing import backed, bounded, charge
from vmstate.decisions.command import Renew
from vmstate.decisions.decision import Entry, State
from vmstate.decisions.hearing import hear_case
from vmstate.decisions.lasting import length_of
from vmstate.decisions.law import Law, standing_faults
from vmstate.decisions.refusing import NO_RULE, denial, no_path, with_cost
from vmstate.leases.lease import Lease, LeaseStack
from vmstate.leases.watermark import later


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
    hearing = hear_case(law, state, command, now, wanted, (lease.rule,), pinned=lease)
    unmet = [*hearing.unmet, *_renewal_faults(stack, lease, table)]
    below = stack.below(lease)
    verdict = law.machine.attempt(below, lease.profile, lease.trigger, hearing.case)
    unmet += verdict.unmet
    if not verdict.granted and verdict.rule is None:
        remedy = "let the lease end: its rule is no longer in force"
        unmet.append(no_path(below, lease.profile, lease.trigger, remedy))
    parent = stack.leases[-2] if len(stack.leases) > 1 else None
    wait = hearing.case.waits[lease.profile]
    parent_left = stack.longest(parent, now) if parent is not None else None
    length, clipped_by = length_of(table, command.ttl, parent_left, wait)
    if length <= stack.longest(lease, now) and not unmet:
        until, then = format_at(lease.expires_at), format_at(now.wall + length)
        remedy = "renew what it stands on first, or later" if clipped_by else "renew it later"
        unmet.append(Unmet(NO_RULE, "renewal_gains_nothing", then, until, remedy))
    if unmet:
        refused = denial(
            state, command, unmet, now, rule=lease.rule, hearing=hearing.brought, lease=lease.id
        )
        return with_cost(law, state, refused, lease.rule)
    limit, renewals = later(now, length), lease.renewals + 1
    longer = bounded(replace(lease, limit=limit, renewals=renewals), table, now, length)
    entry = backed(law, command, hearing, longer, lease.rule, clipped_by)
    return replace(
        entry,
        type="lease_renewed",
        from_profile=below,
        to_profile=lease.profile,
        renews=longer,
        touches=stack.alive_below(len(stack.leases) - 1, now),
        **charge(table, state),
    )


def _renewal_faults(stack: LeaseStack, lease: Lease, table: Escalation) -> list[Unmet]:
    unmet = []
    path = f"escalations.{lease.rule}.renewals"
    top = stack.leases[-1]
    if lease != top:
        remedy = f"renew {top.id}, or release it first"
        unmet.append(Unmet(path, "not_top", top.id, lease.id, remedy))
    if table.renewals == 0:
        spent = Unmet(path, "renewals_none", "1 or more", lease.rule, "let it end, then ask anew")
        unmet.append(spent)
    elif lease.renewals >= table.renewals:
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
