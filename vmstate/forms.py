"""Forms that a value must have, so that pydantic reports our own checks in our own words."""

from collections.abc import Callable
from typing import Any

from pydantic import AfterValidator, BeforeValidator

from vmstate.canonical import REASON_BYTES, check_name, check_text
from vmstate.errors import InputError


def checked(check: Callable[[str], str]) -> AfterValidator:
    """A text that `check` takes; its InputError becomes a finding beside pydantic's."""

    def convert(value: str) -> str:
        try:
            return check(value)
        except InputError as error:
            raise ValueError(str(error)) from error

    return AfterValidator(convert)


def from_text(
    read: Callable[[str], Any], kind: type, what: str = "text: write it in quotes"
) -> BeforeValidator:
    """A value written as text and read by `read`; its InputError becomes a finding.

    `what` is said of a value that is no text: what it should have been, and how that is written.
    """

    def convert(value: object) -> object:
        if isinstance(value, kind):
            return value
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not {what}")  # noqa: TRY004 -- pydantic's
        try:
            return read(value)
        except InputError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(convert)


def line(what: str = "text", most_bytes: int = REASON_BYTES) -> AfterValidator:
    """A text that may stand in a receipt, `what` by name."""
    return checked(lambda text: check_text(text, what=what, most_bytes=most_bytes))


def name(what: str = "principal") -> AfterValidator:
    """A name, of `what` it is said to be."""
    return checked(lambda text: check_name(text, what=what))
