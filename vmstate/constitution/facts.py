"""What a requester may state about the case, and how it is read.

A fact that the constitution does not name is refused, and so is one of the wrong type or outside
its range: `malformed`, because a guard could not judge it. An attested fact counts only with a
signature beside it, whatever rule is asked for, so that no receipt holds one on somebody's word.
"""

import difflib
from collections.abc import Mapping
from decimal import Decimal

from vmstate import canonical
from vmstate.constitution.document import Fact
from vmstate.constitution.unmet import Unmet
from vmstate.errors import InputError

Value = Decimal | str


def read_facts(
    declared: Mapping[str, Fact], stated: Mapping[str, str]
) -> tuple[dict[str, Value], tuple[Unmet, ...]]:
    """Return the values that could be read, and what is wrong with the others."""
    values: dict[str, Value] = {}
    unmet: list[Unmet] = []
    for name, text in stated.items():
        fact = declared.get(name)
        if fact is None:
            unmet.append(_unknown(name, declared))
            continue
        value = _read(fact, text)
        if isinstance(value, str | Decimal):
            values[name] = value
        else:
            remedy = f"state {name} as {value.required}"
            unmet.append(
                Unmet(f'facts."{name}"', "malformed", value.required, f"{name} = {text}", remedy)
            )
    return values, tuple(unmet)


def spell(value: Value) -> str:
    """The one spelling of a value: what is hashed, signed and kept."""
    return canonical.format_decimal(value) if isinstance(value, Decimal) else value


def did_you_mean(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    """` (did you mean 'x'?)`, or nothing if nothing is near."""
    near = nearest(name, known)
    return f" (did you mean {near!r}?)" if near is not None else ""


def nearest(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str | None:
    """The known name that `name` was most likely meant to be, if any is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return near[0] if near else None


class _Wrong:
    """Why a text is no value of a fact: what it would have to be."""

    __slots__ = ("required",)

    def __init__(self, required: str) -> None:
        self.required = required


def _read(fact: Fact, text: str) -> Value | _Wrong:
    if fact.one_of is not None:
        return text if text in fact.one_of else _Wrong(f"one of {', '.join(fact.one_of)}")
    if fact.type == "text":
        return text or _Wrong("some text")
    bounds = _bounds(fact)
    try:
        value = canonical.parse_decimal(text)
    except InputError:
        return _Wrong(f"a decimal{bounds}")
    low = fact.min is not None and value < fact.min
    high = fact.max is not None and value > fact.max
    return _Wrong(f"a decimal{bounds}") if low or high else value


def _bounds(fact: Fact) -> str:
    match fact.min, fact.max:
        case None, None:
            return ""
        case low, None:
            return f" of at least {low}"
        case None, high:
            return f" of at most {high}"
        case low, high:
            return f" from {low} to {high}"


def _unknown(name: str, declared: Mapping[str, Fact]) -> Unmet:
    known = ", ".join(declared) or "none"
    return Unmet(
        "facts",
        "fact_unknown",
        f"one of {known}",
        name,
        f"state a fact that [facts] names{did_you_mean(name, declared)}",
    )
