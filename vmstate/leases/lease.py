"""Who holds what, and until when.

Law 3: a lease is live in `[granted_at, expires_at)`, decided when read. It has that deadline on
both hands of the clock, and whichever passes first ends it.

Law 5: a principal's leases are a stack. Each was taken from the profile below it and cut to the
end of the lease below it; a lease ends with its parent.

A rule may bound a lease in two more ways. `max_uses` acts and it is spent; `idle_ttl` after its
grant, its renewal or the last thing done under it, it is over. A use is an act on the record, and
it is of the lowest lease that gives the profile which the act takes. What is done under a lease, a
climb from it and a renewal above it among that, is a sign of life of every lease that it stands on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from vmstate.clock import Moment, duration_us
from vmstate.leases.lock import Fall
from vmstate.leases.watermark import Watermark, elapsed, passed

EXPIRED = "timeout_expired"
IDLE = "idle"
USES_SPENT = "uses_spent"
PARENT_ENDED = "parent_ended"
CLOCK_REGRESSION = "clock_regression"
DRILL_ENDED = "drill_ended"
AMENDED = "amended"
LOCKED = "locked"
FOREVER_US = 2**62  # beyond any boot
# Ends that no constitution names, because nobody asks for them.
ENGINE_ENDINGS = (
    PARENT_ENDED,
    CLOCK_REGRESSION,
    DRILL_ENDED,
    AMENDED,
    LOCKED,
    "quarantined",
    "idle",
    "uses_spent",
)


@dataclass(frozen=True, slots=True)
class Lease:
    """One rung, held by `principal`.

    `seq` is the number of the receipt that granted it: the fencing token for whoever acts on it.
    `limit` is its end on both hands, absolute; the boot hand means something in that boot only.
    `deadline` is when it ends unless something is done under it: `limit`, or earlier where the
    rule has an `idle_ttl`. `max_uses` and `idle_ttl` are the rule's as they were at the grant or
    the last renewal; None where there is no such bound.
    `ended` is the effective end (the deadline for a time-out), `ending` why, both None while open.
    `unseated` marks one that a drill's set-up ended, which starts no cool-down.
    """

    seq: int
    principal: str
    profile: str
    rule: str
    trigger: str
    parent: str | None
    granted: Moment
    limit: Moment
    deadline: Moment
    renewals: int = 0
    max_uses: int | None = None
    idle_ttl: timedelta | None = None
    uses: int = 0
    ended: Moment | None = None
    ending: str | None = None
    unseated: bool = False

    @property
    def id(self) -> str:
        return lease_id(self.seq)

    @property
    def granted_at(self) -> datetime:
        return self.granted.wall

    @property
    def expires_at(self) -> datetime:
        """When it ends at the latest, whatever is done under it."""
        return self.limit.wall

    @property
    def ends_at(self) -> datetime:
        """When it ends if nothing more is done under it."""
        return self.deadline.wall

    @property
    def is_spent(self) -> bool:
        """Whether it was used as often as it may be."""
        return self.max_uses is not None and self.uses >= self.max_uses

    def alive(self, now: Moment, left: timedelta) -> "Lease":
        """The lease after a sign of life at `now`, when its limit is `left` away."""
        if self.idle_ttl is None:
            return self
        # The boot hand is cut to what is left by either hand: the limit may be of another boot.
        wall = min(self.limit.wall, now.wall + self.idle_ttl)
        boot_us = now.boot_us + duration_us(min(self.idle_ttl, left))
        return replace(self, deadline=Moment(wall, now.boot_id, boot_us))


def lease_id(seq: int) -> str:
    """The id of the lease that receipt `seq` granted."""
    return f"lease-{seq}"


@dataclass(frozen=True, slots=True)
class Overdue:
    """A lease that is over and not yet recorded as ended.

    `due` is when it was over by the wall; `end` the same on both hands, or None if no clock can be
    believed about it, and its end is when that is recorded. `fall` is the lock that ended it.
    """

    lease: Lease
    ending: str
    below: str
    due: datetime
    end: Moment | None
    late_for: timedelta
    fall: Fall | None = None


@dataclass(frozen=True, slots=True)
class Certain:
    """A profile, and for how long nothing but something written can change that it is held.

    It holds from `since` to before `until` on the wall (None: without end), and before `until_boot`
    on the boot hand; another boot, or a wall that went back, has to ask again.
    """

    profile: str
    boot_id: str
    since: datetime
    until: datetime | None
    until_boot: int

    def holds(self, now: Moment) -> bool:
        """Whether the profile is still certain at `now`."""
        return (
            now.boot_id == self.boot_id
            and self.since <= now.wall
            and now.boot_us < self.until_boot
            and (self.until is None or now.wall < self.until)
        )


@dataclass(frozen=True, slots=True)
class LeaseStack:
    """The open leases of one principal, the lowest first.

    `closes` is when a drill's ledger ends everything in it; None in a live one. `felled` are those
    that a lock has ended without a receipt yet, by their number.
    """

    baseline: str
    watermark: Watermark
    leases: tuple[Lease, ...] = ()
    closes: Moment | None = None
    felled: Mapping[int, Fall] = field(default_factory=dict)

    def standing(self, now: Moment) -> tuple[Lease, ...]:
        """The leases that are live at `now`: up to the first that is not, and none above it."""
        held: list[Lease] = []
        for lease in self.leases:
            if self._is_over(lease, now):
                break
            held.append(lease)
        return tuple(held)

    def left(self, lease: Lease, now: Moment) -> timedelta:
        """How long `lease` still lasts if nothing is done under it; none or less if it is over."""
        return self.watermark.left(lease.deadline, now)

    def longest(self, lease: Lease, now: Moment) -> timedelta:
        """How long `lease` still lasts at most."""
        return self.watermark.left(lease.limit, now)

    def profile(self, now: Moment) -> str:
        """The profile held at `now`."""
        standing = self.standing(now)
        return standing[-1].profile if standing else self.baseline

    def certain(self, now: Moment) -> Certain | None:
        """The profile held at `now` with the time over which that is certain.

        None where it is not: in a boot in which nothing was written yet, a wall that is set back
        could still show that leases of earlier boots were lost (law 11).
        """
        newest = self.watermark.newest
        if newest is None or newest.boot_id != now.boot_id:
            return None
        standing = self.standing(now)
        profile = standing[-1].profile if standing else self.baseline
        if not standing:
            return Certain(profile, now.boot_id, now.wall, None, FOREVER_US)
        ends = [lease.deadline.wall for lease in standing]
        left = min(self.left(lease, now) for lease in standing)
        until_boot = now.boot_us + duration_us(left)
        if self.closes is not None:
            ends.append(self.closes.wall)
            same = self.closes.boot_id == now.boot_id
            until_boot = min(until_boot, self.closes.boot_us if same else until_boot)
        return Certain(profile, now.boot_id, now.wall, min(ends), until_boot)

    def overdue(self, now: Moment) -> Iterator[Overdue]:
        """What has ended by `now` without a receipt, the top of the stack first."""
        found: list[Overdue] = []
        for lease in self.leases[len(self.standing(now)) :]:
            one = self._overdue(lease, now)
            found.append(_with_parent(one, found[-1], now) if found else one)
        yield from reversed(found)

    def _overdue(self, lease: Lease, now: Moment) -> Overdue:
        """`lease` as if it stood on nothing."""
        fall = self.felled.get(lease.seq)
        # As of the lock: whatever the clock has shown since, what it ended then had not run out.
        if fall is not None and not passed(lease.deadline, fall.lock.locked):
            at = fall.lock.locked
            return Overdue(lease, LOCKED, self.below(lease), at.wall, at, elapsed(at, now), fall)
        ending = self._ending_of(lease, now)
        due, late_for = lease.ends_at, -self.left(lease, now)
        if ending == DRILL_ENDED and self.closes is not None:
            due, late_for = self.closes.wall, now.wall - self.closes.wall
        end = lease.deadline if ending in {EXPIRED, IDLE} else None
        return Overdue(lease, ending, self.below(lease), due, end, max(late_for, timedelta()))

    def after_end(self, lease: Lease) -> "LeaseStack":
        """The stack without `lease`."""
        kept = tuple(other for other in self.leases if other.seq != lease.seq)
        return replace(self, leases=kept)

    def with_changed(self, *leases: Lease) -> "LeaseStack":
        """The stack with these leases as they are now."""
        changed = {lease.seq: lease for lease in leases}
        kept = tuple(changed.get(lease.seq, lease) for lease in self.leases)
        return replace(self, leases=kept)

    def alive_below(self, depth: int, now: Moment) -> tuple[Lease, ...]:
        """The lowest `depth` leases after a sign of life at `now`, those that it changes."""
        known = self.leases[:depth]
        alive = tuple(lease.alive(now, self.longest(lease, now)) for lease in known)
        return tuple(new for new, old in zip(alive, known, strict=True) if new != old)

    def after_use(self, lease: Lease, now: Moment) -> tuple[Lease, ...]:
        """What a use of `lease` at `now` changes: those it stands on, and `lease` as the last."""
        used = lease.alive(now, self.longest(lease, now))
        below = self.alive_below(self.leases.index(lease), now)
        return (*below, replace(used, uses=lease.uses + 1))

    def below(self, lease: Lease) -> str:
        """The profile that is left when `lease` ends."""
        depth = self.leases.index(lease)
        return self.leases[depth - 1].profile if depth else self.baseline

    def _is_over(self, lease: Lease, now: Moment) -> bool:
        if lease.seq in self.felled:
            return True
        voided = self.watermark.voids(lease.seq, lease.granted.boot_id, now)
        closed = self.closes is not None and passed(self.closes, now)
        return voided or closed or self.left(lease, now) <= timedelta()

    def _ending_of(self, lease: Lease, now: Moment) -> str:
        closed = self.closes is not None and passed(self.closes, now)
        if closed and self.closes is not None and self.closes.wall < lease.ends_at:
            return DRILL_ENDED
        if self.left(lease, now) <= timedelta():
            return IDLE if lease.ends_at < lease.expires_at else EXPIRED
        if self._is_over(lease, now):
            return CLOCK_REGRESSION
        return PARENT_ENDED


def _with_parent(one: Overdue, parent: Overdue, now: Moment) -> Overdue:
    """The end of a lease whose parent is over as well: not later than that one's."""
    due = min(one.due, parent.due)
    fell = one.ending == PARENT_ENDED or (parent.end is not None and parent.due < one.due)
    if not fell:
        return replace(one, due=due)
    end = parent.end if due <= now.wall else None
    return replace(one, ending=PARENT_ENDED, due=due, end=end, late_for=parent.late_for)
