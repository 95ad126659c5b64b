"""One decision that ends the leases of many, in the transaction that wrote it.

Read and written a page at a time: a lock on everybody takes no more memory with a hundred thousand
leases than with one.
"""

from collections.abc import Iterator

from vmstate.clock import Moment
from vmstate.decisions.decider import SETTLE, expiry, in_due_order
from vmstate.decisions.decision import Entry
from vmstate.decisions.law import Law
from vmstate.decisions.locking import ends_by
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
        stack = transaction.stack(name, baseline)
        for over in in_due_order(stack.overdue(now)):
            transaction.append(expiry(over, now, SETTLE), now)
            stack = stack.after_end(over.lease)
        for entry in ends_by(law, locking, stack, now):
            transaction.append(entry, now)
    return transaction.head().tree.size - began


def holders(snapshot: Snapshot) -> Iterator[str]:
    """Everybody with an open lease, in the order of their oldest; some may come more than once."""
    last = None
    for lease in snapshot.open_leases():
        if lease.principal != last:
            last = lease.principal
            yield last
