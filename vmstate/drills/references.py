"""What a step takes over from earlier ones: `{name.field}`, and times that are counted from it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from vmstate import canonical
from vmstate.errors import InputError

REFERENCE = re.compile(r"\{([A-Za-z0-9_]+)(?:\.([A-Za-z0-9_]+))?\}")
_INSTANT = re.compile(r"(?P<base>\S+)(?:\s*(?P<sign>[+-])\s*(?P<offset>\w+))?")


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
        yield from ((found[1], found[2]) for found in REFERENCE.finditer(value))
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

    return REFERENCE.sub(saved, text)
