"""An open request as commands meet it: found, refused, climbed by, and told of in a receipt."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from vmstate.canonical import Json
from vmstate.clock import Moment
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import Activate, CommandBase, DenyRequest, Escalate, HandIn, Withdraw
from vmstate.decisions.decision import Entry, Grounds, State
from vmstate.decisions.evidence import Heard
from vmstate.decisions.fields import APPROVALS
from vmstate.decisions.pending import Asked
from vmstate.decisions.refusing import denial
from vmstate.signing import Approval, Attestation, Request, Signed

DIGITS = 12  # of an id, where people read it


def as_climb(
    command: CommandBase,
    request: Request,
    statements: Sequence[Signed],
    *,
    renew_parent: bool = False,
) -> Escalate:
    """The climb that `request` asks for, by whoever asks for it."""
    ttl = None if request.ttl_us is None else timedelta(microseconds=request.ttl_us)
    return Escalate(
        principal=command.principal,
        actor=command.actor,
        reason=request.reason,
        proven=command.proven,
        caller=command.caller,
        order=command.order,
        claims=command.claims,
        to=request.to or "",
        trigger=request.trigger,
        facts=dict(request.facts),
        ttl=ttl,
        request=request,
        approvals=tuple(one for one in statements if isinstance(one.statement, Approval)),
        attestations=tuple(one for one in statements if isinstance(one.statement, Attestation)),
        renew_parent=renew_parent,
    )


def first_good(asked: Asked, heard: Heard) -> tuple[Signed, ...]:
    """What was handed in, what still counts first: a receipt has room for so many approvals."""
    ranked = sorted(asked.approvals, key=lambda one: one not in heard.counted)
    return (*ranked[:APPROVALS], *asked.attestations)


def told_of(asked: Asked, unmet: Sequence[Unmet]) -> tuple[Unmet, ...]:
    """`unmet` with the remedies of a request that is open: its signatures are handed in to it."""
    verbs = {"approval_missing": "approve", "fact_unattested": "attest"}
    digits = asked.id.removeprefix("sha256:")[:DIGITS]
    return tuple(
        replace(one, remedy=f"have it signed: vmstate request {verbs[one.code]} {digits} --key KEY")
        if one.code in verbs
        else one
        for one in unmet
    )


def open_faults(
    asked: Asked | None, command: HandIn | DenyRequest | Withdraw | Activate
) -> list[Unmet]:
    """Why there is no open request that `command` could be about."""
    if asked is None:
        remedy = "name an open one: vmstate request list"
        required = "an open request"
        return [Unmet("requests", "request_unknown", required, command.request, remedy)]
    if not asked.is_open:
        remedy = "open a new one: vmstate request open"
        return [Unmet("requests", "request_over", "an open one", asked.state, remedy)]
    return []


def refused_about(
    state: State,
    command: HandIn | DenyRequest | Withdraw | Activate,
    unmet: list[Unmet],
    now: Moment,
) -> Entry:
    """A refusal that says which request it was about."""
    detail: dict[str, Json] = {"request": command.request}
    return replace(denial(state, command, unmet, now), detail=detail)


def about(asked: Asked, type_: str, grounds: Grounds, detail: dict[str, Json]) -> Entry:
    """The receipt of something about an open request, by nobody yet."""
    return Entry(
        type_,
        "recorded",
        grounds,
        principal=asked.principal,
        trigger=asked.request.trigger,
        to_profile=asked.request.to,
        detail=detail,
    )
