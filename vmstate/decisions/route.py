"""The shortest lawful way up, for somebody who was refused or is only asking."""

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta

from vmstate.constitution.guards import (
    Case,
    RequesterGuard,
    describe_limits,
    describe_needs,
    limits_of,
)
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.decision import Entry
from vmstate.decisions.law import Law
from vmstate.decisions.pushing import Attested


@dataclass(frozen=True, slots=True)
class Rung:
    """One escalation on the way: by which rule, for how long at most, and what it asks for.

    `limits` are what else bounds the lease that it gives.
    """

    rule: str
    from_profile: str
    to_profile: str
    trigger: str
    ttl: timedelta
    needs: tuple[str, ...]
    limits: tuple[str, ...]


def shortest_route(law: Law, principal: str, held: str, to: str) -> tuple[Rung, ...]:
    """The fewest rungs from `held` to `to` by rules that `principal` may ever use.

    Of rules between the same profiles the one that asks for least comes first. Empty if there is
    no way, or none is needed.
    """
    ways: dict[str, tuple[Rung, ...]] = {held: ()}
    waiting = deque([held])
    while waiting and to not in ways:
        here = waiting.popleft()
        for rung in _rungs_from(law, principal, here):
            if rung.to_profile not in ways:
                ways[rung.to_profile] = (*ways[here], rung)
                waiting.append(rung.to_profile)
    return ways.get(to, ())


def _rungs_from(law: Law, principal: str, held: str) -> list[Rung]:
    case = Case(principal, law.people)
    rungs = []
    for rule, table in law.document.escalations.items():
        requester = table.needs.requester
        if table.from_ != held:
            continue
        if requester is None or not RequesterGuard("", requester)(case):
            needs, limits = describe_needs(table, law.document.facts), describe_limits(table)
            rungs.append(Rung(rule, held, table.to, table.trigger, table.ttl, needs, limits))
    return sorted(rungs, key=lambda rung: (len(rung.needs), rung.rule))


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a command would come to, and the way there. Nothing was written.

    `lasts` is how long the lease would really last at most, `clipped_by` what would cut it, and
    `limits` what else would end it: uses, or the lack of them. `route`
    holds the shortest lawful way from `held`, rung by rung; empty if there is none. `attested` is
    what a sensor pushed that it would rest on.
    """

    held: str
    granted: bool
    rule: str
    unmet: tuple[Unmet, ...]
    expires_at: datetime | None
    lasts: timedelta | None
    clipped_by: str | None
    limits: tuple[str, ...]
    route: tuple[Rung, ...]
    attested: tuple[Attested, ...] = ()

    @classmethod
    def of(
        cls,
        answer: Entry,
        held: str,
        route: tuple[Rung, ...],
        now: datetime,
        *,
        attested: tuple[Attested, ...] = (),
    ) -> "Explanation":
        """What `answer`, decided at `now` and not written, says."""
        lease = answer.opens or answer.renews
        return cls(
            held=held,
            granted=answer.outcome != "denied",
            rule=answer.grounds.rule,
            unmet=answer.grounds.unmet,
            expires_at=answer.expires_at,
            lasts=None if answer.expires_at is None else answer.expires_at - now,
            clipped_by=answer.clipped_by,
            limits=() if lease is None else limits_of(lease.max_uses, lease.idle_ttl),
            route=route,
            attested=attested,
        )
