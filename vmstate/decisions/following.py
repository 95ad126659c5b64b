"""The state that follows from a receipt, before anything of it is written.

What comes later in one decision, and in the same transaction, is judged by it.
"""

from dataclasses import replace

from vmstate.clock import Moment
from vmstate.decisions.decision import Entry, State
from vmstate.leases.lease import Lease


def state_after(state: State, entry: Entry, now: Moment) -> State:
    """The state once `entry` is written."""
    # Its id is known once it is written; until then nothing can have been signed after it.
    back = "" if entry.sets_back else None
    mark = (entry.watermark or state.watermark).after_receipt(now, back=back)
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


def with_kin(state: State, now: Moment) -> State:
    """The state in which what is over of the person's other names has ended, as it has (law 3).

    Their receipts are owed to whoever settles them; cool-downs and holds do not wait for that.
    """
    record = state.record
    for stack in state.kin:
        for one in replace(stack, watermark=state.watermark).overdue(now):
            ended = replace(one.lease, ended=one.end or now, ending=one.ending)
            record = _recorded(record, ended)
    return replace(state, record=record, kin=())


def _recorded(record: tuple[Lease, ...], lease: Lease) -> tuple[Lease, ...]:
    return (*(other for other in record if other.seq != lease.seq), lease)
