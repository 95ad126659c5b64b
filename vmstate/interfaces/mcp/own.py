"""vmstate's own tools, for whoever is held to a profile: look, ask, wait, take, give back.

None of them approves, locks, amends or recovers: whoever asks is not who decides. An agent sees its
own standing and its own receipts, and of a refusal what kind of evidence is missing, never a value
that would pass.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vmstate.canonical import format_at, parse_duration
from vmstate.decisions.command import (
    Activate,
    Escalate,
    OpenRequest,
    Release,
    Renew,
    Withdraw,
    make_command,
)
from vmstate.decisions.pending import is_call
from vmstate.decisions.route import Explanation
from vmstate.decisions.showing import Pending
from vmstate.door import Door
from vmstate.errors import InputError, LedgerNotFound
from vmstate.interfaces.mcp.refusal import POLL_AFTER, name_missing, next_rung
from vmstate.interfaces.mcp.warden import Warden
from vmstate.ledger.receipt import Receipt
from vmstate.misfit import first_misfit
from vmstate.signing import Request


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(_Model):
    """No arguments."""


class Wanted(_Model):
    """A climb that is asked for, or asked about."""

    to: str = Field(description="The profile that the work needs, the lowest that does.")
    reason: str = Field(default="", description="What for, in a sentence; people read it.")
    trigger: str = Field(default="operator_request", description="What calls for it.")
    ttl: str | None = Field(default=None, description="For how long, such as 15m.")
    facts: dict[str, str] = Field(default_factory=dict, description="Facts, as the law names them.")


class OfRequest(_Model):
    request: str = Field(
        pattern="^sha256:[0-9a-f]{64}$",
        description="The request's id, as request_escalation returned it.",
    )


class OfLease(_Model):
    lease: str = Field(description="The lease's id, as status shows it.")
    reason: str = Field(default="", description="What for, in a sentence.")


class OfReceipt(_Model):
    receipt: int = Field(ge=0, description="The receipt's number.")


class Lease(_Model):
    lease: str
    profile: str
    rule: str
    expires_at: str
    left_seconds: float
    renewals: int


class Status(_Model):
    principal: str
    profile: str
    leases: list[Lease]
    origin: str
    constitution: str


class Missing(_Model):
    kind: str
    source: str
    name: str | None = None


class Next(_Model):
    tool: str
    arguments: dict[str, Any]


class Why(_Model):
    would_be_granted: bool | None = Field(
        description="Null where it hangs on facts, which are judged when you ask."
    )
    profile_now: str
    rule: str
    lasts_seconds: float | None
    missing: list[Missing]
    next: Next | None


class Answer(_Model):
    """What became of it: granted, pending, approved, denied, ended, or how a request ended."""

    status: str
    profile: str
    lease: str | None = None
    expires_at: str | None = None
    request: str | None = None
    poll_after: int | None = None
    approvals: int | None = None
    rule: str | None = None
    missing: list[Missing] = []
    next: Next | None = None
    receipt: int | None = None


class ReceiptShown(_Model):
    id: str
    receipt: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, at which door; `prefix` is what the tools' names begin with there."""

    warden: Warden
    principal: str
    prefix: str = ""

    @property
    def door(self) -> Door:
        return self.warden.door_of(self.principal)

    def asked(self, wanted: Wanted) -> dict[str, Any]:
        ttl = None if wanted.ttl is None else parse_duration(wanted.ttl)
        asked = {"principal": self.principal, "to": wanted.to, "trigger": wanted.trigger}
        return {**asked, "reason": wanted.reason, "facts": wanted.facts, "ttl": ttl}

    def of(self, lease: OfLease) -> dict[str, Any]:
        return {"principal": self.principal, "lease": lease.lease, "reason": lease.reason}

    def answer(self, receipt: Receipt | Explanation, status: str = "granted") -> Answer:
        """The answer that `receipt` is, with what is missing where it is a denial."""
        profile = self.door.standing(self.principal).profile if self._is_known else ""
        if isinstance(receipt, Receipt) and receipt.granted:
            expires_at = receipt.expires_at
            until = None if expires_at is None or status == "ended" else format_at(expires_at)
            return Answer(
                status=status,
                profile=profile or self.door.constitution.baseline,
                lease=receipt.lease,
                expires_at=until,
                rule=receipt.rule,
                receipt=receipt.seq,
            )
        document = self.door.constitution.document
        missing = name_missing(receipt.unmet, document, prefix=self.prefix)
        if isinstance(receipt, Receipt):
            told: int | None = receipt.seq
        else:
            told = self.warden.told_in(self.principal, receipt.unmet)
        return Answer(
            status="denied",
            profile=profile or self.door.constitution.baseline,
            rule=receipt.rule,
            missing=[Missing.model_validate(one) for one in missing],
            receipt=told,
        )

    def own_request(self, of: OfRequest) -> Pending:
        """A request of the caller's; another's is answered like one that there never was."""
        with suppress(LedgerNotFound):
            shown = self.door.request(of.request)
            if shown.request.principal == self.principal:
                return shown
        raise LedgerNotFound(f"there is no request {of.request} of yours")

    def shown(self, pending: Pending) -> Answer:
        """How a request of the caller's stands, and what to do about it next."""
        states = {"pending": "pending", "complete": "approved"}
        state = "complete" if pending.is_ready else pending.state
        tool = {"pending": "check_request", "complete": "activate"}.get(state)
        arguments = {"request": pending.id}
        then = None if tool is None else Next(tool=f"{self.prefix}{tool}", arguments=arguments)
        if then is not None and state == "complete" and is_call(pending.request):
            then = _call_again(pending.request)
        missing = name_missing(pending.missing, self.door.constitution.document)
        return Answer(
            status=states.get(state, state),
            profile=self.door.standing(self.principal).profile,
            request=pending.id,
            poll_after=POLL_AFTER if state == "pending" else None,
            approvals=sum(len(stage.approved) for stage in pending.stages),
            rule=pending.rule,
            missing=[Missing.model_validate(one) for one in missing],
            next=then,
            receipt=pending.receipt,
        )

    @property
    def _is_known(self) -> bool:
        return self.door.may(self.principal, self.door.constitution.baseline)


def _call_again(request: Request) -> Next | None:
    """The call that was approved; None where its arguments were too long to be shown."""
    arguments = request.facts["arguments"]
    if arguments.startswith("sha256:"):
        return None
    return Next(tool=request.facts["name"], arguments=json.loads(arguments))


def status(caller: Caller, _: Nothing) -> Status:
    """Say who I am here, which profile I hold now, by which leases, and until when."""
    standing = caller.door.standing(caller.principal)
    leases = [
        Lease(
            lease=one.id,
            profile=one.profile,
            rule=one.rule,
            expires_at=format_at(one.expires_at),
            left_seconds=standing.left(one).total_seconds(),
            renewals=one.renewals,
        )
        for one in standing.leases
    ]
    return Status(
        principal=caller.principal,
        profile=standing.profile,
        leases=leases,
        origin=caller.door.origin,
        constitution=caller.door.constitution.digest,
    )


def why(caller: Caller, wanted: Wanted) -> Why:
    """Say what request_escalation would come to, without asking: a dry run. No fact is judged
    here: those that the rule needs are named."""
    # Whoever may try values without a trace finds the one that passes, so none is looked at.
    command = make_command(Escalate, {**caller.asked(wanted), "facts": {}})
    explanation = caller.door.why(command)
    missing = name_missing(
        explanation.unmet, caller.door.constitution.document, prefix=caller.prefix
    )
    rung = next_rung(explanation.route, caller.prefix, explanation.unmet)
    lasts = None if explanation.lasts is None else explanation.lasts.total_seconds()
    hangs = all(one.code == "fact_missing" for one in explanation.unmet)
    return Why(
        would_be_granted=True if explanation.granted else None if hangs else False,
        profile_now=explanation.held,
        rule=explanation.rule,
        lasts_seconds=lasts if explanation.granted else None,
        missing=[Missing.model_validate(one) for one in missing],
        next=None if rung is None else Next.model_validate(rung),
    )


def request_escalation(caller: Caller, wanted: Wanted) -> Answer:
    """Ask for a profile. Granted at once where the law allows it; where a person has to approve,
    the answer is pending: go on with other work, check_request after poll_after seconds."""
    request = caller.door.prepare(**caller.asked(wanted))
    asked = {"principal": caller.principal, "reason": wanted.reason, "request": request}
    receipt = caller.warden.ask(make_command(OpenRequest, asked))
    if not isinstance(receipt, Receipt) or receipt.type != "request":
        return caller.answer(receipt)
    shown = caller.shown(caller.door.request(request.id))
    return shown.model_copy(update={"receipt": receipt.seq})


def check_request(caller: Caller, of: OfRequest) -> Answer:
    """Say whether a pending request has been approved; activate it then, or call again."""
    return caller.shown(caller.own_request(of))


def activate(caller: Caller, of: OfRequest) -> Answer:
    """Take what an approved request grants: the lease starts now, not when it was approved."""
    shown = caller.own_request(of)
    asked = {"principal": caller.principal, "request": shown.id}
    return caller.answer(caller.warden.ask(make_command(Activate, asked)))


def withdraw_request(caller: Caller, of: OfRequest) -> Answer:
    """End a request of mine that waits, a climb's or a call's. Do it when the work has changed:
    nobody is asked for nothing, and there is room for another."""
    asked = {"principal": caller.principal, "request": caller.own_request(of).id}
    return caller.answer(caller.warden.ask(make_command(Withdraw, asked)), "withdrawn")


def renew(caller: Caller, of: OfLease) -> Answer:
    """Ask for a later end of my topmost lease; its rule decides again."""
    return caller.answer(caller.warden.ask(make_command(Renew, caller.of(of))))


def release(caller: Caller, of: OfLease) -> Answer:
    """Give a lease of mine back, and what stands on it. Do it as soon as the work is done."""
    return caller.answer(caller.warden.ask(make_command(Release, caller.of(of))), "ended")


def get_receipt(caller: Caller, of: OfReceipt) -> ReceiptShown:
    """Show a receipt about me."""
    found = of.receipt < caller.door.size()
    receipt = caller.door.receipt(of.receipt) if found else None
    if receipt is None or caller.principal not in (
        receipt.fields["who"]["principal"],
        receipt.fields["who"]["actor"],
    ):
        raise LedgerNotFound(f"there is no receipt {of.receipt} about you")
    return ReceiptShown(id=receipt.id, receipt=_without_values(receipt, caller))


def _without_values(receipt: Receipt, caller: Caller) -> dict[str, Any]:
    """The receipt as an agent may see it: its unmet requirements by kind, not by value, and of
    what a sensor pushed about it that it did.
    """
    document = caller.door.constitution.document
    missing = list(name_missing(receipt.unmet, document, prefix=caller.prefix))
    authority = {**receipt.fields["authority"], "unmet": missing}
    if receipt.type == "attestation":
        authority |= {"facts": {}, "attestations": []}
    return {**receipt.fields, "authority": authority}


@dataclass(frozen=True, slots=True)
class OwnTool:
    """A tool: what it takes and gives, by their models, and the function."""

    name: str
    takes: type[BaseModel]
    gives: type[BaseModel]
    work: Callable[[Caller, Any], BaseModel]
    reads: bool = False

    @property
    def description(self) -> str:
        return " ".join((self.work.__doc__ or "").split())

    def call(self, caller: Caller, arguments: Mapping[str, Any] | None) -> BaseModel:
        """Run it; raises InputError for arguments that have not its form."""
        try:
            taken = self.takes.model_validate(dict(arguments or {}))
        except ValidationError as error:
            raise InputError(first_misfit(error)) from error
        return self.work(caller, taken)


OWN = (
    OwnTool("status", Nothing, Status, status, reads=True),
    OwnTool("why", Wanted, Why, why, reads=True),
    OwnTool("request_escalation", Wanted, Answer, request_escalation),
    OwnTool("check_request", OfRequest, Answer, check_request, reads=True),
    OwnTool("activate", OfRequest, Answer, activate),
    OwnTool("withdraw_request", OfRequest, Answer, withdraw_request),
    OwnTool("renew", OfLease, Answer, renew),
    OwnTool("release", OfLease, Answer, release),
    OwnTool("get_receipt", OfReceipt, ReceiptShown, get_receipt, reads=True),
)
