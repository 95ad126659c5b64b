"""A lease as far as receipts tell: what a replay keeps of it while it is open."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from vmstate.canonical import parse_at
from vmstate.leases.lease import EXPIRED, IDLE, LOCKED, PARENT_ENDED, USES_SPENT
from vmstate.leases.lock import Lock
from vmstate.ledger.receipt import Receipt


@dataclass(slots=True)
class Held:
    """`expires_at` is its end at the latest, `ends_at` if nothing more is done under it.

    `ended_at` and `ending` are None while it is open. `context` is the digest of the facts that it
    was granted on, None where there were none. `felled` is the lock that ended it,
    where the receipt of that is owed.
    """

    seq: int
    principal: str
    profile: str
    rule: str
    trigger: str
    parent: str | None
    granted_at: datetime
    expires_at: datetime
    receipt_id: str
    ends_at: datetime
    max_uses: int | None = None
    idle_ttl: timedelta | None = None
    uses: int = 0
    renewals: int = 0
    children: int = 0
    ended_at: datetime | None = None
    ending: str | None = None
    unseated: bool = False
    context: str | None = None
    felled: Lock | None = None

    @property
    def over_at(self) -> datetime:
        """When it ends if nothing more is done under it, by a lock on many as well."""
        return self.ends_at if self.felled is None else min(self.ends_at, self.felled.locked.wall)

    @property
    def is_spent(self) -> bool:
        return self.max_uses is not None and self.uses >= self.max_uses

    def set_terms(self, detail: Mapping[str, Any] | None, at: datetime) -> None:
        """Take the bounds beside time that the receipt of a grant or a renewal names."""
        self.max_uses = None if detail is None else detail.get("max_uses")
        idle_us = None if detail is None else detail.get("idle_ttl_us")
        self.idle_ttl = None if idle_us is None else timedelta(microseconds=idle_us)
        self.alive(at)

    def alive(self, at: datetime) -> None:
        """A sign of life: what idleness would end lasts on."""
        self.ends_at = self.expires_at
        if self.idle_ttl is not None:
            self.ends_at = min(self.expires_at, at + self.idle_ttl)

    def clamp(self, detail: Mapping[str, Any], until: datetime, at: datetime) -> None:
        """Take the bounds that an amendment cut it to; a new one on idleness counts from then."""
        before = self.ends_at, self.idle_ttl
        self.expires_at = until
        self.set_terms(detail, at)
        if self.idle_ttl == before[1]:
            self.ends_at = before[0]
        self.ends_at = min(before[0], self.ends_at, until)

    def end(self, receipt: Receipt, set_back: timedelta) -> Iterator[str]:
        """Take the receipt of its end; says what in it does not fit.

        The wall was set back by `set_back` until now: a deadline on it that was so near may have
        passed by the other hand.
        """
        what, due = receipt.fields["what"], receipt.fields["due"]
        self.ending, self.unseated = what["ending"], what["setup"]
        ends_at = {EXPIRED: self.expires_at, IDLE: self.ends_at}.get(self.ending)
        if ends_at is not None and parse_at(due) != ends_at:
            yield f"says {receipt.lease!r} was due at another time than its deadline"
        if self.felled is not None and self.ending == LOCKED:
            yield from self._end_by_fall(due)
            return
        fall = self.felled
        if fall is not None and ends_at is not None and self.over_at < ends_at - set_back:
            yield f"says time ended {receipt.lease!r}, which {fall.id} had ended"
        if receipt.outcome == "reverted" and self.over_at <= receipt.at:
            yield f"gives {receipt.lease!r} back after its end"
        if self.ending == USES_SPENT and not self.is_spent:
            yield f"says the uses of {receipt.lease!r} were spent, it was used {self.uses}"
        if self.ending == PARENT_ENDED and due is not None:
            ends_at = min(parse_at(due), receipt.at)  # with what it stood on
        self.ended_at = receipt.at if ends_at is None else ends_at

    def _end_by_fall(self, due: str | None) -> Iterator[str]:
        assert self.felled is not None
        self.ended_at = self.felled.locked.wall
        if due is None or parse_at(due) != self.ended_at:
            yield f"says {self.felled.id} ended it at another time than it was set"
        if self.ends_at <= self.ended_at:
            yield f"says {self.felled.id} ended it, which was over before"


def keep_alive(leases: Mapping[str, Held], held: Held, at: datetime) -> None:
    """A sign of life of what `held` stands on."""
    below = leases.get(held.parent or "")
    while below is not None:
        below.alive(at)
        below = leases.get(below.parent or "")


def use_faults(leases: Mapping[str, Held], receipt: Receipt) -> Iterator[str]:
    """Take what was done under a lease for a use of it; says why it could not have been."""
    said, name = receipt.fields, receipt.lease
    held = leases.get(name or "")
    if held is None or held.principal != said["who"]["principal"]:
        yield f"was done under {name!r}, which is no open lease of who did it"
        return
    if held.over_at <= receipt.at:
        yield f"was done under {name!r} after its end"
    if held.is_spent:
        yield f"was done under {name!r}, whose uses were spent"
    held.uses += 1
    held.alive(receipt.at)
    keep_alive(leases, held, receipt.at)
