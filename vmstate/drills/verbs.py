"""What a drill step may do: each verb goes through the authority as anybody's would."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vmstate.authority import Authority
from vmstate.decisions.command import Escalate, Renew, make_command
from vmstate.drills.document import Arguments, Value
from vmstate.drills.drill import Drill
from vmstate.drills.expect import Difference
from vmstate.drills.references import fill
from vmstate.drills.stand_ins import StandIns
from vmstate.expiry import VirtualExpiry
from vmstate.health import check_health
from vmstate.ledger.receipt import Receipt
from vmstate.treasury.budget import Budget


@dataclass
class Stage:
    """The world of one drill while it runs."""

    drill: Drill
    authority: Authority
    expiry: VirtualExpiry
    stand_ins: StandIns
    principal: str
    stop_at: datetime
    deadline: float
    saved: dict[str, str]
    violations: list[Difference] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        return self.authority.clock.read().wall


def _backing(
    stage: Stage, principal: str, to: str, trigger: str, given: Arguments
) -> dict[str, Any]:
    """The fields of a climb or renewal, with what the stand-ins named in it have signed."""
    facts = {name: fill(value, stage.saved) for name, value in given.facts.items()}
    reason = fill(given.reason, stage.saved)
    fields: dict[str, Any] = {"principal": principal, "reason": reason, "facts": facts}
    fields["ttl"] = given.ttl
    if not given.approved_by and given.attested_by is None:
        return fields
    stand_ins, now = stage.stand_ins, stage.now
    request = stage.authority.prepare(
        principal,
        to,
        trigger=trigger,
        reason=reason,
        facts=facts,
        ttl=given.ttl,
        nonce=stand_ins.nonce(),
    )
    sensors = () if given.attested_by is None else (given.attested_by,)
    return {
        **fields,
        "facts": request.facts,
        "request": request,
        "approvals": tuple(stand_ins.approve(request, by, now) for by in given.approved_by),
        "attestations": tuple(stand_ins.attest(request, by, now) for by in sensors),
    }


def _escalate(stage: Stage, who: str, given: Arguments) -> Receipt:
    to, trigger = given.to or "", given.trigger or ""
    fields = _backing(stage, who, to, trigger, given)
    fields |= {"to": to, "trigger": trigger, "renew_parent": given.renew_parent}
    return stage.authority.submit(make_command(Escalate, fields))


def _renew(stage: Stage, who: str, given: Arguments) -> Receipt:
    lease = fill(given.lease or "", stage.saved)
    with stage.authority.ledger.read() as snapshot:
        held = snapshot.leases.named(lease)
    to, trigger = (held.profile, held.trigger) if held is not None else ("none", "none")
    fields = {**_backing(stage, who, to, trigger, given), "lease": lease}
    return stage.authority.submit(make_command(Renew, fields))


def _release(stage: Stage, who: str, given: Arguments) -> Receipt:
    lease, reason = fill(given.lease or "", stage.saved), fill(given.reason, stage.saved)
    ending = given.ending or "operator_release"
    return stage.authority.release(who, lease, ending=ending, reason=reason)


def _revoke(stage: Stage, who: str, given: Arguments) -> Receipt:
    lease, reason = fill(given.lease or "", stage.saved), fill(given.reason, stage.saved)
    ending = given.ending or "sovereign_revoke"
    key, nonce = stage.stand_ins.key(who), stage.stand_ins.nonce()
    return stage.authority.revoke(who, lease, key=key, ending=ending, reason=reason, nonce=nonce)


def _act(stage: Stage, who: str, given: Arguments) -> Receipt:
    arguments = {name: fill(value, stage.saved) for name, value in given.arguments.items()}
    reason = fill(given.reason, stage.saved)
    return stage.authority.act(who, given.act or "", arguments=arguments, reason=reason)


def _anchor(stage: Stage, who: str, given: Arguments) -> Receipt:
    return stage.authority.anchor(who, reason=fill(given.reason, stage.saved))


def _create_budget(stage: Stage, who: str, given: Arguments) -> Receipt:
    budget, unit = given.budget or "", given.unit or ""
    allocated = given.allocated or 0
    return stage.authority.create_budget(
        who, budget, name=given.name, allocated=allocated, unit=unit
    )


def _debit(stage: Stage, who: str, given: Arguments) -> Receipt:
    reason = fill(given.reason, stage.saved)
    return stage.authority.debit(who, given.budget or "", given.amount or 0, reason=reason)


def _open_request(stage: Stage, who: str, given: Arguments) -> Receipt:
    facts = {name: fill(value, stage.saved) for name, value in given.facts.items()}
    request = stage.authority.prepare(
        who,
        given.to or "",
        trigger=given.trigger or "",
        reason=fill(given.reason, stage.saved),
        facts=facts,
        ttl=given.ttl,
        nonce=stage.stand_ins.nonce(),
    )
    return stage.authority.open_request(request)


def _about_request(stage: Stage, who: str, given: Arguments) -> tuple[str, dict[str, Any]]:
    """The request that a step is about, and how `who` signs what becomes of it."""
    reason = fill(given.reason, stage.saved)
    signed = {"reason": reason, "key": stage.stand_ins.key(who), "nonce": stage.stand_ins.nonce()}
    return fill(given.request or "", stage.saved), signed


def _approve(stage: Stage, who: str, given: Arguments) -> Receipt:
    request, signed = _about_request(stage, who, given)
    return stage.authority.approve(request, who, **signed)


def _attest(stage: Stage, who: str, given: Arguments) -> Receipt:
    request, signed = _about_request(stage, who, given)
    return stage.authority.attest(request, who, **signed)


def _deny(stage: Stage, who: str, given: Arguments) -> Receipt:
    request, signed = _about_request(stage, who, given)
    return stage.authority.deny(who, request, **signed)


def _withdraw(stage: Stage, who: str, given: Arguments) -> Receipt:
    request, reason = fill(given.request or "", stage.saved), fill(given.reason, stage.saved)
    return stage.authority.withdraw(who, request, reason=reason)


def _activate(stage: Stage, who: str, given: Arguments) -> Receipt:
    request = fill(given.request or "", stage.saved)
    return stage.authority.activate(who, request, renew_parent=given.renew_parent)


def _push(stage: Stage, who: str, given: Arguments) -> Receipt:
    about, reason = given.principal or stage.principal, fill(given.reason, stage.saved)
    facts = {name: fill(value, stage.saved) for name, value in given.facts.items()}
    key, nonce = stage.stand_ins.key(who), stage.stand_ins.nonce()
    return stage.authority.push(who, about, facts, key, reason=reason, nonce=nonce)


def _lock(stage: Stage, who: str, given: Arguments) -> Receipt:
    return stage.authority.lock(
        who,
        principal=given.principal,
        profile=given.profile,
        ttl=given.ttl,
        reason=fill(given.reason, stage.saved),
        key=stage.stand_ins.key(who),
        nonce=stage.stand_ins.nonce(),
    )


def _unlock(stage: Stage, who: str, given: Arguments) -> Receipt:
    lock, reason = fill(given.lock or "", stage.saved), fill(given.reason, stage.saved)
    key, nonce = stage.stand_ins.key(who), stage.stand_ins.nonce()
    return stage.authority.unlock(who, lock, reason=reason, key=key, nonce=nonce)


VERBS: Mapping[str, Callable[[Stage, str, Arguments], Receipt]] = {
    "escalate": _escalate,
    "renew": _renew,
    "release": _release,
    "revoke": _revoke,
    "act": _act,
    "anchor": _anchor,
    "create_budget": _create_budget,
    "debit": _debit,
    "open_request": _open_request,
    "approve": _approve,
    "attest": _attest,
    "deny": _deny,
    "withdraw": _withdraw,
    "activate": _activate,
    "push": _push,
    "lock": _lock,
    "unlock": _unlock,
}


def read_context(stage: Stage) -> dict[str, Value]:
    """What a pre-flight check looks at; reads only, and by what the ledger says of itself."""
    health = check_health(stage.authority, stage.expiry)
    with stage.authority.ledger.read() as snapshot:
        *_, mode = snapshot.receipts(type_="drill_mode")
        budgets = snapshot.budgets()
    detail = mode.fields["what"]["detail"]
    pretends = {f"drill.{act}": str(kind) for act, kind in detail["pretends"].items()}
    return {
        "health.status": health.status,
        "drill.mode": detail["mode"],
        "drill.receipt": mode.seq,
        "drill.marker": stage.drill.marker,
        "drill.ceiling": detail["budget_ceiling"],
        "drill.currency": detail["currency"],
        "treasury.budgets": len(budgets),
        "treasury.available": sum(budget.available for budget in budgets),
        **pretends,
    }


def budgets_of(stage: Stage) -> tuple[Budget, ...]:
    with stage.authority.ledger.read() as snapshot:
        return snapshot.budgets()
