"""The runbook's calls, as plain functions over one ledger.

Each returns a plain dict: `success`, `error` (all that was missing, joined by `; `), and what its
caller reads from it. A denial is a result here, not an exception. What has no form, such as an
amount below one or a reason with a control character, is no question that could be denied: it
raises `InputError`, and nothing is written.

With `DRILL_MODE=1` they work on a drill's ledger of their own, `<ledger>.drill.db`, made on the
spot for each process; what `current_profile` and `from_profile` claim is then made true first, by
lawful steps that are marked as set-up. Otherwise they work on the ledger that is there, for the
principal in `VMSTATE_PRINCIPAL`, and a claim that does not hold is one more thing that is wrong:
claims are checked, never believed. A name in `approved_by` approves nothing outside a drill.

Source: the runbook, `vm-mcp/docs/DRILL.md`.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

from vmstate import canonical
from vmstate.answers import (
    Result,
    authority_now,
    blocked,
    health_now,
    history_of,
    newest,
    result_of,
    treasury_now,
)
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import Escalate, make_command
from vmstate.drills.stand_ins import StandIns
from vmstate.errors import InputError, UnknownPrincipal
from vmstate.session import Session, seat, session
from vmstate.signing import new_nonce

_Call = TypeVar("_Call", bound=Callable[..., Result])


class EscalationType(StrEnum):
    """Why somebody climbs: the triggers of the default constitution."""

    THREAT_DETECTED = "threat_detected"
    OPERATOR_REQUEST = "operator_request"
    CRISIS_DECLARED = "crisis_declared"
    QUORUM_APPROVED = "quorum_approved"
    SOVEREIGN_OVERRIDE = "sovereign_override"


class DeescalationType(StrEnum):
    """How a lease ends: the endings of a constitution."""

    TIMEOUT_EXPIRED = "timeout_expired"
    THREAT_RESOLVED = "threat_resolved"
    OPERATOR_RELEASE = "operator_release"
    CRISIS_CONCLUDED = "crisis_concluded"
    SOVEREIGN_REVOKE = "sovereign_revoke"


def _together(function: _Call) -> _Call:
    """One call at a time: a drill's seat must still be there when the question is asked."""

    @functools.wraps(function)
    def alone(*args: Any, **kwargs: Any) -> Any:
        with session().lock:
            return function(*args, **kwargs)

    return alone  # type: ignore[return-value]


# ---- climbing and coming back ------------------------------------------------------------------


def escalate(
    from_profile: str,
    to_profile: str,
    escalation_type: EscalationType | str,
    approved_by: str | None = None,
    reason: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Result:
    """Ask for `to_profile`, from where one claims to stand."""
    return _climb(
        claim=from_profile,
        to=to_profile,
        trigger=str(escalation_type),
        approved_by=approved_by,
        reason=reason or "",
        facts={name: _spell(value) for name, value in (facts or {}).items()},
    )


def escalate_on_threat(
    current_profile: str, threat_id: str, threat_type: str, confidence: float | Decimal | str
) -> Result:
    """Ask to be guardian because of a threat; in a drill the stand-in sensor attests it."""
    facts = {
        "threat.id": threat_id,
        "threat.type": threat_type,
        "threat.confidence": _spell(confidence),
    }
    return _climb(
        claim=current_profile,
        to="guardian",
        trigger=EscalationType.THREAT_DETECTED,
        reason=f"threat {threat_id}",
        facts=facts,
    )


def escalate_to_phoenix(reason: str, approved_by: str | None = None) -> Result:
    """From guardian to phoenix because of a declared crisis."""
    return _climb(
        claim="guardian",
        to="phoenix",
        trigger=EscalationType.CRISIS_DECLARED,
        approved_by=approved_by,
        reason=reason,
        facts={},
    )


@_together
def deescalate(
    escalation_id: str,
    deescalation_type: DeescalationType | str = DeescalationType.OPERATOR_RELEASE,
    reason: str = "",
) -> Result:
    """End one's own lease; how far one falls is the ending's."""
    here = session()
    ending = str(deescalation_type)
    before = here.authority.size()
    receipt = here.authority.release(here.principal, escalation_id, ending=ending, reason=reason)
    ends = here.authority.receipts(after=before - 1, type_="profile_deescalation")
    ended = [end.lease for end in ends if end.seq <= receipt.seq]
    return {**result_of(receipt), "escalation_id": escalation_id, "ended": ended}


def get_active_escalations() -> Result:
    """Every lease that is live now."""
    here = session()
    escalations = [
        {
            "escalation_id": lease.id,
            "principal": lease.principal,
            "to_profile": lease.profile,
            "rule": lease.rule,
            "granted_at": canonical.format_at(lease.granted_at),
            "expires_at": canonical.format_at(lease.expires_at),
        }
        for standing in here.authority.status()
        for lease in standing.leases
    ]
    return {"success": True, "active_count": len(escalations), "escalations": escalations}


def get_escalation_history() -> Result:
    """Grants, ends and refusals, the oldest first; the newest thousand of them."""
    kept = {"profile_escalation", "profile_deescalation", "lease_renewed", "auth_failure"}
    history = [history_of(receipt) for receipt in newest(session()) if receipt.type in kept]
    return {"success": True, "history": history, "count": len(history)}


# ---- the cognitive scroll ----------------------------------------------------------------------


def cognitive_context(include: Iterable[str] = ("health",)) -> Result:
    """What is the case now; reads only, and leaves no receipt. Parts: health, treasury, authority.

    In a drill, `treasury` shows the ceiling of the training budget beside the budgets.
    """
    here = session()
    parts: Mapping[str, Callable[[Session], Result]] = {
        "health": health_now,
        "treasury": treasury_now,
        "authority": authority_now,
    }
    include = (include,) if isinstance(include, str) else tuple(include)
    unknown = [name for name in include if name not in parts]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no part of the context: there are {', '.join(parts)}")
    return {"success": True, **{name: parts[name](here) for name in include}}


def cognitive_decide(decision: str, reason: str = "", threat_id: str | None = None) -> Result:
    """Put a decision on the record, as guardian."""
    arguments = {"decision": decision, **({"threat.id": threat_id} if threat_id else {})}
    return _act("cognitive.decide", reason=reason, arguments=arguments)


def cognitive_invoke_tem(threat_id: str, reason: str = "") -> Result:
    """Turn a threat into a defence, as guardian; the receipt names the facts that called for it.

    `tem_context_hash` is the digest of the facts that the guards saw when the topmost lease was
    granted that rests on any. It stands in that lease's receipt as well.
    """
    return _act("tem.invoke", reason=reason, arguments={"threat.id": threat_id})


def cognitive_audit_trail() -> Result:
    """What stands in the cognitive scroll, the oldest first."""
    decisions = [history_of(r) for r in newest(session()) if r.fields["scroll"] == "cognitive"]
    return {"success": True, "decisions": decisions, "count": len(decisions)}


# ---- guardian and treasury ---------------------------------------------------------------------


def guardian_status() -> Result:
    """Size and root of each scroll, and the last checkpoint."""
    here = session()
    heads = here.authority.heads()
    scrolls = heads.scrolls
    return {
        "success": True,
        "scrolls": {name: {"size": size, "root": root} for name, (size, root) in scrolls.items()},
        "scroll_roots": {name: root for name, (_, root) in scrolls.items()},
        "checkpoint": heads.note,
        "origin": here.authority.origin,
    }


@_together
def guardian_anchor(reason: str = "") -> Result:
    """Put the scrolls' roots and the checkpoint's digest on the record, as guardian."""
    here = session()
    if here.in_drill and (why := seat(here, "guardian", exactly=False)):
        return blocked(why)
    return result_of(here.authority.anchor(here.principal, reason=reason))


@_together
def treasury_create_budget(budget_id: str, name: str, allocated: int, currency: str) -> Result:
    """Allocate a budget, as guardian."""
    here = session()
    if here.in_drill and (why := seat(here, "guardian", exactly=False)):
        return blocked(why)
    receipt = here.authority.create_budget(
        here.principal, budget_id, name=name, allocated=allocated, unit=currency
    )
    return {**result_of(receipt), "budget_id": budget_id, "allocated": allocated}


@_together
def treasury_debit(budget_id: str, amount: int, description: str = "") -> Result:
    """Spend from a budget, as operator; more than its balance is refused before any write."""
    here = session()
    if here.in_drill and (why := seat(here, "operator", exactly=False)):
        return blocked(why)
    receipt = here.authority.debit(here.principal, budget_id, amount, reason=description)
    line = receipt.fields["cost"][0]
    balance = line["available"] - line["charged"]
    return {**result_of(receipt), "budget_id": budget_id, "balance": balance}


# ---- inside ------------------------------------------------------------------------------------


@_together
def _climb(
    *,
    claim: str,
    to: str,
    trigger: str,
    reason: str,
    facts: dict[str, str],
    approved_by: str | None = None,
) -> Result:
    here = session()
    if here.stand_ins is not None and (why := seat(here, claim, exactly=True)):
        return blocked(why)
    asked: dict[str, Any] = {"principal": here.principal, "to": to, "trigger": trigger}
    asked |= {"reason": reason, "facts": facts}
    claims: list[Unmet] = []
    if here.stand_ins is None:
        claims += _false_claims(here, claim, approved_by)
    elif approved_by is not None and not here.stand_ins.knows(approved_by):
        claims.append(_unsigned(approved_by))
    if here.stand_ins is not None and (facts or approved_by is not None):
        asked |= _backing(here.stand_ins, here, asked, approved_by)
    command = make_command(Escalate, {**asked, "claims": tuple(claims)})
    return result_of(here.authority.submit(command))


def _false_claims(here: Session, claim: str, approved_by: str | None) -> list[Unmet]:
    """Outside of drills a claim is checked, and a bare name is nobody's approval."""
    unmet = []
    held = _held(here)
    if claim != held:
        remedy = f"say {held}, or leave the claim to the ledger"
        unmet.append(Unmet("profiles", "claim_mismatch", held, claim, remedy))
    if approved_by is not None:
        unmet.append(_unsigned(approved_by))
    return unmet


def _unsigned(approved_by: str) -> Unmet:
    remedy = "have the request signed: vmstate request new, vmstate sign"
    return Unmet("principals", "approval_unsigned", "a signature", approved_by, remedy)


def _held(here: Session) -> str:
    """The profile held; who is unknown stands at the baseline, and is denied as unknown."""
    try:
        return here.held
    except UnknownPrincipal:
        return here.authority.constitution.baseline


def _backing(
    stand_ins: StandIns, here: Session, asked: Mapping[str, Any], approved_by: str | None
) -> dict[str, Any]:
    """What the stand-ins sign for a climb: its facts as sensors, and as approver who is named."""
    document = here.authority.constitution.document
    try:
        request = here.authority.prepare(
            asked["principal"],
            asked["to"],
            trigger=asked["trigger"],
            reason=asked["reason"],
            facts=asked["facts"],
            nonce=new_nonce(),
        )
    except InputError:
        return {}  # what can't be written down can't be signed; the denial says what is wrong
    now = here.authority.now()
    groups = {document.facts[name].attested_by for name in request.facts} - {None}
    sensors = [stand_ins.named(group)[0] for group in sorted(filter(None, groups))]
    backing: dict[str, Any] = {"request": request, "facts": request.facts}
    backing["attestations"] = tuple(stand_ins.attest(request, by, now) for by in sensors)
    if approved_by is not None and stand_ins.knows(approved_by):
        backing["approvals"] = (stand_ins.approve(request, approved_by, now),)
    return backing


@_together
def _act(name: str, *, reason: str, arguments: Mapping[str, str]) -> Result:
    here = session()
    table = here.authority.constitution.document.acts.get(name)
    if table is not None and here.in_drill and (why := seat(here, table.profile, exactly=False)):
        return blocked(why)
    receipt = here.authority.act(here.principal, name, reason=reason, arguments=dict(arguments))
    result = receipt.fields["what"]["result"]
    return {
        **result_of(receipt),
        "dry_run": result == "dry_run",
        "simulated": result == "simulated",
    }


def _spell(value: float | Decimal | str) -> str:
    """A float becomes the decimal that its `repr` shows: 0.92 is "0.92"."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise InputError(f"{value!r} is not a number: write 0.92 or '0.92'")
    return canonical.format_decimal(Decimal(repr(value)) if isinstance(value, float) else value)
