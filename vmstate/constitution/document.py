"""The constitution as written: one frozen model for each table, and nothing derived.

What is absent is denied: a missing `[locks]` means that nobody locks. Tables are keyed, and a
rule's table name is its id in every receipt, denial and diff. People, reasons, approvals and facts
are typed guards under `needs`, never expressions, so that what a rule asks for can be proved.
"""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from vmstate import canonical
from vmstate.constitution.tools import Server
from vmstate.errors import InputError
from vmstate.keys import PublicKey

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
        "treasury_denial",
        "constitution_loaded",
        "constitution_amended",
        "drill_mode",
        "drill_pack",
        "lock",
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
HOLDER = "holder"  # in an ending's `by`: whoever holds the lease

Scroll = Literal["identity", "cognitive", "treasury", "guardian"]


def _from_text(read: Callable[[str], Any], kind: type) -> BeforeValidator:
    """A value written as text and read by `read`; its InputError becomes a finding."""

    def convert(value: object) -> object:
        if isinstance(value, kind):
            return value
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not text: write it in quotes")  # noqa: TRY004 -- pydantic's
        try:
            return read(value)
        except InputError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(convert)


def _checked(check: Callable[[str], str]) -> AfterValidator:
    def checked(value: str) -> str:
        try:
            return check(value)
        except InputError as error:
            raise ValueError(str(error)) from error

    return AfterValidator(checked)


def _check_word(text: str) -> str:
    if (
        not text.replace("_", "a").replace("-", "a").replace(".", "a").isalnum()
        or not text.isascii()
    ):
        raise InputError(f"{text!r} is not a name: use letters, digits and _ - .")
    return canonical.check_name(text, what="name")


def _check_pattern(text: str) -> str:
    """A principal, or everyone below a prefix: `did:vm:agent:*`."""
    if not text.endswith("*"):
        return canonical.check_name(text)
    prefix = text[:-1]
    if not prefix.endswith((":", "/")):
        # `did:vm:sovereign*` would admit `did:vm:sovereign-impostor`.
        raise InputError(f"{text!r}: a wildcard stands after ':' or '/', write 'did:vm:agent:*'")
    canonical.check_name(prefix)
    return text


def _check_line(text: str) -> str:
    return canonical.check_text(text, what="text", most_bytes=canonical.REASON_BYTES)


Duration = Annotated[timedelta, _from_text(canonical.parse_duration, timedelta)]
Exact = Annotated[Decimal, _from_text(canonical.parse_decimal, Decimal)]
Key = Annotated[PublicKey, _from_text(PublicKey.parse, PublicKey)]
Word = Annotated[str, _checked(_check_word)]
Name = Annotated[str, _checked(canonical.check_name)]
Pattern = Annotated[str, _checked(_check_pattern)]
Line = Annotated[str, _checked(_check_line)]
Words = Annotated[tuple[Word, ...], Field(strict=False, min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        populate_by_name=False,
    )


class Heading(_Table):
    """`[constitution]`: what this law is called, and the profile that needs no lease."""

    name: Word
    version: Line
    baseline: Word


class Profile(_Table):
    """`[profiles.<name>]`: stands above another, and may do what that one may, and more."""

    symbol: Line = ""
    above: Word | None = None


class Act(_Table):
    """`[acts]`: what may be done from `profile` up; with `receipt`, each time on the record."""

    profile: Word
    scroll: Scroll | None = None
    receipt: Word | None = None
    in_drill: Literal["dry_run", "simulated"] | None = None


class Fact(_Table):
    """`[facts]`: what a requester may state; attested ones only beside a signature."""

    type: Literal["text", "decimal"] | None = None
    one_of: Annotated[tuple[Line, ...], Field(strict=False, min_length=1)] | None = None
    min: Exact | None = None
    max: Exact | None = None
    attested_by: Word | None = None
    max_age: Duration | None = None


class ReasonNeed(_Table):
    min_length: Annotated[int, Field(ge=1, le=canonical.REASON_BYTES)]


class ApprovalNeed(_Table):
    """`count` distinct people of these groups, never the requester or who stands for them."""

    count: Annotated[int, Field(ge=1, le=16)]  # more signatures would not fit a receipt
    of: Words


class FactNeed(_Table):
    """Bounds include their ends; lists name values of a fact that lists its own."""

    min: Exact | None = None
    max: Exact | None = None
    one_of: Annotated[tuple[Line, ...], Field(strict=False, min_length=1)] | None = None
    not_in: Annotated[tuple[Line, ...], Field(strict=False, min_length=1)] | None = None


class Needs(_Table):
    """`needs.*`: every guard must be met."""

    requester: Words | None = None
    reason: ReasonNeed | None = None
    approval: ApprovalNeed | None = None
    facts: dict[Word, FactNeed] = {}


class Cost(_Table):
    """What a grant is charged to, in the transaction that grants it."""

    budget: Word
    amount: Annotated[int, Field(ge=1, lt=canonical.SAFE_INTEGER)]


class Escalation(_Table):
    """`[escalations.<rule>]`: one way up, and for how long it may be held."""

    from_: Annotated[Word, Field(alias="from")]
    to: Word
    trigger: Word
    ttl: Duration
    renewals: Annotated[int, Field(ge=0, le=1_000)] = 0
    needs: Needs = Needs()
    cost: Cost | None = None


class EndingTable(_Table):
    """`[endings.<name>]`: who may end a lease so, and how far the fall goes."""

    by: Words | None = None
    to: Literal["previous", "baseline"]


class Requests(_Table):
    waits: Duration
    usable_for: Duration
    open_at_most: Annotated[int, Field(ge=1, le=1_000)]


class Locks(_Table):
    by: Words
    lift: Words


class OnlyApproval(_Table):
    approval: ApprovalNeed


class Exceptional(_Table):
    """`[amendment]`, `[recovery]`: what only approvals can open."""

    needs: OnlyApproval


class Drill(_Table):
    marker: Line
    ttl: Duration
    principal: Name
    budget_ceiling: Annotated[int, Field(ge=0, lt=canonical.SAFE_INTEGER)]
    currency: Word
    stand_ins: dict[Word, Annotated[tuple[Name, ...], Field(strict=False, min_length=1)]] = {}


class Principal(_Table):
    """`[principals.<name>]`: the key that signs for a name, and the person who stands behind it."""

    key: Key | None = None
    controller: Name | None = None


class InvariantApproval(_Table):
    count: Annotated[int, Field(ge=1, le=16)]


class InvariantRequires(_Table):
    approval: InvariantApproval | None = None
    rungs: Annotated[int, Field(ge=1, le=1_000)] | None = None


class InvariantNever(_Table):
    profile: Word
    requester: Words


class Invariant(_Table):
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


class Document(_Table):
    """The whole file. What must go together is checked in `parts.py`, and names in `names.py`."""

    constitution: Heading
    groups: dict[Word, Annotated[tuple[Pattern, ...], Field(strict=False, min_length=1)]] = {}
    principals: dict[Name, Principal] = {}
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
    tools: dict[Word, Server] = {}
    drill: Drill | None = None
    invariants: dict[Word, Invariant] = {}
