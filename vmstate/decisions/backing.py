"""What a grant and a renewal share: the evidence they use up, their bounds, their charge."""

from dataclasses import replace
from datetime import timedelta
from typing import TypedDict

from vmstate.canonical import Json
from vmstate.clock import Moment, duration_us
from vmstate.constitution.document import Escalation
from vmstate.decisions.command import Escalate, Renew
from vmstate.decisions.decision import Entry, Grounds, State
from vmstate.decisions.evidence import nonce_of, used_ids
from vmstate.decisions.hearing import Hearing
from vmstate.decisions.law import Law, seated_approvals
from vmstate.leases.lease import Lease, lease_id
from vmstate.treasury.budget import Budget, cost_line


class _Charge(TypedDict, total=False):
    """The fields of an entry that a cost fills in."""

    cost: tuple[Json, ...]
    budget: Budget


def backed(
    law: Law,
    command: Escalate | Renew,
    hearing: Hearing,
    lease: Lease,
    rule: str,
    clipped_by: str | None,
) -> Entry:
    """The receipt of a grant or a renewal, as far as both hold it: what it rests on, used up."""
    needs = law.document.escalations[rule].needs
    approvals = seated_approvals(law, hearing.approvals, needs.approval)
    request, facts = command.request, hearing.rests_on(needs.facts)

    grounds = Grounds(
        rule,
        facts=facts.stated,
        approvals=approvals,
        attestations=facts.counted,
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
        detail={**nonce_of(request), **bounds_said(lease)} or None,
        spends=tuple(used_ids((*approvals, *grounds.attestations), request)),
    )


def bounded(lease: Lease, table: Escalation, now: Moment, left: timedelta) -> Lease:
    """`lease` with its rule's other bounds, from `now` on; a renewal gives no new uses."""
    bound = replace(lease, deadline=lease.limit, max_uses=table.max_uses, idle_ttl=table.idle_ttl)
    return bound.alive(now, left)


def bounds_said(lease: Lease) -> dict[str, Json]:
    """How a receipt says by what else than time a lease is bounded; nothing if by nothing."""
    said: dict[str, Json] = {}
    if lease.max_uses is not None:
        said["max_uses"] = lease.max_uses
    if lease.idle_ttl is not None:
        said["idle_ttl_us"] = duration_us(lease.idle_ttl)
    return said


def charge(table: Escalation, state: State) -> _Charge:
    """What a grant or renewal costs, charged with it; a guard has seen that it is there."""
    if table.cost is None:
        return {}
    budget, amount = state.budgets[table.cost.budget], table.cost.amount
    line = cost_line(
        budget.id, budget.unit, requested=amount, available=budget.available, charged=amount
    )
    return {"cost": (line,), "budget": budget.after(amount)}
