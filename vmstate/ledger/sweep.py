"""One decision that ends the leases of many, in the transaction that wrote it.

Read and written a page at a time: a lock on everybody takes no more memory with a hundred thousand
leases than with one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import chain

from vmstate.clock import Moment
from vmstate.decisions.amending import Effect, effect_entry, effects
from vmstate.decisions.asking import reopened
from vmstate.decisions.command import Activate
from vmstate.decisions.decision import Entry
from vmstate.decisions.lapsing import amended_request, lapse, locked_request
from vmstate.decisions.law import Law
from vmstate.decisions.locking import ends_by
from vmstate.decisions.pending import Asked, Lapse, lapse_of
from vmstate.decisions.settling import SETTLE, overdue_requests, owed
from vmstate.leases.lease import Lease, LeaseStack, Overdue
from vmstate.leases.lock import SWEPT_AT_ONCE
from vmstate.ledger.bearing import state_for
from vmstate.ledger.rows import PAGE, pages
from vmstate.ledger.snapshot import Snapshot
from vmstate.ledger.transaction import Transaction


def end_covered(transaction: Transaction, law: Law, locking: Entry, now: Moment) -> int:
    """End what the lock covers that `locking` set, and say how many receipts that took.

    Law 4: what was overdue by then ends by its own deadline, not by the lock. Of leases the first
    `SWEPT_AT_ONCE` and what is left of a page; all others fall, and their receipts are owed.
    """
    lock = locking.lock
    if lock is None or lock.state != "locked":
        return 0
    began = transaction.head().tree.size
    baseline = law.document.constitution.baseline
    names = (
        iter(law.people.family(lock.name))
        if lock.scope == "principal"
        else transaction.leases.holders()
    )
    for page in pages(names):
        if lock.scope != "principal" and transaction.head().tree.size - began >= SWEPT_AT_ONCE:
            profiles = law.document.profiles if lock.scope == "profile" else None
            covered = profiles and [
                one for one in profiles if law.constitution.includes(one, lock.name)
            ]
            transaction.falls.begin(lock, locking.proof, covered)
            break
        for name, stack in transaction.stacks(page, baseline).items():
            for entry in owed(*_over(transaction, law, name, stack, now), now, SETTLE):
                transaction.append(entry, now)
            live = replace(stack, leases=stack.standing(now))
            for entry in ends_by(law, locking, live, now):
                transaction.append(entry, now)
    for asked in transaction.requests.every(open_only=True):
        if law.covers(lock, asked.principal, asked.request.to or baseline):
            stack = transaction.stack(asked.principal, baseline)
            over = lapse_of(asked, stack, law.constitution.digest, now)
            entry = (
                locked_request(asked, locking, now) if over is None else lapse(over, now, SETTLE)
            )
            transaction.append(entry, now)
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
    leases: list[Overdue] = []
    requests: list[Lapse] = []
    for page in pages(names):
        for name, stack in transaction.stacks(page, law.constitution.baseline).items():
            late, lapsed = _over(transaction, law, name, stack, now)
            leases += [one for one in late if until is None or one.due <= until]
            requests += [one for one in lapsed if until is None or one.due <= until]
    return owed(leases, requests, now, via)


def _over(
    transaction: Transaction, law: Law, name: str, stack: LeaseStack, now: Moment
) -> tuple[tuple[Overdue, ...], tuple[Lapse, ...]]:
    """What of one person's leases and requests is over and not yet recorded as ended."""
    waiting = transaction.requests.waiting((name,))
    lapses = overdue_requests(waiting, stack, law.constitution.digest, now)
    return tuple(stack.overdue(now)), tuple(lapses)


def everybody(snapshot: Snapshot) -> tuple[str, ...]:
    """Whoever has an open lease or request, in the order of their oldest, leases first."""
    leases, requests = (
        snapshot.leases.every(open_only=True),
        snapshot.requests.every(open_only=True),
    )
    everything: Iterable[Lease | Asked] = chain(leases, requests)
    return tuple(dict.fromkeys(one.principal for one in everything))


def settle_everybody(transaction: Transaction, law: Law, now: Moment) -> None:
    """End whatever is over, whoever's it is, before the law changes under it (law 4)."""
    while due := transaction.due(now, PAGE):
        before = transaction.head().tree.size
        names = dict.fromkeys(one.principal for one in due)
        for entry in overdue_ends(transaction, law, names, now, SETTLE):
            transaction.append(entry, now)
        if transaction.head().tree.size == before:
            return  # rows that can't be read: nobody holds them, and audit names them


def amend_leases(
    transaction: Transaction, old: Law, new: Law, amendment: Entry, now: Moment
) -> int:
    """Do to every open lease what the amendment just written does to it; how many receipts."""
    began = transaction.head().tree.size
    for stack, found in _effects(transaction, old, new, now):
        for effect in found:
            if effect.is_change:
                below = stack.below(effect.lease)
                entry = effect_entry(effect, amendment, began - 1, below, now)
                transaction.append(entry, now)
    return transaction.head().tree.size - began


def amend_requests(transaction: Transaction, new: Law, amendment: int, now: Moment) -> int:
    """End the requests opened before the receipt `amendment`, and open again what may be."""
    began = transaction.head().tree.size
    timed = tuple(sorted({*new.document.cooldown, *new.document.holds}))
    for asked in transaction.requests.every(open_only=True):
        if asked.seq > amendment:
            break
        transaction.append(amended_request(asked, now), now)
        command = Activate(principal=asked.principal, request=asked.id)
        anew = reopened(new, state_for(transaction, command, new, timed), asked, now)
        if anew is not None:
            transaction.append(anew, now)
    return transaction.head().tree.size - began


def foresee(snapshot: Snapshot, old: Law, new: Law, now: Moment) -> Iterator[Effect]:
    """What an amendment would do to every live lease; reads only.

    What is over by `now` is left out: it ends by its own deadline, before the law changes.
    """
    for _, found in _effects(snapshot, old, new, now):
        yield from found


def _effects(
    snapshot: Snapshot, old: Law, new: Law, now: Moment
) -> Iterator[tuple[LeaseStack, tuple[Effect, ...]]]:
    """Everybody's stack, and what becomes of what is live of it."""
    baseline, document = new.constitution.baseline, new.document
    timed = tuple(sorted({*document.cooldown, *document.holds}))
    time = snapshot.time(baseline)
    for page in pages(snapshot.leases.holders()):
        for name, stack in snapshot.stacks(page, baseline).items():
            live = replace(stack, leases=stack.standing(now))
            record = snapshot.leases.record(new.people.family(name), timed) if timed else ()
            state = replace(time, principal=name, stack=live, record=record)
            yield stack, effects(old, new, state, now)
