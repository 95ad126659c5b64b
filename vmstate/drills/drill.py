"""A drill as written: what to do, how long to wait, and what each step must leave behind.

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
verbs and keys, references to later steps and impossible times are errors with file and line. Names
of a constitution are checked against it before the drill runs, in `naming.py`.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from vmstate import canonical
from vmstate.constitution.document import SCROLLS
from vmstate.constitution.facts import did_you_mean
from vmstate.constitution.fields import Duration, Line, Name, Word
from vmstate.constitution.lines import Place, misfits, not_toml
from vmstate.drills.numbering import PARTS, report_drill
from vmstate.errors import DrillError, InputError
from vmstate.files import read_at_most
from vmstate.ledger.receipt import KEYS, TABLES

FILE_BYTES = 262_144  # the longest packaged drill takes a fiftieth of it
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
    "may": frozenset(("what",)),
    "context": frozenset(),
}
READS = frozenset(("may", "context"))
RESULT_FIELDS = (
    "success",
    "error",
    "outcome",
    "type",
    "lease",
    "profile",
    "expires_at",
    "clipped_by",
    "rule",
    "reversible",
    "tem_context_hash",
    "act",
    "result",
    "balance",
    "receipt",
)
# A receipt as one flat table (`expect.fields_of`): its own fields, and those of its tables.
RECEIPT_FIELDS = tuple(
    sorted(
        {key for table in ("who", "what") for key in TABLES[table]}
        | KEYS - {"who", "what", "authority", "cost", "proofs"}
        | {"rule", "codes", "error", "tem_context_hash", "request", "checkpoint"}
        | {"budget", "unit", "requested", "available", "charged", "name", "allocated"}
        | {"hand", "late_us", "kind", "step_us", "newest", "held_until", "request_nonce"}
        | {"mode", "set_by", "until", "budget_ceiling", "currency", "size", *SCROLLS}
    )
)
IDLE = "idle"
SUITE = (
    "0-gates",
    "1-false-positive-threat",
    "3-escalation-abuse",
    "2-budget-pressure",
    "4-phoenix-readiness",
)
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "escalate": ("to", "trigger"),
    "renew": ("lease",),
    "release": ("lease",),
    "revoke": ("lease",),
    "act": ("act",),
    "create_budget": ("budget", "allocated", "unit"),
    "debit": ("budget", "amount"),
    "may": ("what",),
}
_REFERENCE = re.compile(r"\{([A-Za-z0-9_]+)(?:\.([A-Za-z0-9_]+))?\}")
_INSTANT = re.compile(r"(?P<base>\S+)(?:\s*(?P<sign>[+-])\s*(?P<offset>\w+))?")

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
    "may",
    "context",
]


def _check_start(text: str) -> str:
    try:
        canonical.parse_at(text)
    except InputError as error:
        raise ValueError(str(error)) from error
    return text


def _check_advance(text: str) -> str:
    if text != IDLE:
        try:
            canonical.parse_duration(text)
        except InputError as error:
            raise ValueError(f"{error}, or 'idle'") from error
    return text


Instant = Annotated[str, AfterValidator(_check_start)]
Wait = Annotated[str, AfterValidator(_check_advance)]


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
            allowed = VERBS[self.do]
            for key in sorted(self.with_.model_fields_set - allowed):
                known = ", ".join(sorted(allowed))
                raise ValueError(f"{self.do!r} takes no {key!r}: it takes {known or 'nothing'}")
            for key in REQUIRED.get(self.do, ()):
                if key not in self.with_.model_fields_set:
                    raise ValueError(f"{self.do!r} needs {key!r}: add it to `with`")
        return self


class Document(_Table):
    """The whole file."""

    drill: Heading
    setup: Annotated[tuple[Step, ...], Field(strict=False, max_length=STEPS)] = ()
    step: Annotated[tuple[Step, ...], Field(strict=False, min_length=1, max_length=STEPS)]
    cleanup: Annotated[tuple[Step, ...], Field(strict=False, max_length=STEPS)] = ()


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill that was read and found well formed; `digest` names exactly what was read.

    `text` is the file, for whoever finds something wrong in it later.
    """

    name: str
    document: Document
    digest: str
    text: str

    @property
    def id(self) -> str:
        return self.document.drill.id

    @property
    def title(self) -> str:
        return self.document.drill.title

    @property
    def size(self) -> int:
        """How many steps it has, set-up and clean-up among them."""
        document = self.document
        return len(document.setup) + len(document.step) + len(document.cleanup)

    @property
    def start(self) -> datetime:
        return canonical.parse_at(self.document.drill.start)

    @property
    def marker(self) -> str:
        """The marker with its date, which is that of the drill's own start."""
        return self.document.drill.marker.replace("{date}", self.document.drill.start[:10])


def load_drill(path: Path) -> Drill:
    """Read a drill file; raises DrillError with one line for each mistake."""
    try:
        data = read_at_most(path, FILE_BYTES)
    except OSError as error:
        raise DrillError((f"{path}: cannot be read: {error.strerror}",)) from error
    except InputError as error:
        raise DrillError((str(error),)) from error
    return read_drill(data, name=str(path))


def packaged_drills() -> tuple[Drill, ...]:
    """The runbook's drills, in the order of its suite: gates, threat, abuse, budget, phoenix."""
    folder = files("vmstate.drills") / "runbook"
    names = [f"{name}.drill.toml" for name in SUITE]
    return tuple(read_drill((folder / name).read_bytes(), name=name) for name in names)


def read_drill(data: bytes, *, name: str) -> Drill:
    """Read a drill from its bytes; raises DrillError with one line for each mistake."""
    if len(data) > FILE_BYTES:
        problem = f"{name}: has {len(data):,} bytes, at most {FILE_BYTES:,} are read"
        raise DrillError((problem,))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise DrillError((f"{name}: is not UTF-8 text: {error.reason}",)) from error
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DrillError((not_toml(name, text, error),)) from error
    except RecursionError as error:
        raise DrillError((f"{name}: is nested too deep to be read",)) from error
    try:
        document = Document.model_validate(parsed)
    except ValidationError as error:
        raise DrillError(report_drill(name, text, misfits(Document, error), parsed)) from error
    if mistakes := list(_mistakes(document)):
        raise DrillError(report_drill(name, text, mistakes, parsed))
    try:
        return Drill(name, document, canonical.digest(canonical.encode(parsed)), text)
    except InputError as error:
        raise DrillError((f"{name}:1: {error}",)) from error


def parse_wait(text: str) -> tuple[str, timedelta]:
    """Split `{op.expires_at} - 1s` into what it counts from and by how much; raises InputError."""
    match = _INSTANT.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{text!r} is not a time, write '{{name.expires_at}} - 1s'")
    if match["offset"] is None:
        return match["base"], timedelta()
    offset = canonical.parse_duration(match["offset"])
    return match["base"], offset if match["sign"] == "+" else -offset


def references(value: Any) -> Iterator[tuple[str, str | None]]:
    """Every `{name.field}` in a value, however deep."""
    if isinstance(value, str):
        yield from ((found[1], found[2]) for found in _REFERENCE.finditer(value))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, Iterable):
        for item in value:
            yield from references(item)


def fill(text: str, known: Mapping[str, str]) -> str:
    """`text` with each `{name.field}` replaced by what was saved under it.

    Raises:
        InputError: the step that would have saved it was not reached.
    """

    def saved(found: re.Match[str]) -> str:
        name = found[0][1:-1]
        if name not in known:
            raise InputError(f"{found[0]} was not saved: no step reached had it")
        return known[name]

    return _REFERENCE.sub(saved, text)


def _mistakes(document: Document) -> Iterator[tuple[Place, str]]:
    """References that nothing answers, and times that can't be."""
    saved: dict[str, tuple[str, ...]] = {}
    reached = canonical.parse_at(document.drill.start)  # at the earliest, as far as can be told
    for table in PARTS:
        for index, step in enumerate(getattr(document, table)):
            place: Place = (table, index)
            spoken = step.model_dump(exclude={"save"}, exclude_unset=True)
            for name, part in references(spoken):
                yield from _reference(name, part, saved, place)
            yield from ((place, what) for what in _misplaced(step))
            try:
                reached = _reach(step, reached, document.drill)
            except InputError as error:
                yield (*place, "advance" if step.advance else "advance_to"), str(error)
            if step.save is not None:
                saved[step.save] = ("success",) if step.do in READS else RESULT_FIELDS


def _reach(step: Step, now: datetime, heading: Heading) -> datetime:
    """When the drill is after `step`, as early as can be; raises InputError if it can't be."""
    wait = step.advance or step.advance_to
    try:
        at = _wait_until(step, now)
    except OverflowError as error:
        raise InputError(f"{wait!r} is in no calendar: write a time from year 1 to 9999") from error
    if at < now:
        past, here = canonical.format_at(at), canonical.format_at(now)
        raise InputError(f"{past} is past: the drill is at {here}")
    if at - canonical.parse_at(heading.start) > heading.virtual_limit:
        limit = canonical.format_duration(heading.virtual_limit)
        raise InputError(f"{wait!r} is beyond the virtual_limit of {limit}")
    return at


def _wait_until(step: Step, now: datetime) -> datetime:
    """Where a wait leads as far as can be told; a step without one, or by a reference, to `now`."""
    if step.advance is not None and step.advance != IDLE:
        return now + canonical.parse_duration(step.advance)
    if step.advance_to is None:
        return now
    base, offset = parse_wait(step.advance_to)
    reference = _REFERENCE.fullmatch(base)
    if reference is None:
        return canonical.parse_at(base) + offset
    if reference[2] != "expires_at":
        raise InputError(f"{base} is not a time: wait for {{{reference[1]}.expires_at}}")
    return now


def _misplaced(step: Step) -> Iterator[str]:
    """Expectations that no answer of this step could meet, because it has no such field."""
    expect = step.expect
    if step.do in READS and not expect.result:
        yield f"{step.do!r} only reads, and passes whatever comes back: write expect.result"
    if expect.denied is not None and step.do in {None, *READS}:
        yield "nothing is decided in this step, so nothing can be denied: leave expect.denied out"
    for name in expect.result:
        if step.do == "context":
            known: tuple[str, ...] = ()
            fits = name.split(".")[0] in {"health", "drill", "treasury"}
        else:
            known = ("success",) if step.do == "may" else RESULT_FIELDS
            fits = name in known
        if not fits:
            listed = ", ".join(known) or "health.…, drill.… and treasury.…"
            yield f"a result here has no {name!r}{did_you_mean(name, known)}: it has {listed}"
    for fields in expect.receipts or ():
        for name in fields:
            if name not in RECEIPT_FIELDS and name not in step.with_.arguments:
                near = did_you_mean(name, RECEIPT_FIELDS)
                yield f"a receipt has no field {name!r}{near}"


def _reference(
    name: str, part: str | None, saved: Mapping[str, tuple[str, ...]], place: Place
) -> Iterator[tuple[Place, str]]:
    if part is None:
        if name not in {"marker", "date"}:
            yield (
                place,
                f"{{{name}}} stands for nothing: write {{marker}}, {{date}} or {{saved.field}}",
            )
    elif name not in saved:
        known = tuple(sorted(saved))
        near = did_you_mean(name, known)
        yield place, f"nothing was saved as {name!r} before this step{near}: save it there first"
    elif part not in saved[name]:
        near = did_you_mean(part, saved[name])
        yield place, f"that result has no {part!r}{near}: it has {', '.join(saved[name])}"
