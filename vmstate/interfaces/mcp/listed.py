"""What the server behind says of itself, as agents are shown it: marked, and with nothing hidden.

Whatever is no visible character is shown by its number, and what it says to every agent is quoted,
so that nothing of it passes for the gate's own words.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import mcp_types as types
from pydantic import BaseModel

from vmstate.constitution.tools import ToolRule
from vmstate.interfaces.mcp.warden import PREFIX

GUIDE = (
    "Behind a vmstate gate: what you may call depends on the profile that you hold now, and a "
    "profile is a lease that ends by itself. When a call is refused, its result says what is "
    f"missing and what to call next. {PREFIX}status shows where you stand; release what you no "
    "longer need."
)
_SHOWN = frozenset(("description", "title"))  # what of an item, and in its schemas, is read as text

Item = TypeVar("Item", types.Tool, types.Resource, types.ResourceTemplate, types.Prompt)
_Model = TypeVar("_Model", bound=BaseModel)


def instructions(behind: str | None) -> str:
    """What an agent is told at the start: ours, and the server's as a quotation."""
    if behind is None:
        return GUIDE
    quoted = "\n".join(f"> {line}" for line in visible(behind).split("\n"))
    return f"{GUIDE}\n\nThe server behind it says:\n{quoted}"


def annotated(item: Item, rule: ToolRule, *, may: bool) -> Item:
    """The item, with what a call takes beside what is held, and what to do about it."""
    climb = f"needs {rule.profile}; {PREFIX}request_escalation asks for it"
    single = "each call takes an approval: call it; a person is asked"
    needs: list[str] = [] if may else [climb]
    needs += [single] if rule.each_call else []
    said = f"[{'; then '.join(needs)}] {item.description or ''}".rstrip()
    return item.model_copy(update={"description": said})


def plain(item: _Model) -> _Model:
    """The item with its texts made visible, those of its schemas too."""
    fields = {name: getattr(item, name) for name in type(item).model_fields}
    seen = {name: _plain(name, value) for name, value in fields.items()}
    changed = {name: value for name, value in seen.items() if value != fields[name]}
    return item.model_copy(update=changed) if changed else item


def visible(text: str) -> str:
    """The text with each character that is none to see as its number; lines stay lines."""
    return "".join(
        one if one.isprintable() or one in "\n\t" else f"\\u{{{ord(one):x}}}" for one in text
    )


def _plain(name: str, value: Any) -> Any:
    match value:
        case str() if name in _SHOWN:
            return visible(value)
        case BaseModel():
            return plain(value)
        case Mapping():
            return {key: _plain(key, one) for key, one in value.items()}
        case list():
            return [_plain("", one) for one in value]
        case _:
            return value
