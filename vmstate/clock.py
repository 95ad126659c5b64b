"""The only reader of a clock.

Law 10: time comes in through this door alone. Everything else takes `now`, a `Moment`, as an
argument; whoever has none holds a `Clock`.

A moment has two hands. `wall` is what people and receipts speak of; it can be stepped either way.
`boot_us` counts microseconds since the machine started, asleep or not, and can't be stepped; it
means something only beside a moment of the same `boot_id`. A lease has a deadline on each hand,
and whichever passes first ends it (law 11).
"""

import contextlib
import sys
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
FROZEN_BOOT = "frozen"


def to_us(at: datetime) -> int:
    """Microseconds since 1970, exact: no float on the way."""
    return (at - _EPOCH) // _US


def from_us(us: int) -> datetime:
    """The aware UTC time that `to_us` counted."""
    return _EPOCH + us * _US


def duration_us(duration: timedelta) -> int:
    """A duration in whole microseconds."""
    return duration // _US


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of both hands, taken together."""

    wall: datetime
    boot_id: str
    boot_us: int


class Clock(Protocol):
    """Where moments come from."""

    def read(self) -> Moment:
        """Return the present moment, `wall` aware and in UTC."""
        ...


class SystemClock:
    """The machine's clocks; under freezegun or time-machine, their time on both hands.

    While time is frozen the boot hand follows the wall, in a boot of its own: leases from outside
    the freeze then fall back on their wall deadline, which is the one that a test moves.
    """

    def read(self) -> Moment:
        # `datetime` is looked up at each call: freezegun swaps this module's name for it, and a
        # function kept from before would go on telling real time.
        wall = datetime.now(UTC)
        if _is_frozen():
            return Moment(wall, FROZEN_BOOT, to_us(wall))
        return Moment(wall, _boot_id(), _boot_us())


class VirtualClock:
    """A clock that moves only when told to; both hands can be made to misbehave."""

    def __init__(self, start: datetime) -> None:
        self._wall = start
        self._boot_us = 0
        self._boots = 0

    def read(self) -> Moment:
        return Moment(self._wall, f"virtual-{self._boots}", self._boot_us)

    def move_to(self, at: datetime) -> None:
        """Let time pass until `at` on both hands; raises ValueError if that is in the past."""
        if at < self._wall:
            raise ValueError(f"time moves forward only: {at} is before {self._wall}")
        self._boot_us += duration_us(at - self._wall)
        self._wall = at

    def advance(self, duration: timedelta) -> None:
        """Let `duration` pass on both hands."""
        self.move_to(self._wall + duration)

    def step_wall(self, step: timedelta) -> None:
        """Set the wall hand forward or back, as an operator or a time server would."""
        self._wall += step

    def reboot(self, *, down_for: timedelta, wall_error: timedelta = timedelta()) -> None:
        """Start a new boot after `down_for`, with the wall hand wrong by `wall_error`."""
        self._boots += 1
        self._boot_us = 0
        self._wall += down_for + wall_error


def _is_frozen() -> bool:
    """Whether freezegun or time-machine is in charge; neither is imported to find out."""
    if datetime.__name__ == "FakeDatetime":
        return True
    travel = sys.modules.get("time_machine")
    return travel is not None and bool(travel.escape_hatch.is_travelling())


if sys.platform == "linux":

    def _boot_us() -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

    @cache
    def _boot_id() -> str:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # A time namespace shifts CLOCK_BOOTTIME and keeps the boot id, so both name the hand.
        with contextlib.suppress(OSError):
            boot = f"{boot}/{Path('/proc/self/ns/time').readlink()}"
        return boot

else:
    # No boot-time clock that every process of the machine shares: the hand counts within this
    # process alone, and leases of other processes go by the wall.
    def _boot_us() -> int:
        return time.monotonic_ns() // 1000

    @cache
    def _boot_id() -> str:
        return f"process-{uuid.uuid4().hex}"
