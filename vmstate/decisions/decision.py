"""What was decided: the receipts to be written, and the lease that each of them changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from vmstate.canonical import Json
from vmstate.clock import Moment
from vmstate.constitution.unmet import Unmet
from vmstate.leases.lease import Lease, LeaseStack
from vmstate.leases.watermark import Watermark
from vmstate.signing import Signed


@dataclass(frozen=True, slots=True)
class State:
    """What a ledger knows that bears on one principal.

    `record` holds the leases of everybody with the same person behind them, of profiles that have
    a cool-down or a hold cap, as far back as either can reach. `used` holds the ids of handed-in
    statements that counted before.
    """

    principal: str
    stack: LeaseStack
    next_seq: int
    record: tuple[Lease, ...] = ()
    used: frozenset[str] = frozenset()

    @property
    def watermark(self) -> Watermark:
        return self.stack.watermark


@dataclass(frozen=True, slots=True)
class Grounds:
    """On what a decision rests. `rule` is an escalation's name, else a path in the constitution."""

    rule: str
    facts: Mapping[str, str] = field(default_factory=dict)
    unmet: tuple[Unmet, ...] = ()
    approvals: tuple[Signed, ...] = ()
    attestations: tuple[Signed, ...] = ()
    request: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One receipt to be: fields named as in the receipt, and what it changes beside it.

    `opens`, `renews` and `ends` hold the lease as it is afterwards; at most one is set. `spends`
    are ids of statements that count from now on as used, `watermark` what time looks like after.
    """

    type: str
    outcome: str
    grounds: Grounds
    actor: str | None = None
    principal: str | None = None
    proof: str | None = None
    why: str = ""
    due: datetime | None = None
    lease: str | None = None
    parent: str | None = None
    trigger: str | None = None
    ending: str | None = None
    from_profile: str | None = None
    to_profile: str | None = None
    expires_at: datetime | None = None
    ttl_requested_us: int | None = None
    clipped_by: str | None = None
    ended_via: str | None = None
    detail: Mapping[str, Json] | None = None
    reversible: bool = False
    opens: Lease | None = None
    renews: Lease | None = None
    ends: Lease | None = None
    spends: tuple[str, ...] = ()
    watermark: Watermark | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """`entries` in the order in which they are written; the last one answers the command.

    What comes before it was owed already: a clock put on the record, leases that were overdue.
    """

    entries: tuple[Entry, ...]
    now: Moment

    @property
    def answer(self) -> Entry:
        return self.entries[-1]

    @property
    def granted(self) -> bool:
        return self.answer.outcome != "denied"
