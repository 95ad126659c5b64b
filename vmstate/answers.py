"""What the runbook's calls answer: a receipt, the budgets, health and standing as plain dicts."""

from typing import Any

from vmstate import canonical
from vmstate.errors import UnknownPrincipal
from vmstate.health import check_health
from vmstate.ledger.receipt import Receipt
from vmstate.session import Session

Result = dict[str, Any]
HISTORY = 1_000  # receipts that a history holds, the newest


def result_of(receipt: Receipt) -> Result:
    """The answer to whatever was asked and left this receipt."""
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


def history_of(receipt: Receipt) -> Result:
    """A receipt as a history shows it."""
    said = receipt.fields
    return {
        **result_of(receipt),
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


def blocked(why: str) -> Result:
    """What stands in the way was not the thing asked for: nothing was decided about that."""
    return {"success": False, "error": f"blocked: {why}", "blocked": True}


def newest(here: Session) -> tuple[Receipt, ...]:
    """The newest receipts, the oldest of them first."""
    authority = here.authority
    return authority.receipts(after=max(authority.size() - HISTORY - 1, -1), limit=HISTORY)


def health_now(here: Session) -> Result:
    """Whether leases end in time, and whether this is a drill."""
    health = check_health(here.authority, here.expiry)
    drill = {"drill_mode": "ON" if here.in_drill else "OFF"}
    return {"status": health.status, "faults": list(health.faults), **drill}


def treasury_now(here: Session) -> Result:
    """The budgets; in a drill with the ceiling of them all."""
    budgets = here.authority.budgets()
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


def authority_now(here: Session) -> Result:
    """What is held now, by whom, and until when."""
    try:
        standing = here.authority.standing(here.principal)
    except UnknownPrincipal as error:
        return {"principal": here.principal, "profile": None, "error": str(error)}
    expires_at = None if standing.expires_at is None else canonical.format_at(standing.expires_at)
    return {"principal": here.principal, "profile": standing.profile, "expires_at": expires_at}
