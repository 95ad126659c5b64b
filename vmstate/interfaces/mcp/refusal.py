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

FORBIDDEN = -32050  # the JSON-RPC code of a refusal where a result can't say it; no server's
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
    "already_held": ("lease", "yours, which holds it already: renew it"),
    "unknown_profile": ("form", "[profiles] of the constitution"),
    "act_unknown": ("listing", "[acts] of the constitution"),
    "ttl_above_rule": ("time", "yourself: ask for less"),
    "clock_regression": ("time", "whoever keeps this machine's clock"),
    "no_regression": ("time", "the clock, which needs no recovery"),
    "no_recovery": ("listing", "[recovery] of the constitution"),
    "unknown_lease": ("lease", "one of yours that has not ended"),
    "not_top": ("lease", "the topmost of yours"),
    "renewals_none": ("lease", "the rule, by a fresh climb once it has ended"),
    "renewals_spent": ("lease", "the rule, by a fresh climb once it has ended"),
    "renewed_apart": ("lease", "yourself: renew it by itself first"),
    "renewal_gains_nothing": ("time", "waiting: it lasts as long already"),
    "fence_stale": ("lease", "the one that stands now: plan again under it"),
    "uses_spent": ("lease", "a fresh climb"),
    "ending_unknown": ("form", "[endings] of the constitution"),
    "ending_not_admitted": ("membership", "whom [endings] of the constitution names"),
    "no_locks": ("listing", "[locks] of the constitution"),
    "lock_not_admitted": ("membership", "whom [locks] of the constitution names"),
    "lock_on_baseline": ("form", "yourself: name a profile above the baseline"),
    "lock_for_ever": ("form", "yourself: say for how long"),
    "locks_full": ("room", "a lock that is lifted"),
    "unknown_lock": ("lock", "one that stands"),
    "not_proven": ("proof", "whoever asks: a key, an account or a token of theirs"),
    "not_caller": ("proof", "whoever is asked for: they ask themselves"),
    "not_self": ("proof", "whoever is asked for: they ask themselves"),
    "token_unknown": ("proof", "a token whose digest stands under [principals]"),
    "request_differs": ("request", "a request for exactly this"),
    "request_other_ledger": ("request", "a request for this ledger"),
    "request_other_constitution": ("request", "a request under the law in force"),
    "request_used": ("request", "a new request"),
    "request_open": ("request", "the one that is open: activate it"),
    "request_unknown": ("request", "one of yours that is open"),
    "request_over": ("request", "a new request"),
    "request_exceptional": ("request", "a request without what is exceptional"),
    "request_of_call": ("request", "yourself: make the call that it is for"),
    "approval_unasked": ("attestation", "whoever attests the facts of the request"),
    "deny_own": ("request", "yourself: withdraw it"),
    "deny_not_admitted": ("membership", "whoever may approve it"),
    "tally_above": ("form", "each call by itself"),
    "tool_repeated": ("time", "the receipt of the first refusal"),
    "budget_exists": ("budget", "another name"),
    "budget_ceiling": ("budget", "less than the ceiling of this drill"),
    "budget_currency": ("budget", "the currency of drills"),
    "claim_mismatch": ("form", "the ledger: claim what it says"),
    "drill_over": ("drill", "a new drill"),
    "drill_not_on": ("drill", "drill mode"),
    "drill_on": ("drill", "the one that is on"),
    "not_a_drill": ("drill", "a drill's ledger"),
    "no_amendment": ("listing", "[amendment] of the constitution"),
    "amends_nothing": ("form", "a law that differs"),
    "amend_drill": ("ledger", "a live ledger"),
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
    if one.code.startswith("order_"):
        return {"kind": "signature", "source": "whoever asks: a signed order for exactly this"}
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


def next_rung(route: Iterable[Rung], prefix: str, unmet: Iterable[Unmet]) -> dict[str, Json] | None:
    """The call that asks for the first rung of the way up; its reason is the agent's to say.

    None under a lock, which denies that call as well.
    """
    if any(one.code == "locked" for one in unmet):
        return None
    for rung in route:
        arguments: dict[str, Json] = {"to": rung.to_profile, "trigger": rung.trigger}
        return {"tool": f"{prefix}request_escalation", "arguments": arguments}
    return None
