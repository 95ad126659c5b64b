"""What an act does to the lease that allows it."""

from vmstate.clock import Moment
from vmstate.decisions.decision import State
from vmstate.decisions.law import Law
from vmstate.leases.lease import Lease


def use(law: Law, state: State, needed: str, now: Moment) -> tuple[Lease, ...]:
    """The leases that something done at `now` under the profile `needed` changes.

    The last one is the lease that was used: the lowest that gives the profile, so that what an
    operator may do spends no use of a guardian. Before it are those that it stands on, of which
    it is a sign of life. Nothing if the baseline gives the profile: no lease was needed.
    """
    if law.constitution.includes(state.stack.baseline, needed):
        return ()
    for lease in state.stack.standing(now):
        if law.constitution.includes(lease.profile, needed):
            return state.stack.after_use(lease, now)
    return ()
