"""Do the keys of one table go together? What each may say by itself is in its model.

These are no validators of the models, because a validator is not asked while anything else in its
table misfits, and then a file would need a second load to show all that is wrong with it.
"""

from collections.abc import Iterator

from vmstate.constitution.document import Document, Fact, FactNeed, Invariant, Notify
from vmstate.constitution.lines import Finding, Place

_INVARIANT_SHAPES = (
    {"entering", "requires"},
    {"never"},
    {"idle_return_within"},
    {"holding", "at_most"},
    {"ending", "available"},
)


def find_odd_parts(document: Document) -> Iterator[Finding]:
    """Yield each table that says half of something, or two things at once."""
    for name, act in document.acts.items():
        place: Place = ("acts", name)
        if (act.scroll is None) != (act.receipt is None):
            what = "scroll and receipt go together: give both, or neither for a read"
            yield place, what, _below(place, "scroll", "receipt")
    for name, fact in document.facts.items():
        yield from _fact(fact, ("facts", name))
    for rule, escalation in document.escalations.items():
        for name, need in escalation.needs.facts.items():
            yield from _fact_need(need, ("escalations", rule, "needs", "facts", name))
    for name, notify in document.notify.items():
        yield from _notify(notify, ("notify", name))
    for name, invariant in document.invariants.items():
        yield from _invariant(invariant, ("invariants", name))


def _fact(fact: Fact, place: Place) -> Iterator[Finding]:
    if (fact.type is None) == (fact.one_of is None):
        what = 'write either type = "text" or "decimal", or one_of = [...]'
        yield place, what, _below(place, "type", "one_of")
    elif fact.type != "decimal" and (fact.min is not None or fact.max is not None):
        what = 'min and max need type = "decimal"'
        yield place, what, _below(place, "type", "min", "max")
    if fact.min is not None and fact.max is not None and fact.min > fact.max:
        yield place, f"min {fact.min} is above max {fact.max}", _below(place, "min", "max")
    if (fact.attested_by is None) != (fact.max_age is None):
        what = "attested_by and max_age go together: an attestation grows old"
        yield place, what, _below(place, "attested_by", "max_age")


def _fact_need(need: FactNeed, place: Place) -> Iterator[Finding]:
    if not need.model_fields_set:
        yield place, "asks nothing: write min, max, one_of or not_in", (place,)


def _notify(notify: Notify, place: Place) -> Iterator[Finding]:
    if (notify.command is None) == (notify.url is None):
        what = 'write either command = ["program", …] or url = "https://…"'
        yield place, what, _below(place, "command", "url")
    if notify.command is not None:
        program, at = notify.command[0], (*place, "command")
        if "/" in program and not program.startswith("/"):
            # It would be another program wherever `vmstate serve` was started.
            what = f"{program!r} is found from one folder only: write its whole path, or its name"
            yield (*at, 0), what, (at,)
    if notify.before is not None and "ending" not in notify.events:
        what = 'before says when "ending" is told, and it is not in events: add it'
        yield (*place, "before"), what, _below(place, "before", "events")


def _invariant(invariant: Invariant, place: Place) -> Iterator[Finding]:
    if invariant.model_fields_set - {"text"} not in _INVARIANT_SHAPES:
        what = (
            "write entering and requires, or never, or idle_return_within, "
            "or holding and at_most, or ending and available"
        )
        keys = sorted(key for shape in _INVARIANT_SHAPES for key in shape)
        yield place, what, _below(place, *keys)


def _below(place: Place, *keys: str) -> tuple[Place, ...]:
    return tuple((*place, key) for key in keys)
