"""Whether the steps of a drill fit together: references, times, and what may be expected where.

Names of a constitution are checked against it before the drill runs, in `naming.py`.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from vmstate import canonical
from vmstate.constitution.document import SCROLLS
from vmstate.constitution.facts import did_you_mean
from vmstate.constitution.lines import Place
from vmstate.drills.document import IDLE, READS, Document, Heading, Step
from vmstate.drills.numbering import PARTS
from vmstate.drills.references import REFERENCE, parse_wait, references
from vmstate.errors import InputError
from vmstate.ledger.receipt import KEYS, TABLES

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
    "request",
    "lock",
)
# A receipt as one flat table (`expect.fields_of`): its own fields, and those of its tables.
RECEIPT_FIELDS = tuple(
    sorted(
        {key for table in ("who", "what") for key in TABLES[table]}
        | KEYS - {"who", "what", "authority", "cost", "proofs"}
        | {"rule", "codes", "error", "tem_context_hash", "request", "checkpoint"}
        | {"budget", "unit", "requested", "available", "charged", "name", "allocated"}
        | {"hand", "late_us", "kind", "step_us", "newest", "held_until", "request_nonce"}
        | {"request_after", "seen"}
        | {"lock", "scope", "by"}
        | {"mode", "set_by", "until", "budget_ceiling", "currency", "size", *SCROLLS}
    )
)


def mistakes(document: Document) -> Iterator[tuple[Place, str]]:
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
    reference = REFERENCE.fullmatch(base)
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
