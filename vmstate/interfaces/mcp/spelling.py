"""How a call is spelled: for its digest, for those who approve it, and for its receipt.

The digest is of one spelling of the arguments alone: JSON with sorted keys, no spaces and nothing
beyond ASCII. Approvers of a single call read the same JSON with its letters as they are. What they
read stands in its request, and so for good in the request's receipt: a secret is no argument for a
tool whose calls are approved one by one. Arguments too long to be read there are never approved.
"""

import json
from collections.abc import Mapping
from typing import Any

from vmstate.canonical import REASON_BYTES, check_text, digest
from vmstate.constitution.unmet import Unmet
from vmstate.errors import InputError

ARGUMENT_BYTES = 1_048_576  # of one call; what is more belongs into a file
NAME_SHOWN = 200  # characters of a name that has no form, as it is shown


def as_shown(text: str, nonce: str) -> dict[str, str]:
    """The salted digest of arguments, and what approvers of one call read of them.

    Nothing is shown of what is too long to be shown whole, and such a call is denied.
    """
    salted = digest(f"{nonce}\n{text}".encode())
    if len(text) > REASON_BYTES * len("\\u5199"):  # longer than any text that fits, escaped
        return {"arguments": salted, "shown": ""}
    plain = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    shown = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in plain)
    fits = len(shown.encode()) <= REASON_BYTES
    return {"arguments": salted, "shown": shown if fits else ""}


def unseen_of(rule: str, name: str, text: str) -> tuple[Unmet, ...]:
    """What is wrong with a single call whose approvers could not read all they would sign."""
    if as_shown(text, "")["shown"]:
        return ()
    needed = f"at most {REASON_BYTES:,} bytes of arguments, which its approvers read"
    return (Unmet(rule, "tool_malformed", needed, f"{name} with more", "send less in one call"),)


def spell(arguments: Mapping[str, Any] | None) -> str:
    """The one spelling of a call's arguments that their digest is of."""
    return json.dumps(arguments or {}, sort_keys=True, separators=(",", ":"))


def form_of(server: str, name: str, arguments: str) -> tuple[str, tuple[Unmet, ...]]:
    """The name as a receipt can show it, and what is wrong with the form of the call."""
    claims = []
    shown = name
    try:
        check_text(name, what="the name", most_bytes=NAME_SHOWN)
    except InputError:
        shown = name[:NAME_SHOWN].encode("unicode_escape").decode()[:NAME_SHOWN]
        needed, remedy = f"a name of one line, up to {NAME_SHOWN} bytes", "name it as it is listed"
        claims.append(Unmet(f"tools.{server}", "tool_malformed", needed, shown, remedy))
    if len(arguments) > ARGUMENT_BYTES:
        needed = f"at most {ARGUMENT_BYTES:,} bytes of arguments"
        given = f"{shown} with {len(arguments):,} bytes of arguments"
        claims.append(Unmet(f"tools.{server}", "tool_malformed", needed, given, "send less"))
    return shown, tuple(claims)
