"""What pydantic found to be wrong with a value, in our words: what was seen, what was needed."""

from collections.abc import Mapping, Sized
from datetime import timedelta

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_SEEN_CHARACTERS = 60  # of a wrong value, in a message

_NO_NUMBER = "{seen} is not a whole number"
_NO_BOOLEAN = "{seen} is neither true nor false"
_NO_LIST = "{seen} is not a list"
_NO_TABLE = "{seen} is not a table"
_SHORT = "{seen} is too short, needs {min_length} or more"
_LONG = "has a length of {length}, at most {max_length} is allowed"
_SAID: Mapping[str, str] = {
    "missing": "is missing: add it",
    "extra_forbidden": "is not known here: leave it out",
    "int_type": _NO_NUMBER,
    "int_from_float": _NO_NUMBER,
    "int_parsing": _NO_NUMBER,
    "string_type": "{seen} is not text",
    "bool_type": _NO_BOOLEAN,
    "bool_parsing": _NO_BOOLEAN,
    "tuple_type": _NO_LIST,
    "list_type": _NO_LIST,
    "dict_type": _NO_TABLE,
    "model_type": _NO_TABLE,
    "model_attributes_type": _NO_TABLE,
    "greater_than_equal": "{seen} is too small, needs {ge} or more",
    "greater_than": "{seen} is too small, needs more than {gt}",
    "less_than_equal": "{seen} is too large, needs {le} or less",
    "less_than": "{seen} is too large, needs less than {lt}",
    "too_short": _SHORT,
    "string_too_short": _SHORT,
    "too_long": _LONG,
    "string_too_long": _LONG,
    "bytes_too_long": _LONG,
    "string_pattern_mismatch": "{seen} is not spelled {pattern}",
    "literal_error": "{seen} is not one of {expected}",
}


def first_misfit(error: ValidationError) -> str:
    """The first thing that is wrong with something's form, and where."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    said = say_misfit(first)
    if not where or said.startswith((where, f"the {where}")):
        return said
    return f"{where}: {said}"


def say_misfit(error: ErrorDetails) -> str:
    """What is wrong with the value, without where it stands."""
    value, type_ = error["input"], error["type"]
    if type_ == "value_error":
        return error["msg"].removeprefix("Value error, ")
    length = len(value) if isinstance(value, Sized) else None
    told = _SAID.get(type_, "{seen}: {msg}")
    about = {"seen": spell_seen(value), "length": length, "msg": error["msg"]}
    return told.format_map(about | error.get("ctx", {}))


def spell_seen(value: object) -> str:
    """A wrong value as a message shows it: the beginning of a long one."""
    text = str(value) if isinstance(value, timedelta) else repr(value)
    return text if len(text) <= _SEEN_CHARACTERS else f"{text[:_SEEN_CHARACTERS]}…"
