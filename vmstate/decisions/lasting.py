"""How long a lease would last: what its rule gives, cut to the lease below and to the hold.

Law 5: both hands of the clock are cut, and `clipped_by` says by what, before anybody approves.
Both are cut by the same length, the shorter of what the lease below has left on either: a wall that
was slewed since that one's grant lets the upper one end some microseconds earlier, never later.
Limits are worked out from the leases on record, never counted.
"""

from datetime import timedelta

from vmstate.clock import Moment
from vmstate.constitution.document import Escalation
from vmstate.constitution.guards import Case, Wait
from vmstate.decisions.decision import State
from vmstate.decisions.law import Law
from vmstate.leases.lease import Lease
from vmstate.leases.watermark import Watermark


def would_last(
    state: State, table: Escalation, case: Case, now: Moment
) -> tuple[timedelta, str | None]:
    """How long a climb by this rule would last from `now`, and what would cut it."""
    parent = state.stack.leases[-1] if state.stack.leases else None
    parent_left = state.stack.longest(parent, now) if parent is not None else None
    return length_of(table, case.ttl, parent_left, case.waits[table.to])


def hold_left(law: Law, state: State, profile: str, now: Moment) -> timedelta | None:
    """How long `profile` may still be held at a stretch; None if there is no such bound."""
    return wait_for(law, state, profile, now, exempt=True).hold_left


def length_of(
    table: Escalation, asked: timedelta | None, parent_left: timedelta | None, wait: Wait
) -> tuple[timedelta, str | None]:
    """How long the lease would really last, and what cut it if anything did."""
    length, clipped_by = min(table.ttl, asked or table.ttl), None
    if parent_left is not None and parent_left < length:
        length, clipped_by = parent_left, "parent"
    if wait.hold_left is not None and wait.hold_left < length:
        length, clipped_by = wait.hold_left, "hold"
    return length, clipped_by


def wait_for(law: Law, state: State, profile: str, now: Moment, *, exempt: bool) -> Wait:
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
