"""One decision that ends the leases of many, in the transaction that wrote it.

Read and written a page at a time: a lock on everybody takes no more memory with a hundred thousand
leases than with one.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain

from vmstate.clock import Moment
from vmstate.decisions.asking import locked_request
from vmstate.decisions.decider import SETTLE, overdue_requests, owed
from vmstate.decisions.decision import Entry
from vmstate.decisions.law import Law
from vmstate.decisions.locking import ends_by
from vmstate.decisions.pending import Asked, Lapse
from vmstate.leases.lease import Lease, Overdue
from vmstate.ledger.snapshot import Snapshot
from vmstate.ledger.transaction import Transaction


def end_covered(transaction: Transaction, law: Law, locking: Entry, now: Moment) -> int:
    """End what the lock covers that `locking` set, and say how many receipts that took.

    Law 4: what was overdue by then ends by its own deadline, not by the lock.
    """
    lock = locking.lock
    if lock is None or lock.state != "locked":
        return 0
    began = transaction.head().tree.size
    baseline = law.document.constitution.baseline
    names = (
        iter(law.people.family(lock.name)) if lock.scope == "principal" else holders(transaction)
    )
    for name in names:
        for entry in overdue_ends(transaction, law, (name,), now, SETTLE):
            transaction.append(entry, now)
        for entry in ends_by(law, locking, transaction.stack(name, baseline), now):
            transaction.append(entry, now)
    for asked in transaction.requests.every(open_only=True):
        if law.covers(lock, asked.principal, asked.request.to or baseline):
            transaction.append(locked_request(asked, locking, now), now)
    return transaction.head().tree.size - began


def overdue_ends(
    transaction: Transaction,
    law: Law,
    names: Iterable[str],
    now: Moment,
    via: str,
    until: datetime | None = None,
) -> tuple[Entry, ...]:
    """What time has ended of these people's leases and requests; with `until`, due by then."""
    constitution = law.constitution
    leases: list[Overdue] = []
    requests: list[Lapse] = []
    for name in names:
        stack = transaction.stack(name, constitution.baseline)
        waiting = transaction.requests.waiting((name,))
        lapses = overdue_requests(waiting, stack, constitution.digest, now)
        leases += [one for one in stack.overdue(now) if until is None or one.due <= until]
        requests += [one for one in lapses if until is None or one.due <= until]
    return owed(leases, requests, now, via)


def everybody(snapshot: Snapshot) -> tuple[str, ...]:
    """Whoever has an open lease or request, in the order of their oldest, leases first."""
    leases, requests = snapshot.open_leases(), snapshot.requests.every(open_only=True)
    everything: Iterable[Lease | Asked] = chain(leases, requests)
    return tuple(dict.fromkeys(one.principal for one in everything))


def holders(snapshot: Snapshot) -> Iterator[str]:
    """Everybody with an open lease, in the order of their oldest; some may come more than once."""
    last = None
    for lease in snapshot.open_leases():
        if lease.principal != last:
            last = lease.principal
            yield last
