"""Writing down what others are to sign, and signing what proves who asks."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from vmstate import canonical
from vmstate.clock import duration_us
from vmstate.constitution.facts import did_you_mean, read_facts, spell
from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import read_constitution
from vmstate.decisions.command import (
    AMENDMENT,
    CLOCK_RECOVERY,
    NEW_LAW,
    TOOL_CALL,
    Activate,
    Amend,
    Call,
    Command,
    CommandBase,
    CreateBudget,
    Debit,
    Escalate,
    HandIn,
    OpenRequest,
    Push,
    Recover,
    Renew,
    make_command,
)
from vmstate.decisions.evidence import PROOF_FOR
from vmstate.decisions.ordering import order_arguments
from vmstate.decisions.pending import Asked
from vmstate.errors import InputError
from vmstate.keys import Signer
from vmstate.signing import Order, Request, Signed, new_nonce, sign


def prepare_request(
    constitution: Constitution,
    origin: str,
    principal: str,
    to: str,
    *,
    trigger: str,
    reason: str,
    facts: Mapping[str, str],
    ttl: timedelta | None,
    nonce: str | None,
) -> Request:
    """A climb written down; raises InputError for a fact or field that can't be read."""
    asked = {"principal": principal, "to": to, "trigger": trigger, "reason": reason}
    checked = make_command(Escalate, {**asked, "facts": dict(facts), "ttl": ttl})
    profiles = constitution.document.profiles
    if to not in profiles:
        known = ", ".join(profiles)
        raise InputError(f"{to!r} is not a profile{did_you_mean(to, profiles)}: there are {known}")
    values, unread = read_facts(constitution.document.facts, checked.facts)
    if unread:
        raise InputError("; ".join(one.message for one in unread))
    return Request(
        principal=principal,
        to=to,
        trigger=trigger,
        facts={name: spell(value) for name, value in values.items()},
        reason=reason,
        ttl_us=None if ttl is None else duration_us(ttl),
        origin=origin,
        constitution=constitution.digest,
        nonce=nonce or new_nonce(),
    )


def prepare_recovery(
    constitution: Constitution, origin: str, principal: str, *, reason: str
) -> Request:
    """A clock's recovery written down; raises InputError for a field without form."""
    checked = make_command(Recover, {"principal": principal, "reason": reason})
    return Request(
        principal=checked.principal,
        to=None,
        trigger=CLOCK_RECOVERY,
        facts={},
        reason=checked.reason,
        ttl_us=None,
        origin=origin,
        constitution=constitution.digest,
        nonce=new_nonce(),
    )


def prepare_amendment(
    constitution: Constitution, origin: str, principal: str, toml: bytes, *, reason: str
) -> Request:
    """An amendment written down; raises ConstitutionError if the law in `toml` does not load."""
    new = read_constitution(toml, name="the new constitution")
    checked = make_command(Amend, {"principal": principal, "reason": reason, "toml": toml})
    return Request(
        principal=checked.principal,
        to=None,
        trigger=AMENDMENT,
        facts={NEW_LAW: new.digest},
        reason=checked.reason,
        ttl_us=None,
        origin=origin,
        constitution=constitution.digest,
        nonce=new_nonce(),
    )


def sign_order(
    law: str,
    origin: str,
    now: datetime,
    command: CommandBase,
    *,
    key: Signer,
    nonce: str | None = None,
    after: str | None = None,
) -> Signed:
    """The signature by which `command` proves who asks, good for five minutes from `now`.

    `law` is the digest of the constitution in force; `after` as in `Governing.signing_after`.
    """
    order = Order(
        by=command.asked_by,
        origin=origin,
        constitution=law,
        verb=command.verb,
        arguments=order_arguments(command),
        reason=command.reason,
        expires_at=canonical.format_at(now + PROOF_FOR),
        nonce=nonce or new_nonce(),
        after=after,
    )
    return sign(order, key)


def statement_ids(command: Command, asked: Asked | None = None) -> tuple[str, ...]:
    """The ids of all that is handed in with a command and counts once, and of what was handed in
    for the request that it is about.
    """
    signed = [command.order] if command.order is not None else []
    request = None
    if asked is not None:
        request, signed = asked.request, [*signed, *asked.statements]
    match command:
        case OpenRequest() | Call():
            request = command.request
        case HandIn() | Push():
            signed.append(command.statement)
        case Recover() | Amend():
            request, signed = command.request, [*signed, *command.approvals]
        case Escalate() | Renew():
            request = command.request
            signed = [*signed, *command.approvals, *command.attestations]
        case _:
            pass
    ids = [one.statement.id for one in signed]
    return (*ids, request.id) if request is not None else tuple(ids)


def budgets_of(command: Command, constitution: Constitution) -> tuple[str, ...]:
    """The budgets that a command is about, or that a rule on its way may be charged to."""
    match command:
        case CreateBudget() | Debit():
            return (command.budget,)
        case Escalate() | Renew() | OpenRequest() | Activate():
            rules = constitution.rules.values()
            return tuple(rule.cost.budget for rule in rules if rule.cost is not None)
        case _:
            return ()


def prepare_call(constitution: Constitution, origin: str, call: Call, *, nonce: str) -> Request:
    """One call written down, so that others can approve exactly that one."""
    return Request(
        principal=call.principal,
        to=None,
        trigger=TOOL_CALL,
        facts=call_facts(call),
        reason=call.reason,
        ttl_us=None,
        origin=origin,
        constitution=constitution.digest,
        nonce=nonce,
    )


def call_facts(call: Call) -> dict[str, str]:
    """What an approver of a single call reads and signs."""
    arguments = call.shown or call.arguments
    return {"server": call.server, "kind": call.kind, "name": call.name, "arguments": arguments}
