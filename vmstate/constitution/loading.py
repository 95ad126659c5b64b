"""From TOML bytes to a constitution, or every mistake in it at once.

    constitution.toml:51: escalations.guardian_on_threat.ttl: '15 minuts' is not a duration, …

Reading goes file, syntax, then shape and names together: one load tells every value that misfits
and every name that is wrong whatever is written in place of the misfits. What rests on a value that
misfits can't be told before that is put right.

The digest is SHA-256 over the canonical JSON of the parsed file: durations in microseconds,
decimals in their shortest spelling, arrays in file order, and no default filled in, so that a
release which adds a key does not change it.
"""

import tomllib
import typing
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from pydantic import BaseModel, ValidationError

from vmstate import canonical
from vmstate.canonical import Json
from vmstate.clock import duration_us
from vmstate.constitution.document import ApprovalNeed, Document
from vmstate.constitution.law import Constitution
from vmstate.constitution.lines import Place, misfits, not_toml, report
from vmstate.constitution.mending import mend, tellable
from vmstate.constitution.names import find_mistakes
from vmstate.constitution.parts import find_odd_parts
from vmstate.errors import ConstitutionError, InputError
from vmstate.files import read_at_most
from vmstate.keys import PublicKey

FILE_BYTES = 1_048_576  # 50 profiles and 500 rules take a tenth of it


def load_constitution(path: Path | str) -> Constitution:
    """Read the constitution in `path`.

    Raises:
        ConstitutionError: the file can't be read, or one line for each mistake in it.
    """
    try:
        data = read_at_most(Path(path), FILE_BYTES)
    except OSError as error:
        remedy = "give --constitution, or make one: vmstate init"
        problem = f"{path}: cannot be read: {error.strerror}; {remedy}"
        raise ConstitutionError((problem,)) from error
    except InputError as error:
        raise ConstitutionError((str(error),)) from error
    return read_constitution(data, name=str(path))


def read_constitution(data: bytes, *, name: str = "constitution.toml") -> Constitution:
    """Read a constitution from the bytes of its file; `name` is used in messages.

    Raises:
        ConstitutionError: one line for each mistake, `name:line: path: what, and what to write`.
    """
    parsed, text = _parse(data, name)
    alone = _stage(parsed)
    try:
        document = Document.model_validate(parsed)
    except ValidationError as error:
        found = misfits(Document, error)
        if mended := mend(parsed, error):
            document, broken = mended
            found += _tell(document, broken)
        raise ConstitutionError(report(name, text, _as_written(found, alone))) from error
    if mistakes := _tell(document, set()):
        raise ConstitutionError(report(name, text, _as_written(mistakes, alone)))
    try:
        form = canonical.encode(_normal(document))
    except InputError as error:
        raise ConstitutionError((f"{name}:1: {error}",)) from error
    return Constitution(document=document, toml=data, canonical=form)


def _tell(document: Document, broken: set[Place]) -> list[tuple[Place, str]]:
    """All that doesn't fit together and does not rest on `broken`."""
    odd = tellable(find_odd_parts(document), broken)
    half_said = {place for _, _, rests_on in odd for place in rests_on}
    mistakes = [*odd, *tellable(find_mistakes(document), broken | half_said)]
    return [(place, what) for place, what, *_ in mistakes]


def _parse(data: bytes, name: str) -> tuple[dict[str, object], str]:
    if len(data) > FILE_BYTES:
        problem = f"{name}: has {len(data):,} bytes, at most {FILE_BYTES:,} are read"
        raise ConstitutionError((problem,))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConstitutionError((f"{name}: is not UTF-8 text: {error.reason}",)) from error
    if not text.strip():
        problem = f"{name}: is empty: write one to start from with vmstate init"
        raise ConstitutionError((problem,))
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        raise ConstitutionError((not_toml(name, text, error),)) from error
    except RecursionError as error:
        raise ConstitutionError((f"{name}: is nested too deep to be read",)) from error


def _stage(parsed: dict[str, object]) -> set[Place]:
    """Read each lone table of approvals as a list of one stage; says where those are."""
    rules = parsed.get("escalations")
    places: list[Place] = [("amendment",), ("recovery",)]
    places += [("escalations", rule) for rule in rules] if isinstance(rules, dict) else []
    alone: set[Place] = set()
    for place in places:
        table: object = parsed
        for key in (*place, "needs"):
            table = table.get(key) if isinstance(table, dict) else None
        if isinstance(table, dict) and not isinstance(table.get("approval", []), list):
            table["approval"] = [table["approval"]]
            alone.add((*place, "needs", "approval"))
    return alone


def _as_written(found: list[tuple[Place, str]], alone: set[Place]) -> list[tuple[Place, str]]:
    """The findings with no number for a stage that was written as a table by itself."""
    written = []
    for place, what in found:
        at = next((len(one) for one in alone if place[: len(one) + 1] == (*one, 0)), None)
        written.append((place if at is None else (*place[:at], *place[at + 1 :]), what))
    return written


def _normal(value: object) -> Json:
    """The value as canonical JSON, with only what the file says."""
    for kind, spell in _SPELLINGS:
        if isinstance(value, kind):
            return spell(value)
    raise TypeError(f"no canonical spelling for {type(value).__name__}")


def _normal_table(table: BaseModel) -> Json:
    return {key: _normal(value) for key, value in _said(table)}


def _normal_list(value: tuple[object, ...]) -> Json:
    if len(value) == 1 and isinstance(value[0], ApprovalNeed):
        return _normal(value[0])  # one stage, however it is written
    return [_normal(item) for item in value]


def _said(table: BaseModel) -> Iterator[tuple[str, object]]:
    for name, field in type(table).model_fields.items():
        if name in table.model_fields_set:
            yield field.alias or name, getattr(table, name)


_SPELLINGS: tuple[tuple[type, Callable[[typing.Any], Json]], ...] = (
    (BaseModel, _normal_table),
    (dict, lambda value: {str(key): _normal(item) for key, item in value.items()}),
    (tuple, _normal_list),
    (timedelta, duration_us),
    (Decimal, canonical.format_decimal),
    (PublicKey, str),
    (bool, bool),
    (int, int),
    (str, str),
)
