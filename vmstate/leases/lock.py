"""A lock: what it covers has ended, and nothing of it is had again while it stands.

It covers one person under each of their names, a profile and every profile that includes it, or
everybody. It stands in `[locked, until)`, or until it is lifted. Lifting restores nothing.

A lock takes away, so it errs towards standing: in the boot that it was made in, its time is counted
by the hand that nobody can set; after a reboot only the wall is left.
"""

from dataclasses import dataclass
from typing import Literal

from vmstate.canonical import format_at
from vmstate.clock import Moment
from vmstate.constitution.law import Constitution
from vmstate.constitution.people import People

Scope = Literal["principal", "profile", "all"]
SCOPES: tuple[Scope, ...] = ("principal", "profile", "all")
State = Literal["locked", "lifted", "expired"]
SWEPT_AT_ONCE = 1_000  # ends that a lock writes itself: a tenth of a second; the rest are owed


@dataclass(frozen=True, slots=True)
class Lock:
    """`name` is the principal or profile that is locked, empty where everybody is.

    `seq` is the number of the receipt that locked, `until` when it ends by itself, None for never.
    """

    seq: int
    scope: Scope
    name: str
    by: str
    reason: str
    locked: Moment
    until: Moment | None = None
    state: State = "locked"

    @property
    def id(self) -> str:
        return lock_id(self.seq)

    def stands(self, now: Moment) -> bool:
        """Whether it is in force at `now`, whatever was put on record."""
        if self.state != "locked":
            return False
        if self.until is None:
            return True
        if self.until.boot_id == now.boot_id:
            return now.boot_us < self.until.boot_us
        return now.wall < self.until.wall

    def covers(self, law: Constitution, people: People, principal: str, profile: str) -> bool:
        """Whether it keeps `principal` from holding `profile`."""
        match self.scope:
            case "all":
                return True
            case "principal":
                return people.person(principal) == people.person(self.name)
            case "profile":
                return law.includes(profile, self.name)

    @property
    def subject(self) -> str:
        """Who or what is locked, as a person would say it."""
        return self.name if self.scope != "all" else "everybody"

    @property
    def words(self) -> str:
        """`lock-12 on everybody until it is lifted: the keys were stolen`."""
        until = "it is lifted" if self.until is None else format_at(self.until.wall)
        why = f": {self.reason}" if self.reason else ""
        return f"{self.id} on {self.subject} until {until}{why}"


@dataclass(frozen=True, slots=True)
class Fall:
    """A lock on many that ended more than is on record yet.

    What it covers of the leases granted before it is over since it was set, whether it was lifted
    since or not: `profiles` are those that it covers, None for all. The ends of leases up to number
    `after` are on record. `actor`, `proof` and `why` are what its own receipt says.
    """

    lock: Lock
    proof: str | None
    profiles: frozenset[str] | None
    after: int

    @property
    def actor(self) -> str:
        return self.lock.by

    @property
    def why(self) -> str:
        return self.lock.reason

    def covers(self, profile: str) -> bool:
        return self.profiles is None or profile in self.profiles


def lock_id(seq: int) -> str:
    """The id of the lock that receipt `seq` set."""
    return f"lock-{seq}"
