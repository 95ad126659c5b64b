"""Where somebody stands, as of one moment."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from vmstate.clock import Moment
from vmstate.leases.lease import Lease
from vmstate.leases.watermark import Watermark


@dataclass(frozen=True, slots=True)
class Standing:
    """Where somebody stands at `now`: the profile held, and the live leases, the lowest first."""

    principal: str
    profile: str
    leases: tuple[Lease, ...]
    now: Moment
    watermark: Watermark

    def left(self, lease: Lease) -> timedelta:
        """How long one of these leases still lasts if nothing more is done under it."""
        return self.watermark.left(lease.deadline, self.now)

    def longest(self, lease: Lease) -> timedelta:
        """How long one of these leases still lasts at most."""
        return self.watermark.left(lease.limit, self.now)

    @property
    def expires_at(self) -> datetime | None:
        """When the topmost lease ends at the latest; None at the baseline."""
        return self.leases[-1].expires_at if self.leases else None
