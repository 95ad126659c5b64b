"""A drill's file as it is written: its heading, its steps and what each must leave behind.

    [drill]
    id     = "drill_1"
    title  = "False-positive threat"
    marker = "DRILL/FP-THREAT/{date}"
    start  = "2025-12-18T12:00:00Z"      # when virtual time begins

    [[step]]
    name = "observer becomes operator"
    do   = "escalate"                    # or advance, or advance_to = "{op.expires_at} - 1s"
    with = { to = "operator", trigger = "operator_request", reason = "DRILL: look around" }
    save = "op"                          # its result is {op.lease}, {op.expires_at}, … later on
    expect.receipts = [ { type = "profile_escalation" } ]

`[[setup]]` and `[[cleanup]]` take the same steps; cleanup always runs. Loading is strict: unknown
verbs and keys are errors with file and line.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vmstate import canonical
from vmstate.constitution.facts import did_you_mean
from vmstate.constitution.fields import Duration, Line, Name, Word
from vmstate.errors import InputError
from vmstate.forms import checked

STEPS = 1_000  # more than anybody would read
VERBS: Mapping[str, frozenset[str]] = {
    "escalate": frozenset(
        ("to", "trigger", "reason", "facts", "ttl", "approved_by", "attested_by", "renew_parent")
    ),
    "renew": frozenset(("lease", "reason", "facts", "ttl", "approved_by", "attested_by")),
    "release": frozenset(("lease", "ending", "reason")),
    "revoke": frozenset(("lease", "ending", "reason")),
    "act": frozenset(("act", "arguments", "reason")),
    "anchor": frozenset(("reason",)),
    "create_budget": frozenset(("budget", "name", "allocated", "unit")),
    "debit": frozenset(("budget", "amount", "reason")),
    "open_request": frozenset(("to", "trigger", "reason", "facts", "ttl")),
    "approve": frozenset(("request", "reason")),
    "attest": frozenset(("request", "reason")),
    "deny": frozenset(("request", "reason")),
    "withdraw": frozenset(("request", "reason")),
    "activate": frozenset(("request", "renew_parent")),
    "push": frozenset(("principal", "facts", "reason")),
    "lock": frozenset(("principal", "profile", "all", "ttl", "reason")),
    "unlock": frozenset(("lock", "reason")),
    "may": frozenset(("what",)),
    "context": frozenset(),
}
READS = frozenset(("may", "context"))
IDLE = "idle"
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "escalate": ("to", "trigger"),
    "renew": ("lease",),
    "release": ("lease",),
    "revoke": ("lease",),
    "act": ("act",),
    "create_budget": ("budget", "allocated", "unit"),
    "debit": ("budget", "amount"),
    "open_request": ("to", "trigger"),
    "approve": ("request",),
    "attest": ("request",),
    "deny": ("request",),
    "withdraw": ("request",),
    "activate": ("request",),
    "push": ("facts",),
    "unlock": ("lock",),
    "may": ("what",),
}
LOCKED = ("principal", "profile", "all")  # a lock is on exactly one of these
Value = str | int | bool
Unchanging = Literal["leases", "profiles", "budgets"]
Verb = Literal[
    "escalate",
    "renew",
    "release",
    "revoke",
    "act",
    "anchor",
    "create_budget",
    "debit",
    "open_request",
    "approve",
    "attest",
    "deny",
    "withdraw",
    "activate",
    "push",
    "lock",
    "unlock",
    "may",
    "context",
]


def _check_start(text: str) -> str:
    canonical.parse_at(text)
    return text


def _check_advance(text: str) -> str:
    if text != IDLE:
        try:
            canonical.parse_duration(text)
        except InputError as error:
            raise InputError(f"{error}, or 'idle'") from error
    return text


Instant = Annotated[str, checked(_check_start)]


Wait = Annotated[str, checked(_check_advance)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Heading(_Table):
    """`limit` bounds wall time, `virtual_limit` the time that passes inside the drill."""

    id: Word
    title: Line
    marker: Line
    start: Instant
    limit: Duration = timedelta(minutes=5)
    virtual_limit: Duration = timedelta(hours=24)
    gate: bool = False


class Denial(_Table):
    """What a refusal must say; `error` may have `*` in it."""

    rule: str | None = None
    code: str | None = None
    error: str | None = None


class Expectation(_Table):
    """`receipts` are exactly these, in order, each with at least these fields."""

    result: dict[str, Value] = {}
    denied: Denial | None = None
    receipts: Annotated[tuple[dict[str, Value], ...], Field(strict=False)] | None = None
    profile: dict[str, Word] = {}
    active: int | None = None
    unchanged: Annotated[tuple[Unchanging, ...], Field(strict=False)] = ()


class Arguments(_Table):
    """What `with` may hold; which verb takes which is checked beside it."""

    to: Word | None = None
    trigger: Word | None = None
    reason: Line = ""
    facts: dict[Word, Line] = {}
    ttl: Duration | None = None
    approved_by: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    attested_by: Name | None = None
    renew_parent: bool = False
    lease: Line | None = None
    ending: Word | None = None
    what: Line | None = None
    act: Word | None = None
    arguments: dict[Word, Line] = {}
    budget: Word | None = None
    name: Line = ""
    allocated: Annotated[int, Field(ge=1)] | None = None
    unit: Word | None = None
    amount: Annotated[int, Field(ge=1)] | None = None
    request: Line | None = None
    lock: Line | None = None
    principal: Name | None = None
    profile: Word | None = None
    all: Literal[True] | None = None


class Step(_Table):
    """One thing done, or one wait, and what it must leave behind."""

    name: Line = ""
    do: Verb | None = None
    as_: Annotated[Name | None, Field(alias="as")] = None
    with_: Annotated[Arguments, Field(alias="with")] = Arguments()
    advance: Wait | None = None
    advance_to: str | None = None
    save: Word | None = None
    expect: Expectation = Expectation()

    @model_validator(mode="after")
    def _does_one_thing(self) -> "Step":
        if sum(one is not None for one in (self.do, self.advance, self.advance_to)) != 1:
            raise ValueError("write exactly one of do, advance, advance_to")
        if self.do is None and (self.save or self.as_ or self.with_.model_fields_set):
            raise ValueError("as, with and save go with do")
        if self.do is not None:
            self._check_arguments(self.do, self.with_.model_fields_set)
        return self

    @staticmethod
    def _check_arguments(verb: Verb, given: set[str]) -> None:
        allowed = VERBS[verb]
        for key in sorted(given - allowed):
            raise ValueError(takes_no(verb, key))
        for key in REQUIRED.get(verb, ()):
            if key not in given:
                raise ValueError(f"{verb!r} needs {key!r}: add it to `with`")
        if verb == "lock" and len(given.intersection(LOCKED)) != 1:
            raise ValueError("'lock' is on exactly one of principal, profile, all = true: name it")


def takes_no(verb: str, key: str) -> str:
    """What to say of a key in a step's `with` that its verb does not take."""
    if key in _BESIDE:
        return f"{verb!r} takes no {key!r}: `{key}` stands beside `with`, not in it"
    allowed = tuple(sorted(VERBS[verb]))
    near = did_you_mean(key, allowed)
    return f"{verb!r} takes no {key!r}{near}: it takes {', '.join(allowed) or 'nothing'}"


_BESIDE = {field.alias or name for name, field in Step.model_fields.items()}


class Document(_Table):
    """The whole file."""

    drill: Heading
    setup: Annotated[tuple[Step, ...], Field(strict=False, max_length=STEPS)] = ()
    step: Annotated[tuple[Step, ...], Field(strict=False, min_length=1, max_length=STEPS)]
    cleanup: Annotated[tuple[Step, ...], Field(strict=False, max_length=STEPS)] = ()
