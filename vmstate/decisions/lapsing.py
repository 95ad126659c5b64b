"""The end of an open request that its people did not bring about: time, a lock, another law."""

from dataclasses import replace
from datetime import timedelta

from vmstate.clock import Moment
from vmstate.decisions.decision import Entry, Grounds
from vmstate.decisions.pending import AMENDED, Asked, Lapse, ended_detail
from vmstate.decisions.requested import about
from vmstate.leases.lease import CLOCK_REGRESSION, LOCKED


def lapse(one: Lapse, now: Moment, via: str | None) -> Entry:
    """The end of a request that nobody asked for; `via` is who came to write it."""
    asked = one.asked
    entry = about(asked, "request", Grounds("requests"), one.detail())
    return replace(
        entry,
        outcome="expired",
        due=None if one.state in {AMENDED, CLOCK_REGRESSION} else one.due,
        ended_via=via,
        spends=(asked.id,),
        asks=asked.over(one.state, now),
    )


def locked_request(asked: Asked, locking: Entry, now: Moment) -> Entry:
    """The end of a request that the lock in `locking` covers: lifting it restores nothing."""
    assert locking.lock is not None
    detail = {**ended_detail(asked, LOCKED), "lock": locking.lock.id}
    entry = about(asked, "request", Grounds("locks"), detail)
    return replace(
        entry,
        actor=locking.actor,
        proof=locking.proof,
        why=locking.why,
        spends=(asked.id,),
        asks=asked.over(LOCKED, now),
    )


def amended_request(asked: Asked, now: Moment) -> Entry:
    """The end of a request by an amendment: what was signed for it was signed under another law."""
    return lapse(Lapse(asked, AMENDED, now.wall, timedelta()), now, None)
