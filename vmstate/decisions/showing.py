"""An open request as those who are to sign it see it: all of it, and what it would come to.

What is missing and how long the lease would last are worked out by the path that decides, as of
now, so that nobody signs for something else than they will have allowed (law 5).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from vmstate.canonical import parse_at
from vmstate.clock import Moment
from vmstate.constitution.document import Fact
from vmstate.constitution.guards import limits_of, seat
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.calling import call_lacks
from vmstate.decisions.climb import judge
from vmstate.decisions.command import Activate
from vmstate.decisions.decision import State
from vmstate.decisions.evidence import hear_approvals, too_old_at
from vmstate.decisions.hearing import hear
from vmstate.decisions.lasting import length_of, would_last
from vmstate.decisions.law import Law
from vmstate.decisions.pending import Asked, is_call, lapse_of, stages_of
from vmstate.decisions.requested import as_climb, first_good, told_of
from vmstate.signing import Approval, Attestation, Request, Signed


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of approvals: how many of which groups, and who serves at it already."""

    count: int
    of: tuple[str, ...]
    approved: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that was left open, or one that is over.

    `receipt` is the one that opened it. `state` is `pending`, `complete`, or how it ended; time
    may have ended it before that is on record. `waits_until` is for what is missing,
    `usable_until` for activating it once it is complete. Of an open one, `missing` says what an
    activation would lack now, `lasts` how long its lease would last if activated now and
    `clipped_by` what would cut it; `lasts` is None where the rule does not lead from where the
    principal stands. `lasts_at_most` is what it can become where the principal renews the lease
    below with the climb, `limits` what else would end it. `signed_until` is when the first of the
    signatures that count grows too old.
    """

    id: str
    receipt: int
    request: Request
    rule: str
    state: str
    opened_at: datetime
    waits_until: datetime
    usable_until: datetime | None
    ended_at: datetime | None
    stages: tuple[Stage, ...] = ()
    attested_by: tuple[str, ...] = ()
    missing: tuple[Unmet, ...] = ()
    lasts: timedelta | None = None
    clipped_by: str | None = None
    lasts_at_most: timedelta | None = None
    limits: tuple[str, ...] = ()
    signed_until: datetime | None = None

    @property
    def good_until(self) -> datetime:
        """The last that it can be activated, or completed, with what was signed so far."""
        deadline = self.usable_until or self.waits_until
        if self.usable_until is None or self.signed_until is None:
            return deadline
        return min(deadline, self.signed_until)

    @property
    def is_open(self) -> bool:
        """Whether it may still be signed or activated."""
        return self.state in {"pending", "complete"}

    @property
    def is_ready(self) -> bool:
        """Whether nobody has to sign any more: it is complete, or what a sensor pushed bears out
        the facts of one that is pending.
        """
        return self.state == "complete" or (self.state == "pending" and not self.missing)


def show(law: Law, state: State, asked: Asked, now: Moment) -> Pending:
    """`asked` as of `now`; `state` is its principal's."""
    lapse = lapse_of(asked, state.stack, law.constitution.digest, now)
    ended_at = None if asked.ended is None else asked.ended.wall
    shown = Pending(
        id=asked.id,
        receipt=asked.seq,
        request=asked.request,
        rule=asked.rule,
        state=asked.state if lapse is None else lapse.state,
        opened_at=asked.opened.wall,
        waits_until=asked.waits_until,
        usable_until=asked.usable_until,
        ended_at=ended_at if lapse is None else lapse.due,
    )
    if not shown.is_open:
        return shown
    at = law.setting(state, now, asked.principal)
    heard = hear_approvals(asked.approvals, asked.request, at)
    needs = stages_of(law.document, asked.request, asked.rule)
    seats = seat(law.people, heard.approvers, needs)
    stages = tuple(
        Stage(need.count, need.of, names) for need, names in zip(needs, seats, strict=True)
    )
    rule = law.document.escalations.get(asked.rule)
    if is_call(asked.request):
        signed_until = _signed_until(heard.counted, {})
        missing = call_lacks(law, state, asked, now)
        return replace(shown, stages=stages, missing=missing, signed_until=signed_until)
    if rule is None:
        return shown
    activating = Activate(principal=asked.principal, request=asked.id)
    climbing = as_climb(activating, asked.request, first_good(asked, heard))
    hearing = hear(law, state, climbing, now, asked)
    held = state.stack.profile(now)
    missing = told_of(asked, judge(law, held, climbing, hearing.case)[1])
    lasts, clipped_by = would_last(state, rule, hearing.case, now)
    at_most, _ = length_of(rule, hearing.case.ttl, None, hearing.case.waits[rule.to])
    reachable = rule.from_ == held
    signed = (*heard.counted, *hearing.facts.counted)
    return replace(
        shown,
        stages=stages,
        attested_by=tuple(one.by for one in hearing.facts.counted),
        missing=(*hearing.unmet, *missing),
        lasts=lasts if reachable else None,
        clipped_by=clipped_by if reachable else None,
        lasts_at_most=at_most if reachable else None,
        limits=limits_of(rule.max_uses, rule.idle_ttl),
        signed_until=_signed_until(signed, law.document.facts),
    )


def _signed_until(counted: Iterable[Signed], declared: Mapping[str, Fact]) -> datetime | None:
    """When the first of these grows too old: nobody was let in who was not needed."""
    ends = []
    for one in counted:
        match one.statement:
            case Approval() as approval:
                ends.append(parse_at(approval.expires_at))
            case Attestation() as attested:
                until = too_old_at(attested, declared)
                ends += [] if until is None else [until]
            case _:
                pass
    return min(ends, default=None)
