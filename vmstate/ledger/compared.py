"""Whether the tables of a file say what its receipts say: law 2 from the other side.

But for the outbox and the refusals counted so far, which hold what is still to come and are
nobody's evidence.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

from vmstate.clock import to_us
from vmstate.decisions.pending import Asked
from vmstate.leases.lease import Lease, lease_id
from vmstate.leases.lock import Lock
from vmstate.ledger.held import Held
from vmstate.ledger.replay import Replay
from vmstate.ledger.retold import Told
from vmstate.ledger.snapshot import Head, Snapshot


class LeaseRows:
    """Every row of the table of leases, beside what receipts say."""

    def __init__(self, replay: Replay, snapshot: Snapshot, head: Head | None) -> None:
        self._replay = replay
        self._snapshot = snapshot
        self._newest = None if head is None else head.watermark.newest
        self._apart: dict[str, timedelta] = {}

    def compare(self, held: Held) -> None:
        """One lease that has ended, or is open at the end."""
        name = lease_id(held.seq)
        row = self._snapshot.leases.named(name)
        if row is None:
            self._replay.find(
                f"the table of leases has no row for {name}, or none that can be read"
            )
            return
        if not (_equally_long(row) and _within_limit(row)):
            self._replay.find(f"the table of leases gives {name} another length by the boot hand")
        apart = self._hands_apart(row)
        if apart > self._replay.stepped:
            self._apart[name] = apart  # unless steps of the wall that are still to be read say why
        written = _written(row)
        differing = [key for key, said in _said(held).items() if said != written[key]]
        if differing:
            told = ", ".join(differing)
            self._replay.find(f"the table of leases is wrong on {name}: {told}")

    def _hands_apart(self, row: Lease) -> timedelta:
        """By how much the hands differ on when a lease began and ended, within one boot."""
        newest, most = self._newest, timedelta()
        for one, other in ((row.granted, newest), (row.ended, newest), (row.granted, row.ended)):
            if one is not None and other is not None and one.boot_id == other.boot_id:
                by_boot = timedelta(microseconds=other.boot_us - one.boot_us)
                most = max(most, abs(by_boot - (other.wall - one.wall)))
        return most

    def compare_rest(self) -> None:
        """What is open, and whether there are rows that no receipt granted."""
        for held in self._replay.leases.values():
            self.compare(held)
        for name, apart in self._apart.items():
            if apart > self._replay.stepped:
                what = "began or ended at another time by the boot hand"
                self._replay.find(f"by the table of leases {name} {what}")
        rows = sum(1 for _ in self._snapshot.leases.rows())
        if rows != self._replay.granted:
            granted = self._replay.granted
            self._replay.find(f"the table of leases has {rows} rows, the receipts grant {granted}")
            self._name_strangers()

    def _name_strangers(self) -> None:
        for seq in self._snapshot.leases.rows():
            with suppress(Exception):
                if self._snapshot.receipt(seq).type == "profile_escalation":
                    continue
            self._replay.find(f"the table of leases has {lease_id(seq)}, which no receipt granted")


def _equally_long(row: Lease) -> bool:
    """Whether both hands give a lease the same length, where they can be compared."""
    if row.renewals or row.granted.boot_id != row.limit.boot_id:
        return True
    by_boot = timedelta(microseconds=row.limit.boot_us - row.granted.boot_us)
    return by_boot == row.limit.wall - row.granted.wall


def _within_limit(row: Lease) -> bool:
    """Whether what idleness may end ends by the limit on both hands, and all else at it."""
    if row.idle_ttl is None:
        return row.deadline == row.limit
    same_boot = row.deadline.boot_id == row.limit.boot_id
    by_boot = not same_boot or row.deadline.boot_us <= row.limit.boot_us
    return by_boot and row.deadline.wall <= row.limit.wall


def _said(held: Held) -> dict[str, object]:
    return {
        "principal": held.principal,
        "profile": held.profile,
        "rule": held.rule,
        "trigger": held.trigger,
        "parent": held.parent,
        "granted_at": held.granted_at,
        "expires_at": held.expires_at,
        "ends_at": held.ends_at,
        "max_uses": held.max_uses,
        "idle_ttl": held.idle_ttl,
        "uses": held.uses,
        "renewals": held.renewals,
        "ended_at": held.ended_at,
        "ending": held.ending,
        "unseated": held.unseated,
    }


def _written(row: Lease) -> dict[str, object]:
    return {
        "principal": row.principal,
        "profile": row.profile,
        "rule": row.rule,
        "trigger": row.trigger,
        "parent": row.parent,
        "granted_at": row.granted_at,
        "expires_at": row.expires_at,
        "ends_at": row.ends_at,
        "max_uses": row.max_uses,
        "idle_ttl": row.idle_ttl,
        "uses": row.uses,
        "renewals": row.renewals,
        "ended_at": None if row.ended is None else row.ended.wall,
        "ending": row.ending,
        "unseated": row.unseated,
    }


class RequestRows:
    """The same for the table of requests, and for what was handed in for them."""

    def __init__(self, replay: Replay, snapshot: Snapshot) -> None:
        self._replay = replay
        self._table = snapshot.requests

    def compare(self, told: Told) -> None:
        """One request that has ended, or is open at the end."""
        row, name = self._table.named(told.request.id), f"the request of receipt {told.seq}"
        if row is None:
            self._replay.find(
                f"the table of requests has no row for {name}, or none that can be read"
            )
            return
        said: dict[str, tuple[object, object]] = {
            "seq": (told.seq, row.seq),
            "rule": (told.rule, row.rule),
            "state": (told.state, row.state),
            "opened": (told.opened_at, row.opened.wall),
            "waits": (told.waits_until, row.waits_until),
            "usable": (told.usable_until, row.usable_until),
            "deadline": (told.deadline, row.deadline.wall),
            "ended": (told.ended_at, None if row.ended is None else row.ended.wall),
            "statements": (tuple(told.statements.values()), row.statements),
        }
        if told.statements.keys() == {one.statement.id for one in row.statements}:
            taken = {one: told.taken[one] for one in told.statements}
            said["taken"] = (taken, self._table.taken(told.seq))
        if not told.reopened and told.usable_until is None and not _waits_equally(row):
            self._replay.find(f"the table of requests gives {name} another time by the boot hand")
        differing = [key for key, (receipts, written) in said.items() if receipts != written]
        if differing:
            told_ = ", ".join(differing)
            self._replay.find(f"the table of requests is wrong on {name}: {told_}")

    def compare_rest(self) -> None:
        """What is open, and whether there are rows that no receipt opened."""
        for told in self._replay.requests.open.values():
            self.compare(told)
        rows, opened = self._table.rows(), self._replay.requests.opened
        if rows != opened:
            self._replay.find(f"the table of requests has {rows} rows, the receipts open {opened}")


def compare_tables(replay: Replay, snapshot: Snapshot) -> None:
    """The tables that are small enough to be compared whole."""
    written = dict(snapshot.statements())
    for statement in sorted(written.keys() ^ replay.used.keys()):
        where = "has what no receipt used" if statement in written else "lacks what was used here"
        replay.find(
            f"the table of used statements {where}: {statement}", replay.used.get(statement)
        )
    for statement in sorted(written.keys() & replay.used.keys()):
        if written[statement] != replay.used[statement]:
            seq = replay.used[statement]
            replay.find(f"the table of used statements is wrong on {statement}", seq)
    if dict(snapshot.answers()) != replay.answered:
        replay.find("the table of answered commands is not what the receipts answered")
    if {one.id: one for one in snapshot.budgets()} != replay.budgets:
        replay.find("the table of budgets is not what the receipts allocated and charged")
    if snapshot.pushed.rows() != replay.pushed.rows:
        replay.find("the table of pushed attestations is not what the receipts took")
    unequal = (one.id for one in snapshot.locks.every() if not _lock_hands(one))
    what = "another length by the boot hand"
    replay.find_all((f"the table of locks gives {name} {what}" for name in unequal), None)
    if {one.id: _lock(one) for one in snapshot.locks.every()} != {
        name: _lock(one) for name, one in replay.locks.every.items()
    }:
        replay.find("the table of locks is not what the receipts set, lifted and ended")
    replay.find_all(_fall_faults(replay, snapshot), None)
    drill = snapshot.drill()
    until = drill.until.wall if drill is not None and drill.until is not None else None
    if (until, drill is not None and drill.off) != (replay.drill_until, replay.drill_off):
        replay.find("the drill's mode in the file is not what the receipts switched")
    laws = snapshot.laws()
    # The law is stored under the receipt that put it in force.
    if laws != tuple(replay.laws):
        replay.find("the constitutions in the file are not those that the receipts put in force")


def _fall_faults(replay: Replay, snapshot: Snapshot) -> Iterator[str]:
    """Whether the table of falls holds each lock that owes ends, as the receipts have it."""
    fallen = [one for one in replay.leases.values() if one.felled is not None]
    said = {one.felled.seq: one.felled for one in fallen if one.felled is not None}
    written = {one.lock.seq: one for one in snapshot.falls.every()}
    if said.keys() != written.keys():
        yield "the table of falls is not of the locks that still owe ends"
        return
    for held in fallen:
        assert held.felled is not None
        fall = written[held.felled.seq]
        ruling = replay.proven.locked.get(fall.lock.id)
        if not (fall.after < held.seq and fall.covers(held.profile)):
            yield f"by the table of falls {lease_id(held.seq)} did not fall by {fall.lock.id}"
        elif (fall.actor, fall.proof) != ruling:
            yield f"the table of falls says otherwise than its receipt how {fall.lock.id} is proven"


def _waits_equally(row: Asked) -> bool:
    """Whether both hands say the same of how long a request waits."""
    by_boot = timedelta(microseconds=row.deadline.boot_us - row.opened.boot_us)
    same_boot = row.deadline.boot_id == row.opened.boot_id
    return same_boot and by_boot == row.deadline.wall - row.opened.wall


def _lock_hands(lock: Lock) -> bool:
    """Whether both hands give a lock the same length."""
    until, began = lock.until, lock.locked
    if until is None:
        return True
    by_boot = timedelta(microseconds=until.boot_us - began.boot_us)
    return until.boot_id == began.boot_id and by_boot == until.wall - began.wall


def _lock(lock: Lock) -> tuple[object, ...]:
    """What receipts say of a lock; where a boot hand stood is not in them."""
    until = None if lock.until is None else lock.until.wall
    told = (lock.scope, lock.name, lock.by, lock.reason, lock.state)
    return (*told, lock.locked.wall, until)


def compare_head(replay: Replay, head: Head) -> None:
    """The head: the tree, and what it knows of time."""
    mark = head.watermark
    if head.tree != replay.tree:
        replay.find("the head's tree is not the tree over the receipts")
    pairs = {
        "newest_us": (mark.newest.wall if mark.newest else None, replay.last_at),
        "voided_below": (mark.voided_below, replay.voided_below),
        "held_until_us": (mark.held_until, replay.held_until),
        "recovered_us": (mark.recovered.wall if mark.recovered else None, replay.recovered_at),
        "back": (mark.back, replay.back),
    }
    for name, (written, said) in pairs.items():
        if written != said:
            replay.find(f"the head's {name} is {written}, by the receipts it is {said}")
    if mark.newest is not None and replay.latest_at is not None:
        # Of the boot hand receipts say nothing, but that it counts from nought. What was seen in
        # earlier boots counts on against signatures, and for how long those ran they do not say.
        least, most = to_us(mark.newest.wall) - mark.newest.boot_us, to_us(replay.latest_at)
        if not least <= mark.ahead_us <= most:
            replay.find(f"the head's ahead_us is {mark.ahead_us}, needs {least} to {most}")
        if not least <= mark.signed_us:
            replay.find(f"the head's signed_us is {mark.signed_us}, needs {least} at least")
        if not least <= mark.since_us <= mark.signed_us:
            most = mark.signed_us
            replay.find(f"the head's since_us is {mark.since_us}, needs {least} to {most}")
