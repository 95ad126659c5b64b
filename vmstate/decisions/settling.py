"""What time has brought about without anybody asking, as the receipts that say so.

Law 4: what is overdue ends in deadline order, top of the stack first at the same instant. A lease
whose uses are spent ends at once, by the receipt of its last use.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from vmstate.canonical import Json, format_at
from vmstate.clock import Moment, duration_us
from vmstate.decisions.decision import Entry, Grounds, State
from vmstate.decisions.ending import end_of
from vmstate.decisions.lapsing import lapse
from vmstate.decisions.pending import Asked, Lapse, lapse_of
from vmstate.leases.lease import (
    EXPIRED,
    IDLE,
    LOCKED,
    PARENT_ENDED,
    USES_SPENT,
    LeaseStack,
    Overdue,
)
from vmstate.leases.watermark import steps_back

SCHEDULER, SETTLE, START_UP = "scheduler", "settle", "start_up"


def clock_entries(state: State, now: Moment) -> tuple[Entry, ...]:
    """What has to be said about the clock before anything else is written at `now`."""
    mark = state.watermark
    step = mark.step_us(now)
    if step is None or mark.newest is None:
        return ()
    grounds = Grounds("recovery")
    if not mark.is_behind(now):
        stepped: dict[str, Json] = {"kind": "step", "step_us": step}
        back = steps_back(step)
        return (Entry("clock_anomaly", "recorded", grounds, detail=stepped, sets_back=back),)
    newest = format_at(mark.newest.wall)
    after = mark.after_regression(now, state.next_seq)
    until = format_at(after.held_until) if after.held_until is not None else None
    detail: dict[str, Json] = {"kind": "regression", "step_us": step, "newest": newest}
    detail["held_until"] = until
    entry = Entry("clock_anomaly", "recorded", grounds, detail=detail, watermark=after)
    return (replace(entry, sets_back=True),)


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
    """The end of a lease that time ended: no command, no actor.

    Or that a lock on many ended before: by whoever locked, due when they did.
    """
    lease, fall = overdue.lease, overdue.fall
    if fall is not None and overdue.ending == LOCKED:
        at = fall.lock.locked
        said: dict[str, Json] = {"lock": fall.lock.id}
        late = end_of(lease, LOCKED, at, rule="locks", below=overdue.below, by=fall, detail=said)
        return replace(late, due=at.wall, ended_via=via)
    by_wall = lease.deadline.wall <= now.wall
    paths = {EXPIRED: f"endings.{EXPIRED}", IDLE: f"escalations.{lease.rule}.idle_ttl"}
    # The end in effect is the deadline. A lease lost to a clock has none that could be trusted.
    ended = overdue.end or now
    hand: dict[str, Json] = {
        "hand": "wall" if by_wall else "boot",
        "late_us": duration_us(overdue.late_for),
    }
    rule = paths.get(overdue.ending, "endings")
    return end_of(
        lease,
        overdue.ending,
        ended,
        rule=rule,
        below=overdue.below,
        due=overdue.due,
        ended_via=via,
        detail=hand if overdue.ending in paths else None,
    )


def spent(state: State, now: Moment) -> tuple[Entry, ...]:
    """The end of a lease that was used as often as it may be, and of what stands on it."""
    stack = state.stack
    used_up = next((lease for lease in stack.leases if lease.is_spent), None)
    if used_up is None:
        return ()
    rule, entries = f"escalations.{used_up.rule}.max_uses", []
    for lease in reversed(stack.leases[stack.leases.index(used_up) :]):
        ending = USES_SPENT if lease == used_up else PARENT_ENDED
        entries.append(end_of(lease, ending, now, rule=rule, below=stack.below(lease)))
    return tuple(entries)
