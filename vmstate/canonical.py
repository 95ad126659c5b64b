"""One spelling for everything that is hashed, signed or compared.

Canonical bytes are JCS (RFC 8785) within a narrower profile: ASCII keys, integers below 2^53, no
floats. In that profile every JCS encoder gives the same bytes, so a stranger needs none of ours.

    {"at":"2026-01-01T00:00:00.000000Z","facts":{"threat.confidence":"0.92"},"v":1}

Times have six decimals and a Z, durations read `1h30m`, decimals have no trailing zero, and text
from outside has no character that could make a terminal or a reader see something else.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeAlias

import orjson

from vmstate.errors import InputError

Json: TypeAlias = "bool | int | str | list[Json] | tuple[Json, ...] | dict[str, Json] | None"

SAFE_INTEGER = 2**53  # above it a JavaScript reader would round
NESTING = 32  # a receipt with a signed statement in it is 5 deep
NAME_BYTES = 255  # a principal fits a file name and an index key
REASON_BYTES = 1_024  # long text goes beside the ledger; a receipt is read by people
FACT_CHARACTERS = 256  # a receipt holds every fact and stays below 65,535 bytes
DURATION_DAYS = 366  # a lease longer than a year is not time-boxed

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._/@-]*")
_DURATION = re.compile(
    r"(?:([0-9]{1,12})d)?(?:([0-9]{1,12})h)?(?:([0-9]{1,12})m)?(?:([0-9]{1,12})s)?"
)
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?")
_INSTANT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?)Z")
_HOLDS_MORE = (dict, list, tuple)


def encode(value: Json) -> bytes:
    """Return the canonical bytes of `value`.

    Raises:
        InputError: a float, a key that is not ASCII, an integer of 2^53 or more, a lone surrogate.
    """
    _require_profile(value)
    return _spell(value)


def decode(data: bytes) -> Json:
    """Return the value whose canonical bytes are `data`, and refuse any other spelling of it.

    Raises:
        InputError: not JSON, or not its one spelling (a duplicate key, a space, key order).
    """
    value = parse(data)
    if _spell(value) != data:
        raise InputError("JSON is not in its canonical spelling (RFC 8785)")
    return value


def parse(data: bytes) -> Json:
    """Return the value of any JSON within the profile; raises InputError."""
    try:
        value: Json = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InputError(f"not JSON: {error}") from error
    _require_profile(value)
    return value


def digest(data: bytes) -> str:
    """`sha256:` and the hexadecimal SHA-256 of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _spell(value: Json) -> bytes:
    """The bytes of a value that is within the profile."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise InputError(f"not canonical JSON: {error}") from error


def _require_profile(value: Json, depth: int = 0) -> None:
    if isinstance(value, _HOLDS_MORE):
        if depth > NESTING or (depth == NESTING and value):
            raise InputError(f"nested more than {NESTING} deep")
        for item in _values(value) if isinstance(value, dict) else value:
            # Most of a receipt is text or nothing; a call for each piece is what this would cost.
            if item is None or type(item) is str:
                continue
            if not isinstance(item, int) or not -SAFE_INTEGER < item < SAFE_INTEGER:
                _require_profile(item, depth + 1)
    elif isinstance(value, int):
        if not -SAFE_INTEGER < value < SAFE_INTEGER:
            raise InputError(f"{value} is not below 2^53")
    elif value is not None and not isinstance(value, str):
        raise InputError(f"{value!r} is {type(value).__name__}: write numbers as decimal text")


def _values(table: "dict[str, Json]") -> Iterable[Json]:
    """The values of a table whose keys are as they have to be."""
    if not all(map(str.isascii, table)):
        odd = next(key for key in table if not key.isascii())
        raise InputError(f"key {odd!r} is not ASCII text")
    return table.values()


def check_text(text: str, *, what: str, most_bytes: int) -> str:
    """Return `text` if it may stand in a receipt.

    Raises:
        InputError: too long, or holding a control, bidirectional, line-break or surrogate
            character, any of which could make what is read differ from what was signed.
    """
    for position, character in enumerate(text):
        if not character.isascii() or not character.isprintable():
            _check_character(character, position, what)
    size = len(text.encode())
    if size > most_bytes:
        raise InputError(f"{what} has {size:,} bytes, at most {most_bytes:,} are allowed")
    return text


def _check_character(character: str, position: int, what: str) -> None:
    category = unicodedata.category(character)
    bidirectional = unicodedata.bidirectional(character) in _BIDIRECTIONAL_CONTROLS
    if category in {"Cc", "Cs", "Zl", "Zp"} or bidirectional or character in _INVISIBLE_MARKS:
        name = f"U+{ord(character):04X}"
        raise InputError(
            f"{what} has the control character {name} at position {position}, "
            "which could hide what it says: leave it out"
        )


_BIDIRECTIONAL_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
_INVISIBLE_MARKS = {"\u061c", "\u200e", "\u200f"}


def check_name(name: str, *, what: str = "principal") -> str:
    """Return `name` if it can name a principal: ASCII, one case, no wildcard.

    Raises:
        InputError: empty, too long, or with a character that a name may not have.
    """
    if len(name) > NAME_BYTES:
        raise InputError(f"{what} has {len(name)} characters, at most {NAME_BYTES} are allowed")
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{what} {name!r} is not a name: start with a letter or digit, go on with letters, "
            "digits and : . _ / @ -"
        )
    return name


def parse_duration(text: str) -> timedelta:
    """Read `30m`, `1h30m`, `90s` or `2d`; raises InputError, and for zero too."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise InputError(f"{text!r} is not a duration, write {_suggested_duration(text)}")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    if days > DURATION_DAYS or hours + minutes + seconds > DURATION_DAYS * 86_400:
        raise InputError(f"{text!r} is more than {DURATION_DAYS} days")
    duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not duration:
        raise InputError(f"{text!r} is no time at all, write '15m' or '1h30m'")
    if duration > timedelta(days=DURATION_DAYS):
        raise InputError(f"{text!r} is more than {DURATION_DAYS} days")
    return duration


def _suggested_duration(text: str) -> str:
    match = re.fullmatch(r"\s*([0-9]{1,6})\s*([dhms])[a-z]*\s*", text, re.IGNORECASE)
    first = f"{match[1]}{match[2].lower()}" if match else "15m"
    return f"'{first}' or '1h30m'"


def format_duration(duration: timedelta) -> str:
    """`1h30m`: whole seconds, the units that are not zero; less than a second reads `0s`."""
    seconds = int(duration.total_seconds())
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_decimal(text: str) -> Decimal:
    """Read a plain decimal such as `0.80`; raises InputError for exponents, signs and spaces."""
    if not _DECIMAL.fullmatch(text):
        raise InputError(f"{text!r} is not a decimal, write '0.80'")
    return Decimal(text)


def format_decimal(value: Decimal) -> str:
    """The shortest plain spelling: `0.8`, `1`, `0`."""
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def format_at(at: datetime) -> str:
    """RFC 3339 in UTC with six decimals: `2026-01-01T00:00:00.000000Z`."""
    return f"{at.astimezone(UTC).isoformat(timespec='microseconds').removesuffix('+00:00')}Z"


def parse_at(text: str) -> datetime:
    """Read what `format_at` writes, or with fewer decimals; raises InputError."""
    match = _INSTANT.fullmatch(text)
    try:
        if match:
            return datetime.fromisoformat(f"{match[1]}+00:00")
    except ValueError:
        pass
    raise InputError(f"{text!r} is not a time, write '2026-01-01T00:00:00Z'")
