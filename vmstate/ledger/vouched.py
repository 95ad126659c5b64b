"""Does each statement in a receipt bear it out: by whom it says, for exactly this, and once?"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from pydantic import ValidationError

from vmstate.canonical import parse_at
from vmstate.constitution.facts import read_facts, spell
from vmstate.constitution.law import Constitution
from vmstate.constitution.people import People
from vmstate.decisions.evidence import said_otherwise
from vmstate.leases.lease import PARENT_ENDED
from vmstate.ledger.held import Held
from vmstate.ledger.lock_book import LockBook
from vmstate.ledger.pushed import PushedBook
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.retold import rebuild_request
from vmstate.signing import Approval, Attestation, Order, Signed


class _Replay(Protocol):
    """What is needed of a replay; `falling` is the order that the last receipt rests on."""

    law: Constitution | None
    people: People
    origin: str
    constitution: str
    leases: dict[str, Held]
    locks: LockBook
    pushed: PushedBook
    falling: tuple[str, int]

    def find(self, what: str, seq: int | None = None) -> None: ...

    def use(self, statement: str, seq: int) -> None: ...


# Which verbs an order may have in a receipt of each type; acts have types of their own.
_ORDERED: Mapping[str, tuple[str, ...]] = {
    "profile_escalation": ("escalate", "open_request", "activate"),
    "lease_renewed": ("renew", "escalate", "activate"),
    "request": ("open_request", "call", "deny_request", "withdraw"),
    "profile_deescalation": ("release",),
    "recovery": ("recover",),
    "constitution_amended": ("amend",),
    "treasury_budget": ("create_budget",),
    "treasury_debit": ("debit",),
    "drill_mode": ("drill_mode",),
    "tool_call": ("call",),
    "lock": ("lock", "unlock"),
}


def check_statements(replay: _Replay, receipt: Receipt, seq: int) -> None:
    """Signatures verify, are for exactly this, and count once."""
    said = receipt.fields
    request = said["proofs"].get("request")
    if request is not None:
        replay.use(request, seq)
        rebuilt = None
        with suppress(ValidationError, KeyError, TypeError):
            rebuilt = rebuild_request(receipt).id
        if rebuilt != request:
            replay.find("its request is not the digest of what was granted", seq)
    # What is handed in for an open request counts where that one is activated, and what is pushed
    # where something is granted on it.
    ahead = receipt.type in {"approval", "attestation"}
    if receipt.type == "approval":
        request = said["what"]["detail"]["request"]
    for body in (*said["authority"]["approvals"], *said["authority"]["attestations"]):
        try:
            signed = Signed.model_validate(body)
        except ValidationError:
            replay.find("holds a statement that is none", seq)
            continue
        _verify(replay, receipt, signed, request)
        # One order may take several rungs down, or renew one and climb: receipts in a row.
        id_, is_order = signed.statement.id, isinstance(signed.statement, Order)
        if replay.falling != (id_, seq) if is_order else not ahead:
            replay.use(id_, seq)
        if is_order:
            replay.falling = (id_, seq + 1)


def _verify(replay: _Replay, receipt: Receipt, signed: Signed, request: str | None) -> None:
    seq, statement = receipt.seq, signed.statement
    key = replay.people.keys.get(signed.by)
    if key is None or not signed.verifies(key):
        replay.find(f"the signature by {signed.by!r} does not verify", seq)
    if replay.locks.on_person(replay.people, signed.by):
        replay.find(f"the {statement.kind} is by {signed.by!r}, whose person was locked", seq)
    if (statement.origin, statement.constitution) != (replay.origin, replay.constitution):
        replay.find(f"the statement by {signed.by!r} is for another ledger or law", seq)
    if (fault := _fault(replay, receipt, statement, request)) is not None:
        replay.find(f"the {statement.kind} by {signed.by!r} {fault}", seq)


def _fault(
    replay: _Replay,
    receipt: Receipt,
    statement: Approval | Attestation | Order,
    request: str | None,
) -> str | None:
    """Why a statement does not bear on the receipt that holds it."""
    said = receipt.fields
    match statement:
        case Approval():
            if request is None or statement.request != request:
                return "is for another request"
            return "was too old" if parse_at(statement.expires_at) <= receipt.at else None
        case Attestation():
            return _attests_otherwise(replay, receipt, statement)
        case Order():
            by_request = statement.verb in {"open_request", "activate"}
            reason = statement.reason if by_request else said["why"]  # there it is the request's
            if (statement.by, statement.reason) != (said["who"]["actor"], reason):
                return "is by another, or for another reason"
            if statement.verb not in _ORDERED.get(receipt.type, ("act",)):
                return "orders something else"
            if receipt.type == "lease_renewed":
                return None  # what a climb stands on, renewed along with it
            if by_request or receipt.type == "request":
                about = request or said["what"]["detail"]["request"]
                return None if statement.arguments.get("request") == about else "is for another"
            if receipt.type == "profile_deescalation":
                return _ends_another(replay, receipt, statement)
            return _does_another(said, statement)


def _attests_otherwise(replay: _Replay, receipt: Receipt, statement: Attestation) -> str | None:
    """Whether an attestation says otherwise than is told, or its sensor did by then."""
    said = receipt.fields
    about = statement.principal == said["who"]["principal"]
    facts = said["authority"]["facts"]
    agrees = all(facts.get(n) == v for n, v in _spelled(replay, statement.facts).items())
    if not (about and agrees):
        return "is about something else"
    if replay.law is None or receipt.type == "attestation":  # of pushes PushedBook says more
        return None
    declared = replay.law.document.facts
    since = said_otherwise(statement, replay.pushed.statements, declared, receipt.at)
    return None if since is None else f"counts although they said otherwise at {since}"


def _ends_another(replay: _Replay, receipt: Receipt, order: Order) -> str | None:
    """Whether a lease was ended that the order does not name, nor stands on the one it names."""
    said = receipt.fields
    named = replay.leases.get(order.arguments["lease"])
    falls = replay.falling == (order.id, receipt.seq)
    fits = falls or (named is not None and named.principal == said["who"]["principal"])
    ends = said["what"]["ending"] in {order.arguments["ending"], PARENT_ENDED}
    return None if fits and ends else "ends another"


def _does_another(said: Mapping[str, Any], order: Order) -> str | None:
    """Whether another act was done than was ordered, or another charge made."""
    told = order.arguments
    if order.verb == "act":
        return None if told.get("act") == said["what"]["act"] else "is for another act"
    if order.verb == "create_budget":
        ordered, done = (told.get("budget"), told.get("allocated")), said["what"]["detail"]
        return (
            None if ordered == (done["budget"], str(done["allocated"])) else "is for another budget"
        )
    if order.verb == "debit":
        ordered, (cost,) = (told.get("budget"), told.get("amount")), said["cost"]
        return (
            None if ordered == (cost["budget"], str(cost["charged"])) else "is for another charge"
        )
    return None


def _spelled(replay: _Replay, facts: dict[str, str]) -> dict[str, str]:
    if replay.law is None:
        return facts
    values, _ = read_facts(replay.law.document.facts, facts)
    return {**facts, **{name: spell(value) for name, value in values.items()}}
