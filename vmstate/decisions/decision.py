"""What was decided: the receipts to be written, and the lease that each of them changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from vmstate.canonical import Json
from vmstate.clock import Moment
from vmstate.constitution.law import Constitution
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.pending import Asked
from vmstate.leases.lease import Lease, LeaseStack
from vmstate.leases.lock import Lock
from vmstate.leases.watermark import Watermark, passed
from vmstate.signing import Attestation, Signed
from vmstate.treasury.budget import Budget


@dataclass(frozen=True, slots=True)
class DrillState:
    """The mode of a drill's ledger: `until` when it is over by itself, `off` once it was ended."""

    until: Moment | None = None
    off: bool = False

    def is_on(self, now: Moment) -> bool:
        """Whether the drill is running at `now`."""
        return self.until is not None and not self.off and not passed(self.until, now)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a sensor pushed about somebody ahead of any request, by receipt `seq`.

    `until` is the last that it stands against what the sensor said before, by the law under which
    it was taken: as long as any of its facts is young enough.
    """

    seq: int
    signed: Signed
    until: datetime

    @property
    def statement(self) -> Attestation:
        assert isinstance(self.signed.statement, Attestation)
        return self.signed.statement


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the ledger says of itself at its own place: each scroll's root, and the checkpoint."""

    arguments: Mapping[str, str]
    proofs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class State:
    """What a ledger knows that bears on one principal and what they ask.

    `record` holds the leases of everybody with the same person behind them, of profiles that have a
    cool-down or a hold cap, as far back as either can reach; `kin` the open leases of that person's
    other names, of which some may be over without a receipt. `used` holds the ids of handed-in
    statements that counted before, `budgets` those that the command is about, `allocated` the sum
    of all. `drill` is None in a live ledger. `locks` are those without a recorded end. `waiting`
    holds the open requests of everybody with the same person behind them, `asked` the one that the
    command is about, open or over. `contexts` holds, where the command is an act, the digest of the
    facts that an open lease was granted on, by the lease's number; none for those without facts.
    `pushed` holds, where the command may rest on it or adds to it, the newest that each sensor
    pushed about the principal, whether it still counts or not. `anchor` is there where the command
    is the act that puts it on record.
    """

    principal: str
    stack: LeaseStack
    next_seq: int
    record: tuple[Lease, ...] = ()
    kin: tuple[LeaseStack, ...] = ()
    used: frozenset[str] = frozenset()
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    allocated: int = 0
    drill: DrillState | None = None
    locks: tuple[Lock, ...] = ()
    waiting: tuple[Asked, ...] = ()
    asked: Asked | None = None
    contexts: Mapping[int, str] = field(default_factory=dict)
    pushed: tuple[Pushed, ...] = ()
    anchor: Anchor | None = None

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

    `opens`, `renews` and `ends` hold the lease as it is afterwards; at most one is set. `budget`
    is the budget as it is afterwards, `drill` the drill's mode, `lock` the lock, `asks` a request,
    `watermark` what time looks like, `law` the one that rules from then on, `pushes` what a sensor
    says from then on, `sets_back` that a signature made after it can say so. `touches` are leases
    whose use or sign of life this is, as they are afterwards. `spends` are ids of statements that
    count from now on as used. `scroll` is set for acts alone: the constitution says where their
    receipts go.
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
    touches: tuple[Lease, ...] = ()
    act: str | None = None
    result: str | None = None
    setup: bool = False
    scroll: str | None = None
    cost: tuple[Json, ...] = ()
    proofs: Mapping[str, str] = field(default_factory=dict)
    spends: tuple[str, ...] = ()
    budget: Budget | None = None
    drill: DrillState | None = None
    lock: Lock | None = None
    watermark: Watermark | None = None
    asks: Asked | None = None
    law: Constitution | None = None
    pushes: Pushed | None = None
    sets_back: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """`entries` in the order in which they are written; `answer` is the one among them that
    answers the command.

    What comes before it was owed already: a clock put on the record, leases that were overdue.
    What comes after it is what it brought about: the end of a lease that it used up.
    """

    entries: tuple[Entry, ...]
    answer: Entry
    now: Moment

    def kept(self, proofs: Mapping[str, str]) -> "Decision":
        """The decision, with `proofs` in the answer's receipt."""
        answer = replace(self.answer, proofs={**self.answer.proofs, **proofs})
        entries = tuple(answer if one is self.answer else one for one in self.entries)
        return replace(self, entries=entries, answer=answer)

    @property
    def granted(self) -> bool:
        return self.answer.outcome != "denied"
