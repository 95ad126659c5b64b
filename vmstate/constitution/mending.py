"""A file with misfits, made fit to look for wrong names in: a stand-in for each value that misfits.

A stand-in keeps the name of what it stands for, so that nothing that refers to it looks unknown.
What it says has no meaning: a finding that rests on it is not told. Nothing that was mended is ever
decided by; the file is refused whatever is found.
"""

import copy
import types
import typing
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from vmstate.constitution.document import Document
from vmstate.constitution.facts import nearest
from vmstate.constitution.lines import NAMES, Finding, Mistake, Place, keys_at, kind_at, place_of

M = TypeVar("M", Finding, Mistake)
_ROUNDS = 16  # each mends what the one before uncovered below a misspelled key; tables are 6 deep
_PLAIN: tuple[tuple[type, object], ...] = (
    (str, "x"),
    (bool, False),
    (int, 1),
    (timedelta, "1s"),
    (Decimal, "0"),
)


def mend(parsed: dict[str, object], error: ValidationError) -> tuple[Document, set[Place]] | None:
    """The document with stand-ins, and where they stand; None if it can't be mended.

    `error` is what was found in `parsed`, which stays as it is.
    """
    whole = copy.deepcopy(parsed)
    broken: set[Place] = set()
    for _ in range(_ROUNDS):
        for one in error.errors():
            _replace(whole, one["loc"], one["type"], broken)
        try:
            return Document.model_validate(whole), broken
        except ValidationError as more:
            error = more
    return None


def tellable(mistakes: Iterable[M], broken: set[Place]) -> list[M]:
    """The mistakes that are true however the misfits at `broken` are going to be put right.

    A mistake that does not say what it rests on may rest on anything.
    """
    return [
        mistake
        for mistake in mistakes
        if not any(_meet(one, other) for one in _read(mistake) for other in broken)
    ]


def _read(mistake: Mistake) -> tuple[Place, ...]:
    return mistake[2] if len(mistake) == 3 else ((),)  # noqa: PLR2004 -- place, what, and these


def _meet(one: Place, other: Place) -> bool:
    """Whether one of the two places is the other, or stands in it."""
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def _replace(whole: dict[str, object], loc: Place, what: str, broken: set[Place]) -> None:
    """Put a stand-in where a misfit is, or take away what is not even known by its name."""
    place = place_of(loc)
    while place in broken and len(place) > 1:
        place = place[:-1]  # the stand-in did not fit either: what is around it gives way as well
    table = _table_at(whole, place[:-1])
    if table is None:
        return  # it went with something around it
    key = place[-1]
    broken.add(place)
    if place != loc and loc[-1] == "[key]":
        table.pop(key, None)
        broken.add((*place[:-1], NAMES))
    elif what == "extra_forbidden" and place == loc:
        _rename(table, place, broken)
    else:
        table[key] = _stand_in(_written_kind(place))


def _rename(table: typing.Any, place: Place, broken: set[Place]) -> None:
    """Read what stands under an unknown key as what was most likely meant, as far as names go."""
    value = table.pop(place[-1])
    meant = nearest(str(place[-1]), keys_at(Document, place))
    if meant is None:
        return
    around = place[:-1]
    there = table.get(meant)
    if isinstance(value, dict) and isinstance(there, dict):
        broken.update((*around, meant, key) for key in value)
        table[meant] = {**value, **there}
        return
    broken.add((*around, meant))
    table.setdefault(meant, value)


def _table_at(whole: object, place: Place) -> typing.Any:
    for part in place:
        if isinstance(whole, dict):
            whole = whole.get(str(part))
        elif isinstance(whole, list) and isinstance(part, int) and part < len(whole):
            whole = whole[part]
        else:
            return None
    return whole if isinstance(whole, dict | list) else None


def _written_kind(place: Place) -> object:
    """The type that stands at `place` in the models, `| None` included."""
    around = kind_at(Document, place[:-1])
    if isinstance(around, type) and issubclass(around, BaseModel):
        fields = {f.alias or n: f.annotation for n, f in around.model_fields.items()}
        return fields.get(str(place[-1]))
    kinds = typing.get_args(around)
    return kinds[1] if typing.get_origin(around) is dict else kinds[0] if kinds else None


def _stand_in(kind: object) -> object:
    """The least that a file may write where a `kind` belongs."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _stand_in(inner[0])
    if origin in {types.UnionType, typing.Union}:
        return None  # every union here is with None, which is what a missing key means
    if origin is typing.Literal:
        return inner[0]
    if origin is tuple:
        return [_stand_in(inner[0])]
    if origin is dict:
        return {}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = kind.model_fields.items()
        return {f.alias or n: _stand_in(f.annotation) for n, f in fields if f.is_required()}
    return next((value for plain, value in _PLAIN if kind is plain), None)
