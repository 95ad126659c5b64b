"""The constitution as written: one frozen model for each table, and nothing derived.

What is absent is denied: a missing `[locks]` means that nobody locks. Tables are keyed, and a
rule's table name is its id in every receipt, denial and diff. People, reasons, approvals and facts
are typed guards under `needs`, never expressions, so that what a rule asks for can be proved.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vmstate import canonical
from vmstate.constitution.fields import (
    Account,
    Duration,
    Exact,
    Key,
    Line,
    Name,
    Pattern,
    Table,
    TokenDigest,
    Url,
    Word,
    Words,
)
from vmstate.constitution.tools import Server

ENDINGS = (
    "timeout_expired",
    "threat_resolved",
    "operator_release",
    "crisis_concluded",
    "sovereign_revoke",
)
SCROLLS = ("identity", "cognitive", "treasury", "guardian")
# Receipts of these types mean what vmstate did; an act that wrote one would be a forgery.
ENGINE_TYPES = frozenset(
    (
        "profile_escalation",
        "profile_deescalation",
        "lease_renewed",
        "auth_failure",
        "request",
        "approval",
        "attestation",
        "treasury_denial",
        "constitution_loaded",
        "constitution_amended",
        "drill_mode",
        "drill_pack",
        "lock",
        "lease_clamped",
        "key_rotation",
        "clock_anomaly",
        "quarantine",
        "recovery",
        "tool_call",
    )
)
# Acts that move units, and the receipts of these alone say that they did.
ALLOCATE, DEBIT = "treasury.allocate", "treasury.debit"
MONEY_TYPES = {"treasury_budget": ALLOCATE, "treasury_debit": DEBIT}
ANCHOR = "guardian.anchor"  # the act that says what the ledger says, and nothing of its caller's
HOLDER = "holder"  # in an ending's `by`: whoever holds the lease

Scroll = Literal["identity", "cognitive", "treasury", "guardian"]


class Heading(Table):
    """`[constitution]`: what this law is called, and the profile that needs no lease."""

    name: Word
    version: Line
    baseline: Word


class Profile(Table):
    """`[profiles.<name>]`: stands above another, and may do what that one may, and more."""

    symbol: Line = ""
    above: Word | None = None


class Act(Table):
    """`[acts]`: what may be done from `profile` up; with `receipt`, each time on the record."""

    profile: Word
    scroll: Scroll | None = None
    receipt: Word | None = None
    in_drill: Literal["dry_run", "simulated"] | None = None


class Fact(Table):
    """`[facts]`: what a requester may state; attested ones only beside a signature."""

    type: Literal["text", "decimal"] | None = None
    one_of: Annotated[tuple[Line, ...], Field(strict=False, min_length=1)] | None = None
    min: Exact | None = None
    max: Exact | None = None
    attested_by: Word | None = None
    max_age: Duration | None = None


class ReasonNeed(Table):
    min_length: Annotated[int, Field(ge=1, le=canonical.REASON_BYTES)]


class ApprovalNeed(Table):
    """`count` distinct people of these groups, never the requester or who stands for them."""

    instead: ClassVar[str] = "; stages are a list of such tables, [{ … }, { … }]"

    count: Annotated[int, Field(ge=1, le=16)]  # more signatures would not fit a receipt
    of: Words


# One after the other, in their order; the loader reads a lone table as a list of one.
Stages = Annotated[tuple[ApprovalNeed, ...], Field(strict=False, min_length=1, max_length=8)]


class FactNeed(Table):
    """Bounds include their ends; lists name values of a fact that lists its own."""

    min: Exact | None = None
    max: Exact | None = None
    one_of: Annotated[tuple[Line, ...], Field(strict=False, min_length=1)] | None = None
    not_in: Annotated[tuple[Line, ...], Field(strict=False, min_length=1)] | None = None


class Needs(Table):
    """`needs.*`: every guard must be met; `approval` holds its stages in their order."""

    requester: Words | None = None
    reason: ReasonNeed | None = None
    approval: Stages = ()
    facts: dict[Word, FactNeed] = {}


class Cost(Table):
    """What a grant is charged to, in the transaction that grants it."""

    budget: Word
    amount: Annotated[int, Field(ge=1, lt=canonical.SAFE_INTEGER)]


class Escalation(Table):
    """`[escalations.<rule>]`: one way up, and for how long it may be held.

    `max_uses` acts end the lease, and so does `idle_ttl` without one. `on_amend` says what becomes
    of a lease when the law is amended: it is kept as it is, cut to what the new law allows
    (`clamp`: never longer), or ended.
    """

    from_: Annotated[Word, Field(alias="from")]
    to: Word
    trigger: Word
    ttl: Duration
    renewals: Annotated[int, Field(ge=0, le=1_000)] = 0
    needs: Needs = Needs()
    cost: Cost | None = None
    max_uses: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    idle_ttl: Duration | None = None
    on_amend: Literal["keep", "clamp", "end"] = "clamp"


class EndingTable(Table):
    """`[endings.<name>]`: who may end a lease so, and how far the fall goes."""

    by: Words | None = None
    to: Literal["previous", "baseline"]


class Requests(Table):
    waits: Duration
    usable_for: Duration
    open_at_most: Annotated[int, Field(ge=1, le=1_000)]


class Locks(Table):
    by: Words
    lift: Words


class OnlyApproval(Table):
    approval: Stages


class Exceptional(Table):
    """`[amendment]`, `[recovery]`: what only approvals can open."""

    needs: OnlyApproval


class Drill(Table):
    marker: Line
    ttl: Duration
    principal: Name
    budget_ceiling: Annotated[int, Field(ge=0, lt=canonical.SAFE_INTEGER)]
    currency: Word
    stand_ins: dict[Word, Annotated[tuple[Name, ...], Field(strict=False, min_length=1)]] = {}


class Principal(Table):
    """`[principals.<name>]`: by what a name is believed, and the person who stands behind it.

    `key` signs for the name, `account` is the one at the other end of a local socket, `token` the
    digest of a bearer token: none of them is a secret.
    """

    key: Key | None = None
    account: Account | None = None
    token: TokenDigest | None = None
    controller: Name | None = None


class Callers(Table):
    """`[callers]`: whether whoever can open the ledger's file is believed to be who they say."""

    host: bool = True


NOTICES = ("request", "ending", "ended", "lock", "denied", "amended")


class Notify(Table):
    """`[notify.<name>]`: who is told what, by a command or at a URL.

    `events` are of `NOTICES`; `before` is how long before a lease's end `ending` is told, five
    minutes where nothing is said. A command is given its words as they are, never to a shell.
    """

    command: Annotated[tuple[Line, ...], Field(strict=False, min_length=1)] | None = None
    url: Url | None = None
    events: Annotated[
        tuple[Literal["request", "ending", "ended", "lock", "denied", "amended"], ...],
        Field(strict=False, min_length=1),
    ]
    before: Duration | None = None


class InvariantApproval(Table):
    count: Annotated[int, Field(ge=1, le=16)]


class InvariantRequires(Table):
    approval: InvariantApproval | None = None
    rungs: Annotated[int, Field(ge=1, le=1_000)] | None = None


class InvariantNever(Table):
    profile: Word
    requester: Words


class Invariant(Table):
    """`[invariants.<name>]`: read and kept here; proving it is not this module's business."""

    text: Line
    entering: str | None = None
    requires: InvariantRequires | None = None
    never: InvariantNever | None = None
    idle_return_within: Duration | None = None
    holding: str | None = None
    at_most: Duration | None = None
    ending: str | None = None
    available: Word | None = None


class Document(Table):
    """The whole file. What must go together is checked in `parts.py`, and names in `names.py`."""

    constitution: Heading
    groups: dict[Word, Annotated[tuple[Pattern, ...], Field(strict=False, min_length=1)]] = {}
    principals: dict[Name, Principal] = {}
    callers: Callers = Callers()
    profiles: dict[Word, Profile]
    acts: dict[Word, Act] = {}
    facts: dict[Word, Fact] = {}
    escalations: dict[Word, Escalation] = {}
    cooldown: dict[Word, Duration] = {}
    holds: dict[Word, Duration] = {}
    endings: dict[str, EndingTable]
    requests: Requests | None = None
    locks: Locks | None = None
    amendment: Exceptional | None = None
    recovery: Exceptional | None = None
    notify: dict[Word, Notify] = {}
    tools: dict[Word, Server] = {}
    drill: Drill | None = None
    invariants: dict[Word, Invariant] = {}
