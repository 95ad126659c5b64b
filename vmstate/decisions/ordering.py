"""What an order for a command has to say, so that a signature proves who asks for exactly that."""

from datetime import timedelta
from typing import Any

from vmstate import canonical
from vmstate.clock import duration_us
from vmstate.decisions.command import CommandBase
from vmstate.signing import Request, Signed

_ABOUT_ASKING = frozenset(
    ("actor", "reason", "proven", "caller", "order", "claims", "idempotency_key")
)


def order_arguments(command: CommandBase) -> dict[str, str]:
    """What an order for `command` has to say beside its verb and reason: each field as text.

    Fields that say nothing are left out; durations are microseconds; what is no text or number is
    there by the digest of its canonical JSON, a prepared request or statement by its id.
    """
    said = {}
    for name in type(command).model_fields:
        value = getattr(command, name)
        if name not in _ABOUT_ASKING and value not in (None, False, (), {}, ""):
            said[name] = _as_text(value)
    return said


def _as_text(value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true"
        case int():
            return str(value)
        case timedelta():
            return str(duration_us(value))
        case Request():
            return value.id
        case Signed():
            return value.statement.id
        case bytes():
            return canonical.digest(value)
        case dict():
            return canonical.digest(canonical.encode(value))
        case _:
            return canonical.digest(canonical.encode([one.body() for one in value]))
