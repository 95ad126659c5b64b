"""Which line of a TOML file a finding is about, and what the finding says.

`tomllib` keeps no positions, so the text is scanned once more, and only when there is something to
report: headers and keys at the start of a line. What stands inside an inline table or an array is
found at the line where that value begins.
"""

import re
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vmstate.constitution.facts import did_you_mean
from vmstate.misfit import say_misfit, spell_seen

Place = tuple[str | int, ...]
# Where, what, and the places that were read to find it.
Finding = tuple[Place, str, tuple[Place, ...]]
Mistake = Finding | tuple[Place, str]  # without those places, anything may have been read
NAMES = "[names]"  # the place, in a table of names, of what is named there and what is not

_KEY = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_PATH = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*\[(\[)?\s*({_PATH})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_PATH})\s*=\s*(.*)")
_SCALARS = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*')


def line_index(text: str) -> dict[Place, int]:
    """Map each header and key, as a path, to its line number (the first is 1)."""
    index: dict[Place, int] = {}
    table: Place = ()
    counts: dict[Place, int] = {}
    closing, depth = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        if closing:
            closing = "" if closing in line else closing
            continue
        if depth:
            depth += _depth(line)
            continue
        if header := _HEADER.match(line):
            table = _split(header[2])
            if header[1]:
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            index.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            index.setdefault((*table, *_split(assignment[1])), number)
            value = assignment[2]
            closing = next(
                (q for q in ('"""', "'''") if value.startswith(q) and value.count(q) == 1), ""
            )
            depth = 0 if closing else _depth(value)
    return index


def line_of(place: Place, index: Mapping[Place, int]) -> int:
    """The line of `place`, or of the nearest thing around it that has one."""
    for end in range(len(place), 0, -1):
        if place[:end] in index:
            return index[place[:end]]
    # A header such as [escalations.x] stands for `escalations` as well.
    below = (line for path, line in index.items() if path[:1] == place[:1])
    return min(below, default=1)


def spell_place(place: Sequence[str | int]) -> str:
    """`escalations.phoenix_on_crisis.needs.facts."threat.id"`: as the file would write it."""
    parts = (
        part
        if isinstance(part, str) and re.fullmatch(r"[A-Za-z0-9_-]+", part)
        else f'"{part}"'
        if isinstance(part, str)
        else str(part)
        for part in place
    )
    return ".".join(parts)


def describe(error: ErrorDetails, model: object) -> str:
    """Say what pydantic found in a file read as `model`: what was seen, what to write."""
    seen, loc = spell_seen(error["input"]), error["loc"]
    known_keys = keys_at(model, loc)
    match error["type"]:
        case "extra_forbidden":
            key = str(error["loc"][-1])
            known = ", ".join(known_keys) + getattr(kind_at(model, loc[:-1]), "instead", "")
            return f"unknown key{did_you_mean(key, known_keys)}: known here are {known}"
        case "model_type" | "model_attributes_type":
            keys = _needed(kind_at(model, loc)) or keys_at(model, (*loc, ""))
            table = ", ".join(f"{key} = …" for key in keys)
            return f"{seen} is not a table: write {{ {table} }}"
        case "int_type":
            return f"{seen} is not a whole number: write it without quotes or a point"
        case "string_type":
            return f"{seen} is not text: write it in quotes"
        case "tuple_type":
            return f"{seen} is not a list: write [{seen}]"
        case "too_short":
            return "is an empty list: name at least one, or leave the key out"
        case _:
            return say_misfit(error)


def not_toml(name: str, text: str, error: tomllib.TOMLDecodeError) -> str:
    """One line for a text that is no TOML: `name:line: is not TOML: what, at column`."""
    said, _, where = str(error).partition(" (at ")
    at = re.match(r"line ([0-9]+), column ([0-9]+)", where)
    if at is None:
        return f"{name}:{len(text.splitlines())}: is not TOML: {said}, at the end of the file"
    return f"{name}:{at[1]}: is not TOML: {said}, at column {at[2]}"


def misfits(model: type[BaseModel], error: ValidationError) -> list[tuple[Place, str]]:
    """What pydantic found in a file read as `model`: where, and what to write instead."""
    found = error.errors()
    places = [place_of(one["loc"]) for one in found]
    return [
        (place, describe(one, model))
        for place, one in zip(places, found, strict=True)
        # A list whose only item is wrong is reported as too short as well: that is not news.
        if one["type"] != "too_short" or not any(_is_below(other, place) for other in places)
    ]


def place_of(loc: Place) -> Place:
    """Where pydantic looked; a table's own name is no key below it."""
    return loc[:-1] if loc and loc[-1] == "[key]" else loc


def _is_below(place: Place, above: Place) -> bool:
    return len(place) > len(above) and place[: len(above)] == above


def report(
    name: str,
    text: str,
    found: list[tuple[Place, str]],
    spell: Callable[[Place], str] = spell_place,
) -> tuple[str, ...]:
    """One line for each finding, in the order of the file: `name:line: path: what`."""
    index = line_index(text)
    located = sorted((line_of(place, index), spell(place), what) for place, what in found)
    return tuple(f"{name}:{line}: {place}: {what}" for line, place, what in located)


def keys_at(model: object, loc: Place) -> tuple[str, ...]:
    """The keys that the table around `loc` may have."""
    around = kind_at(model, loc[:-1])
    if isinstance(around, type) and issubclass(around, BaseModel):
        return tuple(f.alias or n for n, f in around.model_fields.items())
    return ()


def _needed(kind: object) -> tuple[str, ...]:
    """The keys without which such a table is none."""
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return ()
    return tuple(f.alias or n for n, f in kind.model_fields.items() if f.is_required())


def kind_at(model: object, place: Place) -> object:
    """The type that a value at `place` of a `model` has, as far as tables go."""
    for part in place:
        model = _step(model, part)
    return model


def _step(kind: object, part: int | str) -> object:
    """The type found at `part` of a value of type `kind`, as far as tables go."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = {f.alias or n: f.annotation for n, f in kind.model_fields.items()}
        return _table_in(fields.get(str(part)))
    if typing.get_origin(kind) is dict:
        return _table_in(typing.get_args(kind)[1])
    if typing.get_origin(kind) is tuple:
        return _table_in(typing.get_args(kind)[0])
    return None


def _table_in(annotation: object) -> object:
    """The type without `| None` and without what is said beside it."""
    if typing.get_origin(annotation) in {types.UnionType, typing.Union}:
        options = [a for a in typing.get_args(annotation) if a is not types.NoneType]
        return _table_in(options[0])
    if typing.get_origin(annotation) is typing.Annotated:
        return _table_in(typing.get_args(annotation)[0])
    return annotation


def _split(path: str) -> Place:
    return tuple(key[1:-1] if key[0] in "\"'" else key for key in re.findall(_KEY, path))


def _depth(line: str) -> int:
    """How many more brackets a line opens than it closes, outside strings and comments."""
    bare = _SCALARS.sub("", line)
    return sum(bare.count(c) for c in "[{") - sum(bare.count(c) for c in "]}")
