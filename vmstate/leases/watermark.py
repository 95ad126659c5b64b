"""What a ledger last knew of time, and what a clock that disagrees has lost.

Law 11: a clock stepped back revives nothing. Within one boot the boot hand can't be stepped, so
each lease's second deadline is enough. After a reboot only the wall is left; if it reads earlier
than the newest receipt, nobody can tell how long a lease of an earlier boot has run. Those leases
have ended, and nothing is granted until the wall has passed that receipt or a recovery says
otherwise on the record.

The present moment is never pulled forward to a time once seen: a bogus future must not stick.

A signature has one deadline, on the wall. Within a boot the latest that the wall was ever ahead of
the boot hand goes on counting against it, so what was too old stays so, wherever the wall is set
after. Alone that would let a clock that was ahead once outlaw every signature until time has caught
up. No reading tells a clock that was set right from one that was set back; but what names a receipt
was signed after it was written. So a signature that names the receipt of the newest step back is
held against what the wall did since then, and every other against all that was seen, or since a
recovery said that the clock is right. Nothing is revived: before that receipt was written nobody
could know its id, and the next step back puts another in its place. A reboot is no way round it:
the wall that the last boot had seen counts on in the next, and a boot that begins before the newest
receipt is such a step.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from vmstate.canonical import format_at
from vmstate.clock import FROZEN_BOOT, Moment, duration_us, from_us, to_us

BEHIND_FOR = timedelta(seconds=1)  # a real-time clock kept by a battery has whole seconds
STEP_US = 2_000_000  # a time server slews what is less, on both hands alike
SLEWED_US = 60_000_000  # taken away bit by bit, so much is said as well: it would add up


def elapsed(earlier: Moment, later: Moment) -> timedelta:
    """How much time passed between two moments; never less than none.

    Within one boot the boot hand says it; across boots the wall is all there is.
    """
    if earlier.boot_id == later.boot_id:
        return timedelta(microseconds=max(0, later.boot_us - earlier.boot_us))
    return max(timedelta(), later.wall - earlier.wall)


@dataclass(frozen=True, slots=True)
class SetBack:
    """The clock `reads` an earlier time than this ledger has `seen`, in this boot or before it.

    What is signed now counts if it names `after`; None until the step back is on record.
    """

    seen: datetime
    reads: datetime
    after: str | None

    @property
    def message(self) -> str:
        """What was seen, and what to do."""
        return (
            f"the clock reads {format_at(self.reads)}, this ledger has seen {format_at(self.seen)}:"
            " what was signed before the clock was set back counts no more, sign it again; or "
            "vmstate recover --clock"
        )


@dataclass(frozen=True, slots=True)
class Watermark:
    """`newest` is when the newest receipt was written; None in a ledger that is being made.

    Leases whose grant has a `seq` below `voided_below` ended, unless granted in `voided_except`.
    `held_until` is the wall time before which nothing is granted, `recovered` when that was lifted.
    `ahead_us` is how far, in microseconds, the wall was ahead of the boot hand at most, in the boot
    of `newest`: deadlines of earlier boots have passed once any wall seen in this one has.
    `signed_us` is the same for signatures, where a recovery begins it anew and a reboot does not,
    and `since_us` for those that name `back`: the id of the receipt that put the newest step back
    on record, or "".
    """

    newest: Moment | None = None
    ahead_us: int = 0
    voided_below: int = 0
    voided_except: str = ""
    held_until: datetime | None = None
    recovered: Moment | None = None
    signed_us: int = 0
    since_us: int = 0
    back: str = ""

    def is_behind(self, now: Moment) -> bool:
        """Whether `now` is in a new boot that began, by this clock, before the newest receipt.

        Asked of the boot's beginning, because a clock in the past catches up with time: what it
        lost sight of stays lost until something is written.
        """
        newest = self.newest
        return (
            newest is not None
            and newest.boot_id != now.boot_id
            and _began(now) < newest.wall - BEHIND_FOR
        )

    def voids(self, seq: int, boot_id: str, now: Moment) -> bool:
        """Whether a lease granted by receipt `seq` in that boot was lost to a clock in the past."""
        lost = seq < self.voided_below and boot_id != self.voided_except
        return lost or (boot_id != now.boot_id and self.is_behind(now))

    def refuses_grants(self, now: Moment) -> datetime | None:
        """The wall time that must pass before anything is granted, or None."""
        until = [] if self.held_until is None else [self.held_until]
        if self.is_behind(now) and self.newest is not None:
            until.append(self.newest.wall)
        return max((one for one in until if now.wall < one), default=None)

    def latest_wall(self, now: Moment) -> datetime:
        """The latest that the wall can be said to have reached in this boot."""
        if self.newest is None or self.newest.boot_id != now.boot_id:
            return now.wall
        return self._reached(self.ahead_us, now)

    def signed_wall(self, now: Moment) -> datetime:
        """The latest that counts against a signature which may be older than a step back."""
        return self._reached(self.signed_us, now)

    def wall_since(self, now: Moment) -> datetime:
        """The latest that counts against a signature which names `back`."""
        return self._reached(self.since_us, now)

    def set_back(self, now: Moment) -> SetBack | None:
        """Whether the wall reads so much less than was seen that signatures have to say more."""
        seen = self.signed_wall(now)
        if seen - now.wall <= timedelta(microseconds=STEP_US):
            return None
        unsaid = self.is_behind(now) or steps_back(self.step_us(now))
        said = self.back and not unsaid
        return SetBack(seen, now.wall, self.back if said else None)

    def _reached(self, ahead_us: int, now: Moment) -> datetime:
        """Of an earlier boot it is known how far it was when the newest receipt was written."""
        if self.newest is None:
            return now.wall
        known = now if self.newest.boot_id == now.boot_id else self.newest
        return max(now.wall, from_us(ahead_us + known.boot_us))

    def left(self, deadline: Moment, now: Moment) -> timedelta:
        """How long until `deadline` by the hand that reaches it first; none or less once passed.

        A deadline of another boot has its wall hand only, so that hand is not let go back.
        """
        if deadline.boot_id != now.boot_id:
            return deadline.wall - self.latest_wall(now)
        by_boot = timedelta(microseconds=deadline.boot_us - now.boot_us)
        return min(deadline.wall - now.wall, by_boot)

    def step_us(self, now: Moment) -> int | None:
        """How far the wall was stepped since the newest receipt, if it was; else None."""
        newest = self.newest
        if newest is None:
            return None
        step = to_us(now.wall) - to_us(newest.wall)
        if newest.boot_id == now.boot_id:
            step -= now.boot_us - newest.boot_us
            slewed = self.wall_since(now) - now.wall
            if slewed > timedelta(microseconds=SLEWED_US):
                return min(step, -duration_us(slewed))
            stepped = abs(step) > STEP_US or now.wall < newest.wall
        elif self.is_behind(now):
            return to_us(_began(now)) - to_us(newest.wall)
        else:
            stepped = now.wall < newest.wall
        return step if stepped else None

    def after_regression(self, now: Moment, seq: int) -> "Watermark":
        """The mark once receipt `seq` has put a clock in the past on the record."""
        held = self.refuses_grants(now)
        return replace(self, voided_below=seq, voided_except=now.boot_id, held_until=held)

    def after_recovery(self, now: Moment) -> "Watermark":
        """The mark once a recovery has said that `now` is right."""
        ahead_us, here = to_us(now.wall) - now.boot_us, self.after_receipt(now)
        return replace(here, held_until=None, recovered=now, signed_us=ahead_us, since_us=ahead_us)

    def after_receipt(self, now: Moment, *, back: str | None = None) -> "Watermark":
        """The mark once something was written at `now`; `back` is its id if that `steps_back`."""
        since = now.wall if back is not None else self.wall_since(now)
        walls = (self.latest_wall(now), self.signed_wall(now), since)
        ahead, signed, since_us = (to_us(wall) - now.boot_us for wall in walls)
        marked = replace(self, newest=now, ahead_us=ahead, signed_us=signed, since_us=since_us)
        return marked if back is None else replace(marked, back=back)

    def since(self, then: Moment, now: Moment) -> timedelta:
        """`elapsed`, for waits: a `then` from a bogus future counts from the recovery after it."""
        if then.boot_id != now.boot_id and then.wall > now.wall and self.recovered is not None:
            then = self.recovered
        return elapsed(then, now)


def steps_back(step_us: int | None) -> bool:
    """Whether a step within one boot is one after which signatures have to be made anew."""
    return step_us is not None and step_us < -STEP_US


def _began(now: Moment) -> datetime:
    """When this boot began, by the wall as it reads now; frozen time has no beginning."""
    if now.boot_id == FROZEN_BOOT:
        return now.wall
    return now.wall - timedelta(microseconds=now.boot_us)


def passed(deadline: Moment, now: Moment) -> bool:
    """Whether `deadline` has passed by either hand."""
    by_boot = deadline.boot_id == now.boot_id and deadline.boot_us <= now.boot_us
    return by_boot or deadline.wall <= now.wall


def later(moment: Moment, by: timedelta) -> Moment:
    """The moment `by` after `moment`, on both hands."""
    return Moment(moment.wall + by, moment.boot_id, moment.boot_us + duration_us(by))
