"""The runbook's calls as tools, under their own names, each for the caller it came from.

Outside of drills an agent sees of histories what is about itself, and of what was missing the
kinds; in a drill, where nothing is at stake, it sees what the runbook's operator does.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from vmstate import tools
from vmstate.errors import InputError
from vmstate.interfaces.mcp.refusal import name_missing
from vmstate.misfit import first_misfit
from vmstate.session import Session, acting_as

CALLS = (
    tools.escalate,
    tools.escalate_on_threat,
    tools.escalate_to_phoenix,
    tools.deescalate,
    tools.get_active_escalations,
    tools.get_escalation_history,
    tools.cognitive_context,
    tools.cognitive_decide,
    tools.cognitive_invoke_tem,
    tools.cognitive_audit_trail,
    tools.guardian_status,
    tools.guardian_anchor,
    tools.treasury_create_budget,
    tools.treasury_debit,
)
_READS = ("get_", "cognitive_context", "cognitive_audit_trail", "guardian_status")
_LISTS = {"escalations": "active_count", "history": "count", "decisions": "count"}


class Result(BaseModel):
    """What every one of them returns at least."""

    model_config = ConfigDict(extra="allow")

    success: bool
    error: str | None = None


class RunbookTool:
    """One call of the runbook: its arguments as a model, and what it says to its caller."""

    def __init__(self, call: Callable[..., dict[str, Any]]) -> None:
        self._call = call
        self.name = call.__name__
        self.description = inspect.getdoc(call) or ""
        self.reads = self.name.startswith(_READS)
        self.takes = _arguments_of(call)
        self.gives = Result

    def call(self, here: Session, arguments: Mapping[str, Any] | None) -> Result:
        """Call it for `here`; raises InputError for arguments that have not its form."""
        try:
            taken = self.takes.model_validate(dict(arguments or {}))
        except ValidationError as error:
            raise InputError(first_misfit(error)) from error
        given = {name: getattr(taken, name) for name in taken.model_fields_set}
        with acting_as(here):
            result = self._call(**given)
        return Result.model_validate(result if here.in_drill else _for_an_agent(here, result))


def _arguments_of(call: Callable[..., Any]) -> type[BaseModel]:
    hints = get_type_hints(call)
    fields: dict[str, Any] = {
        name: (hints[name], ... if one.default is inspect.Parameter.empty else one.default)
        for name, one in inspect.signature(call).parameters.items()
    }
    return create_model(call.__name__, __config__=ConfigDict(extra="forbid"), **fields)


def _for_an_agent(here: Session, result: dict[str, Any]) -> dict[str, Any]:
    shown = _without_values(here, result)
    for listed, count in _LISTS.items():
        if listed in shown:
            own = [one for one in shown[listed] if one.get("principal") == here.principal]
            shown[listed] = [_without_values(here, one) for one in own]
            shown[count] = len(own)
    return shown


def _without_values(here: Session, result: dict[str, Any]) -> dict[str, Any]:
    """The result with what was missing told by kinds, where it holds a receipt of a denial."""
    if not result.get("error") or result.get("receipt") is None:
        return dict(result)
    receipt = here.authority.receipt(result["receipt"])
    missing = name_missing(receipt.unmet, here.authority.constitution.document)
    kinds = ", ".join(f"{one.get('name') or one['kind']} ({one['source']})" for one in missing)
    return {**result, "error": f"denied by {receipt.rule}, missing: {kinds}", "missing": missing}


RUNBOOK = tuple(RunbookTool(call) for call in CALLS)
