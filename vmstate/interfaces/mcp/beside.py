"""What comes beside a call's name and arguments: of a call that people approve, nothing goes on.

They see the name and the arguments, and sign exactly these. What else a call can hold (`_meta`, the
answers to a server's questions, a server's own state) they can't see, and it could change what is
done.
"""

from typing import TypeVar

import mcp_types as types

from vmstate.constitution.tools import ToolRule
from vmstate.errors import InputError

Params = TypeVar("Params", bound=types.InputResponseRequestParams)


def require_alone(
    rule: ToolRule | None, name: str, params: types.InputResponseRequestParams
) -> None:
    """Raises InputError for answers or a state that come with a call that is approved by itself."""
    beside = params.input_responses is not None or params.request_state is not None
    if beside and rule is not None and rule.each_call:
        needed = "needs to come with its arguments alone: each call is approved by them"
        raise InputError(f"{name} came with answers or a state, {needed}")


def as_approved(rule: ToolRule | None, params: Params) -> Params:
    """What goes to the server."""
    if rule is None or not rule.each_call:
        return params
    unseen = {"meta": None, "input_responses": None, "request_state": None}
    return params.model_copy(update=unseen)
