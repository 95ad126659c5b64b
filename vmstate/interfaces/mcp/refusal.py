"""What an agent is told when it may not: enough to do the right next thing, nothing to get past.

    {"rule": "tools.git.tools.\"git_*\"", "profile_now": "observer", "profile_needed": "operator",
     "missing": [{"kind": "profile", "source": "vmstate_request_escalation"}],
     "next": {"tool": "vmstate_request_escalation",
              "arguments": {"to": "operator", "trigger": "operator_request"}}, "receipt": 41}

With `"status": "pending", "request": "sha256:…", "poll_after": 5` a person was asked to approve.
`missing` names the kind of evidence and where it comes from, never a value that would pass: an
agent that learns the threshold states it. People see the numbers, in the receipt.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vmstate.canonical import Json
from vmstate.constitution.document import Document
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.route import Rung

POLL_AFTER = 5  # seconds; a person reads, thinks and signs
_SOURCES = {
    "reason_short": ("reason", "yourself: say in full why"),
    "cooldown": ("time", "the cool-down since this was last left"),
    "locked": ("lock", "whoever may lift it"),
    "requests_absent": ("listing", "[requests] of the constitution"),
    "requests_full": ("room", "a request of yours that is activated, withdrawn or over"),
    "hold_spent": ("time", "the longest hold without a break"),
    "unknown_principal": ("membership", "[groups] of the constitution"),
    "requester": ("membership", "the groups that the rule names"),
    "tool_unlisted": ("listing", "[tools] of the constitution"),
    "server_unknown": ("listing", "[tools] of the constitution"),
    "tool_malformed": ("form", "yourself: call it in the form that it has"),
    "call_stopped": ("profile", "the authority that ended while the call ran"),
    "budget_insufficient": ("budget", "whoever allocates it"),
    "budget_unknown": ("budget", "whoever allocates it"),
    "call_drill": ("ledger", "a gate over a live ledger"),
}
_CLIMB = frozenset(("tool_out_of_reach", "no_path", "act_out_of_reach"))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not, and what to do next; `receipt` is where it stands on record."""

    rule: str
    profile_now: str
    profile_needed: str | None
    missing: tuple[dict[str, Json], ...]
    next: dict[str, Json] | None
    receipt: int | None = None
    request: str | None = None

    def body(self) -> dict[str, Any]:
        """The JSON object that an agent gets."""
        pending: dict[str, Any] = {}
        if self.request is not None:
            pending = {"status": "pending", "request": self.request, "poll_after": POLL_AFTER}
        return {
            **pending,
            "rule": self.rule,
            "profile_now": self.profile_now,
            "profile_needed": self.profile_needed,
            "missing": list(self.missing),
            "next": self.next,
            "receipt": self.receipt,
        }

    @property
    def only_approval(self) -> bool:
        """Whether nothing is missing but that somebody approves."""
        return all(one["kind"] == "approval" for one in self.missing)

    @property
    def sentence(self) -> str:
        """The same for a model that reads text."""
        if self.request is not None:
            asked = f"Pending: a person was asked (request {self.request})."
            return f"{asked} Call the same again after {POLL_AFTER} s."
        kinds = ", ".join(dict.fromkeys(str(one["kind"]) for one in self.missing))
        needed = self.profile_needed
        needs = f" needs {needed} (you are {self.profile_now});" if needed else ""
        then = f" Next: call {self.next['tool']}." if self.next else ""
        return f"Denied by {self.rule}:{needs} missing: {kinds}.{then}"


def name_missing(
    unmet: Iterable[Unmet], document: Document, *, prefix: str = ""
) -> tuple[dict[str, Json], ...]:
    """The kinds of evidence that are missing and their sources, each once, without any value."""
    found: list[dict[str, Json]] = []
    for one in unmet:
        kind = _kind(one, document, prefix)
        if kind not in found:
            found.append(kind)
    return tuple(found)


def _kind(one: Unmet, document: Document, prefix: str) -> dict[str, Json]:
    if one.code in _CLIMB:
        return {"kind": "profile", "source": f"{prefix}request_escalation"}
    if one.code in _SOURCES:
        kind, source = _SOURCES[one.code]
        return {"kind": kind, "source": source}
    if one.code in {"approval_missing", "tool_unapproved"}:
        return {"kind": "approval", "source": one.required}
    if one.code.startswith("approval_"):
        return {"kind": "approval", "source": "somebody else whom the rule names"}
    if one.code.startswith(("fact_", "attestation_")) or one.code == "malformed":
        return _fact(one, document)
    return {"kind": one.code, "source": one.rule}


def _fact(one: Unmet, document: Document) -> dict[str, Json]:
    for name, fact in document.facts.items():
        if f'"{name}"' in one.rule or one.rule.endswith(f".{name}"):
            by = fact.attested_by
            source = f"an attestation by {by}" if by else "yourself: state it as it is"
            return {"kind": "fact", "name": name, "source": source}
    return {"kind": "fact", "source": "[facts] of the constitution"}


def next_rung(route: Iterable[Rung], prefix: str) -> dict[str, Json] | None:
    """The call that asks for the first rung of the way up; its reason is the agent's to say."""
    for rung in route:
        arguments: dict[str, Json] = {"to": rung.to_profile, "trigger": rung.trigger}
        return {"tool": f"{prefix}request_escalation", "arguments": arguments}
    return None
