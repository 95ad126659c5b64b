"""The runbook's calls, as plain functions over one ledger.

Each returns a plain dict: `success`, `error` (all that was missing, joined by `; `), and what its
caller reads from it. A denial is a result here, not an exception.

With `DRILL_MODE=1` they work on a drill's ledger of their own, `<ledger>.drill.db`, made on the
spot for each process; what `current_profile` and `from_profile` claim is then made true first, by
lawful steps that are marked as set-up. Otherwise they work on the ledger that is there, for the
principal in `VMSTATE_PRINCIPAL`, and a claim that does not hold is one more thing that is wrong:
claims are checked, never believed. A name in `approved_by` approves nothing outside a drill.

Source: the runbook, `vm-mcp/docs/DRILL.md`.
"""

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any

from vmstate import canonical
from vmstate.authority import Authority
from vmstate.clock import SystemClock
from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import load_constitution, read_constitution
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import Escalate, Release, make_command
from vmstate.drills.stand_ins import StandIns
from vmstate.errors import InputError, LedgerMismatch, LedgerNotFound
from vmstate.expiry import Expiry
from vmstate.health import check_health
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.store import Ledger
from vmstate.signing import new_nonce

Result = dict[str, Any]

SETUP_REASON = "DRILL: set-up"
HISTORY = 1_000  # receipts that a history holds, the newest


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


class Session:
    """One principal at one ledger; what the module's functions work on."""

    def __init__(
        self, authority: Authority, expiry: Expiry, principal: str, stand_ins: StandIns | None
    ) -> None:
        self.authority = authority
        self.expiry = expiry
        self.principal = principal
        self.stand_ins = stand_ins

    @property
    def in_drill(self) -> bool:
        return self.stand_ins is not None

    @property
    def held(self) -> str:
        """The profile held now."""
        return self.authority.standing(self.principal).profile

    def close(self) -> None:
        """Stop giving back and close the ledger; a drill's mode is switched off first."""
        if self.in_drill:
            self.authority.drill_mode(on=False, set_by="the session ended")
        self.expiry.stop()
        self.authority.close()


_lock = threading.Lock()
_sessions: dict[int, Session] = {}


def session() -> Session:
    """This process's session, made when it is first needed."""
    with _lock:
        if os.getpid() not in _sessions:
            _sessions.clear()  # a forked child can use neither its parent's ledger nor its thread
            _sessions[os.getpid()] = _open_session()
        return _sessions[os.getpid()]


def close_session() -> None:
    """End this process's session, if there is one; the next call makes another."""
    with _lock:
        found = _sessions.pop(os.getpid(), None)
    if found is not None:
        found.close()


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


def deescalate(
    escalation_id: str,
    deescalation_type: DeescalationType | str = DeescalationType.OPERATOR_RELEASE,
    reason: str = "",
) -> Result:
    """End one's own lease; how far one falls is the ending's."""
    here = session()
    ending = str(deescalation_type)
    receipt = here.authority.release(here.principal, escalation_id, ending=ending, reason=reason)
    return _result(receipt)


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
    history = [_history(receipt) for receipt in _newest() if receipt.type in kept]
    return {"success": True, "history": history, "count": len(history)}


# ---- the cognitive scroll ----------------------------------------------------------------------


def cognitive_context(include: Iterable[str] = ("health",)) -> Result:
    """What is the case now; reads only, and leaves no receipt. Parts: health, treasury, authority.

    In a drill, `treasury` shows the ceiling of the training budget beside the budgets.
    """
    here = session()
    parts: Mapping[str, Callable[[Session], Result]] = {
        "health": _health,
        "treasury": _treasury,
        "authority": _authority,
    }
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

    `tem_context_hash` is the digest of the facts that the guards of the present lease saw. It
    stands in that lease's receipt as well.
    """
    here = session()
    if here.in_drill and (blocked := _seat(here, "guardian", exactly=False)):
        return blocked
    context = _context_hash(here)
    proofs = {"tem_context_hash": context} if context is not None else {}
    result = _act("tem.invoke", reason=reason, arguments={"threat.id": threat_id}, proofs=proofs)
    return {**result, "tem_context_hash": context}


def cognitive_audit_trail() -> Result:
    """What stands in the cognitive scroll, the oldest first."""
    decisions = [_history(r) for r in _newest() if r.fields["scroll"] == "cognitive"]
    return {"success": True, "decisions": decisions, "count": len(decisions)}


# ---- guardian and treasury ---------------------------------------------------------------------


def guardian_status() -> Result:
    """Size and root of each scroll, and the last checkpoint."""
    here = session()
    with here.authority.ledger.read() as snapshot:
        head, scrolls = snapshot.head(), snapshot.scrolls()
    return {
        "success": True,
        "scrolls": {name: {"size": size, "root": root} for name, (size, root) in scrolls.items()},
        "scroll_roots": {name: root for name, (_, root) in scrolls.items()},
        "checkpoint": head.note,
        "origin": here.authority.ledger.origin,
    }


def guardian_anchor(reason: str = "") -> Result:
    """Put the scrolls' roots and the checkpoint's digest on the record, as guardian."""
    here = session()
    if here.in_drill and (blocked := _seat(here, "guardian", exactly=False)):
        return blocked
    return _result(here.authority.anchor(here.principal, reason=reason))


def treasury_create_budget(budget_id: str, name: str, allocated: int, currency: str) -> Result:
    """Allocate a budget, as guardian."""
    here = session()
    if here.in_drill and (blocked := _seat(here, "guardian", exactly=False)):
        return blocked
    receipt = here.authority.create_budget(
        here.principal, budget_id, name=name, allocated=allocated, unit=currency
    )
    return {**_result(receipt), "budget_id": budget_id, "allocated": allocated}


def treasury_debit(budget_id: str, amount: int, description: str = "") -> Result:
    """Spend from a budget, as operator; more than its balance is refused before any write."""
    here = session()
    if here.in_drill and (blocked := _seat(here, "operator", exactly=False)):
        return blocked
    receipt = here.authority.debit(here.principal, budget_id, amount, reason=description)
    line = receipt.fields["cost"][0]
    balance = line["available"] - line["charged"]
    return {**_result(receipt), "budget_id": budget_id, "balance": balance}


# ---- inside ------------------------------------------------------------------------------------


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
    if here.stand_ins is not None and (blocked := _seat(here, claim, exactly=True)):
        return blocked
    asked: dict[str, Any] = {"principal": here.principal, "to": to, "trigger": trigger}
    asked |= {"reason": reason, "facts": facts}
    claims: list[Unmet] = []
    if here.stand_ins is None:
        claims += _false_claims(here, claim, approved_by)
    elif facts or approved_by is not None:
        asked |= _backing(here.stand_ins, here, asked, approved_by)
    command = make_command(Escalate, {**asked, "claims": tuple(claims)})
    return _result(here.authority.submit(command))


def _false_claims(here: Session, claim: str, approved_by: str | None) -> list[Unmet]:
    """Outside of drills a claim is checked, and a bare name is nobody's approval."""
    unmet = []
    held = here.held
    if claim != held:
        remedy = f"say {held}, or leave the claim to the ledger"
        unmet.append(Unmet("profiles", "claim_mismatch", held, claim, remedy))
    if approved_by is not None:
        remedy = "have the request signed: vmstate request new, vmstate sign"
        unmet.append(Unmet("principals", "approval_unsigned", "a signature", approved_by, remedy))
    return unmet


def _backing(
    stand_ins: StandIns, here: Session, asked: Mapping[str, Any], approved_by: str | None
) -> dict[str, Any]:
    """What the stand-ins sign for a climb: its facts as sensors, and as approver who is named."""
    document = here.authority.constitution.document
    request = here.authority.prepare(
        asked["principal"],
        asked["to"],
        trigger=asked["trigger"],
        reason=asked["reason"],
        facts=asked["facts"],
        nonce=new_nonce(),
    )
    now = here.authority.clock.read().wall
    groups = {document.facts[name].attested_by for name in request.facts} - {None}
    sensors = [stand_ins.named(group)[0] for group in sorted(filter(None, groups))]
    backing: dict[str, Any] = {"request": request, "facts": request.facts}
    backing["attestations"] = tuple(stand_ins.attest(request, by, now) for by in sensors)
    if approved_by is not None and stand_ins.knows(approved_by):
        backing["approvals"] = (stand_ins.approve(request, approved_by, now),)
    return backing


def _seat(here: Session, profile: str, *, exactly: bool) -> Result | None:
    """Make a drill's principal stand at `profile`, by lawful steps; a result if that can't be.

    Each rung up uses the first rule, by id, that is met with the set-up reason, the stand-ins'
    approvals and no facts.
    """
    law = here.authority.constitution
    if profile not in law.document.profiles:
        return _blocked(f"{profile!r} is not a profile")
    if here.held == profile or (not exactly and law.includes(here.held, profile)):
        return None
    while not law.includes(profile, here.held):
        lease = here.authority.standing(here.principal).leases[-1]
        receipt = here.authority.submit(_unseating(here, lease.id))
        if not receipt.granted:
            return _blocked(receipt.message)
    while here.held != profile:
        rungs = law.lineage(profile)
        if fault := _step_up(here, rungs[rungs.index(here.held) + 1]):
            return _blocked(f"no lawful seat at {profile}: {fault}")
    return None


def _unseating(here: Session, lease: str) -> Release:
    asked = {"principal": here.principal, "lease": lease, "reason": SETUP_REASON, "setup": True}
    return make_command(Release, asked)


def _step_up(here: Session, to: str) -> str:
    """One rung up by the first rule that is met; returns why not, or nothing."""
    assert here.stand_ins is not None
    fault = f"no rule leads from {here.held} to {to}"
    for rule in sorted(here.authority.constitution.rules.items()):
        table = rule[1]
        if (table.from_, table.to) != (here.held, to) or table.needs.facts:
            continue
        asked: dict[str, Any] = {"principal": here.principal, "to": to, "trigger": table.trigger}
        asked |= {"reason": SETUP_REASON, "facts": {}, "setup": True}
        if table.needs.approval is not None:
            asked |= _approved_by_all(here, here.stand_ins, asked, table.needs.approval.of)
        command = make_command(Escalate, asked)
        if not here.authority.why(command).granted:
            fault = here.authority.submit(command).message
            continue
        here.authority.submit(command).raise_for_denial()
        return ""
    return fault


def _approved_by_all(
    here: Session, stand_ins: StandIns, asked: Mapping[str, Any], groups: Iterable[str]
) -> dict[str, Any]:
    request = here.authority.prepare(
        asked["principal"], asked["to"], trigger=asked["trigger"], reason=asked["reason"]
    )
    now = here.authority.clock.read().wall
    names = dict.fromkeys(name for group in groups for name in stand_ins.named(group))
    approvals = tuple(stand_ins.approve(request, name, now) for name in names)
    return {"request": request, "approvals": approvals}


def _act(
    name: str,
    *,
    reason: str,
    arguments: Mapping[str, str],
    proofs: Mapping[str, str] | None = None,
) -> Result:
    here = session()
    profile = here.authority.constitution.document.acts[name].profile
    if here.in_drill and (blocked := _seat(here, profile, exactly=False)):
        return blocked
    receipt = here.authority.act(
        here.principal, name, reason=reason, arguments=dict(arguments), proofs=dict(proofs or {})
    )
    result = receipt.fields["what"]["result"]
    return {**_result(receipt), "dry_run": result == "dry_run", "simulated": result == "simulated"}


def _result(receipt: Receipt) -> Result:
    said = receipt.fields
    what = said["what"]
    return {
        "success": receipt.granted,
        "error": receipt.message or None,
        "escalation_id": what["lease"],
        "from_profile": what["from"],
        "to_profile": what["to"],
        "expires_at": what["expires_at"],
        "reversible": said["reversible"],
        "tem_context_hash": said["proofs"].get("tem_context_hash"),
        "rule": receipt.rule,
        "receipt": receipt.seq,
        "receipt_hash": receipt.id,
        "drill": said["drill"],
    }


def _history(receipt: Receipt) -> Result:
    said = receipt.fields
    return {
        **_result(receipt),
        "type": receipt.type,
        "outcome": receipt.outcome,
        "at": said["at"],
        "principal": said["who"]["principal"],
        "trigger": said["what"]["trigger"],
        "ending": said["what"]["ending"],
        "act": said["what"]["act"],
        "reason": said["why"],
        "facts": said["authority"]["facts"],
    }


def _blocked(why: str) -> Result:
    """What stands in the way was not the thing asked for: nothing was decided about that."""
    return {"success": False, "error": f"blocked: {why}", "blocked": True}


def _newest() -> tuple[Receipt, ...]:
    with session().authority.ledger.read() as snapshot:
        after = snapshot.head().tree.size - HISTORY - 1
        return tuple(snapshot.receipts(after=max(after, -1)))


def _context_hash(here: Session) -> str | None:
    """The digest of the facts on which the present profile rests."""
    leases = here.authority.standing(here.principal).leases
    if not leases:
        return None
    with here.authority.ledger.read() as snapshot:
        grant = snapshot.receipt(leases[-1].seq)
    return str(grant.fields["proofs"]["tem_context_hash"])


def _health(here: Session) -> Result:
    health = check_health(here.authority, here.expiry)
    drill = {"drill_mode": "ON" if here.in_drill else "OFF"}
    return {"status": health.status, "faults": list(health.faults), **drill}


def _treasury(here: Session) -> Result:
    with here.authority.ledger.read() as snapshot:
        budgets = snapshot.budgets()
    table = here.authority.constitution.document.drill
    ceiling = table.budget_ceiling if here.in_drill and table is not None else None
    return {
        "ceiling": ceiling,
        "budgets": [
            {
                "budget_id": one.id,
                "name": one.name,
                "currency": one.unit,
                "allocated": one.allocated,
                "available": one.available,
            }
            for one in budgets
        ],
    }


def _authority(here: Session) -> Result:
    standing = here.authority.standing(here.principal)
    expires_at = None if standing.expires_at is None else canonical.format_at(standing.expires_at)
    return {"principal": here.principal, "profile": standing.profile, "expires_at": expires_at}


def _spell(value: float | Decimal | str) -> str:
    """A float becomes the decimal that its `repr` shows: 0.92 is "0.92"."""
    if isinstance(value, str):
        return value
    return canonical.format_decimal(Decimal(repr(value)) if isinstance(value, float) else value)


def _open_session() -> Session:
    constitution = Path(os.environ.get("VMSTATE_CONSTITUTION", "constitution.toml"))
    ledger = Path(os.environ.get("VMSTATE_LEDGER", "vmstate.db"))
    if os.environ.get("DRILL_MODE") == "1":
        return _open_drill(constitution, ledger)
    principal = os.environ.get("VMSTATE_PRINCIPAL")
    if principal is None:
        raise InputError("VMSTATE_PRINCIPAL is not set: say who asks, or set DRILL_MODE=1")
    authority = Authority.open(constitution, ledger)
    if authority.ledger.drill is not None:
        authority.close()
        raise LedgerMismatch(f"{ledger} is a drill's ledger: set DRILL_MODE=1 for a drill")
    return _begin(authority, principal, None)


def _open_drill(constitution: Path, ledger: Path) -> Session:
    """A new ledger for this process's drill; one of an earlier drill is kept beside it."""
    path = ledger.with_name(f"{ledger.stem}.drill.db")
    law = _drill_law(constitution)
    table = law.document.drill
    if table is None:
        raise InputError(f"{constitution} has no [drill] table: add one to run drills")
    _put_aside(path)
    origin = f"{law.name}/drill/{new_nonce()[:8]}"
    stand_ins = StandIns(law, origin=origin, digest=f"sha256:{new_nonce()}{new_nonce()}")
    now: datetime = SystemClock().read().wall
    marker = f"{table.marker}{now:%Y-%m-%d}"
    mark = stand_ins.mark(origin.rsplit("/", 1)[1], marker)
    authority = Authority.create(law, path, origin=origin, drill=mark)
    authority.drill_mode(on=True, set_by="DRILL_MODE=1")
    return _begin(authority, table.principal, stand_ins)


def _drill_law(path: Path) -> Constitution:
    """The constitution at hand, or where there is none the packaged one."""
    if path.exists():
        return load_constitution(path)
    preset = files("vmstate.constitution") / "presets" / "vaultmesh.toml"
    return read_constitution(preset.read_bytes(), name="vaultmesh.toml")


def _put_aside(path: Path) -> None:
    """Rename an earlier drill's ledger; anything else by that name is left alone."""
    if not path.exists():
        return
    try:
        earlier = Ledger.open(path)
    except LedgerNotFound:
        return
    is_drill = earlier.drill is not None
    earlier.close()
    if not is_drill:
        raise LedgerMismatch(f"{path} is a live ledger: a drill does not touch it")
    number = 1
    while (aside := path.with_name(f"{path.stem}.{number}.db")).exists():
        number += 1
    for suffix in ("", ".key", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))


def _begin(authority: Authority, principal: str, stand_ins: StandIns | None) -> Session:
    expiry = Expiry(authority)
    expiry.start()
    return Session(authority, expiry, principal, stand_ins)
