"""vmstate's own tools, for whoever is held to a profile: look, ask, wait, take, give back.

None of them approves, locks, amends or recovers: whoever asks is not who decides. An agent sees its
own standing and its own receipts, and of a refusal what kind of evidence is missing, never a value
that would pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vmstate.canonical import format_at, parse_duration
from vmstate.decisions.command import (
    Command,
    Escalate,
    Proven,
    Release,
    Renew,
    make_command,
)
from vmstate.door import Door
from vmstate.errors import InputError, LedgerNotFound
from vmstate.interfaces.mcp.desk import Desk
from vmstate.interfaces.mcp.refusal import POLL_AFTER, name_missing, next_rung
from vmstate.ledger.receipt import Receipt


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
    request: str = Field(description="The request's id, as request_escalation returned it.")


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
    would_be_granted: bool
    profile_now: str
    rule: str
    lasts_seconds: float | None
    missing: list[Missing]
    next: Next | None


class Answer(_Model):
    """What became of it: `granted`, `pending`, `denied` or `ended`."""

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

    door: Door
    desk: Desk
    principal: str
    prefix: str = ""
    proven: Proven = "host"

    def asked(self, wanted: Wanted) -> dict[str, Any]:
        ttl = None if wanted.ttl is None else parse_duration(wanted.ttl)
        asked = {"principal": self.principal, "to": wanted.to, "trigger": wanted.trigger}
        return {**asked, "reason": wanted.reason, "facts": wanted.facts, "ttl": ttl}

    def of(self, lease: OfLease) -> dict[str, Any]:
        return {"principal": self.principal, "lease": lease.lease, "reason": lease.reason}

    def submit(self, command: Command) -> Receipt:
        """Ask at the door, saying how it is known who asks."""
        return self.door.submit(command.model_copy(update={"proven": self.proven}))

    def answer(self, receipt: Receipt, status: str = "granted") -> Answer:
        """The answer that `receipt` is, with what is missing where it is a denial."""
        profile = self.door.standing(self.principal).profile if self._is_known else ""
        if receipt.granted:
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
        return Answer(
            status="denied",
            profile=profile or self.door.constitution.baseline,
            rule=receipt.rule,
            missing=[Missing.model_validate(one) for one in missing],
            receipt=receipt.seq,
        )

    @property
    def _is_known(self) -> bool:
        return self.door.may(self.principal, self.door.constitution.baseline)


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
    """Say what request_escalation would come to, without asking: a dry run."""
    command = make_command(Escalate, caller.asked(wanted))
    explanation = caller.door.why(command)
    missing = name_missing(
        explanation.unmet, caller.door.constitution.document, prefix=caller.prefix
    )
    rung = next_rung(explanation.route, caller.prefix)
    lasts = None if explanation.lasts is None else explanation.lasts.total_seconds()
    return Why(
        would_be_granted=explanation.granted,
        profile_now=explanation.held,
        rule=explanation.rule,
        lasts_seconds=lasts if explanation.granted else None,
        missing=[Missing.model_validate(one) for one in missing],
        next=None if rung is None else Next.model_validate(rung),
    )


def request_escalation(caller: Caller, wanted: Wanted) -> Answer:
    """Ask for a profile. Granted at once where the law allows it; where a person has to approve,
    the answer is pending: go on with other work, check_request after poll_after seconds."""
    asked = caller.asked(wanted)
    command = make_command(Escalate, asked)
    explanation = caller.door.why(command)
    unmet = explanation.unmet
    if explanation.granted or any(one.code != "approval_missing" for one in unmet):
        return caller.answer(caller.submit(command))
    request = caller.door.prepare(**asked)
    caller.desk.lay(request)
    return Answer(
        status="pending",
        profile=explanation.held,
        request=request.id,
        poll_after=POLL_AFTER,
        approvals=0,
        rule=explanation.rule,
        missing=[
            Missing.model_validate(one)
            for one in name_missing(unmet, caller.door.constitution.document)
        ],
        next=Next(tool=f"{caller.prefix}check_request", arguments={"request": request.id}),
    )


def _approved(caller: Caller, of: OfRequest) -> Escalate:
    """The climb that a waiting request of the caller's asks for, with what was signed for it."""
    request = caller.desk.find(of.request)
    # Somebody else's request gives the same answer as one that does not exist.
    if request is None or request.principal != caller.principal or request.to is None:
        raise LedgerNotFound(f"no request {of.request} of yours is waiting")
    ttl = None if request.ttl_us is None else timedelta(microseconds=request.ttl_us)
    fields = {
        "principal": request.principal,
        "to": request.to,
        "trigger": request.trigger,
        "reason": request.reason,
        "facts": dict(request.facts),
        "ttl": ttl,
        "request": request,
        "approvals": caller.desk.approvals(request),
    }
    return make_command(Escalate, fields)


def check_request(caller: Caller, of: OfRequest) -> Answer:
    """Say whether a pending request has been approved; activate it then."""
    command = _approved(caller, of)
    explanation = caller.door.why(command)
    unmet = explanation.unmet
    tool = "activate" if explanation.granted else "check_request"
    waits = all(one.code.startswith("approval_") for one in unmet)
    document = caller.door.constitution.document
    return Answer(
        status="approved" if explanation.granted else "pending" if waits else "denied",
        profile=explanation.held,
        request=of.request,
        poll_after=None if explanation.granted else POLL_AFTER,
        approvals=len(command.approvals),
        rule=explanation.rule,
        missing=[Missing.model_validate(one) for one in name_missing(unmet, document)],
        next=Next(tool=f"{caller.prefix}{tool}", arguments={"request": of.request}),
    )


def activate(caller: Caller, of: OfRequest) -> Answer:
    """Take what an approved request grants: the lease starts now, not when it was approved."""
    command = _approved(caller, of)
    receipt = caller.submit(command)
    if receipt.granted and command.request is not None:
        caller.desk.take(command.request)
    return caller.answer(receipt)


def renew(caller: Caller, of: OfLease) -> Answer:
    """Ask for a later end of my topmost lease; its rule decides again."""
    return caller.answer(caller.submit(make_command(Renew, caller.of(of))))


def release(caller: Caller, of: OfLease) -> Answer:
    """Give a lease of mine back, and what stands on it. Do it as soon as the work is done."""
    return caller.answer(caller.submit(make_command(Release, caller.of(of))), "ended")


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
    """The receipt as an agent may see it: its unmet requirements by kind, not by value."""
    document = caller.door.constitution.document
    missing = list(name_missing(receipt.unmet, document, prefix=caller.prefix))
    authority = {**receipt.fields["authority"], "unmet": missing}
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
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InputError(f"{where}: {first['msg']}") from error
        return self.work(caller, taken)


OWN = (
    OwnTool("status", Nothing, Status, status, reads=True),
    OwnTool("why", Wanted, Why, why, reads=True),
    OwnTool("request_escalation", Wanted, Answer, request_escalation),
    OwnTool("check_request", OfRequest, Answer, check_request, reads=True),
    OwnTool("activate", OfRequest, Answer, activate),
    OwnTool("renew", OfLease, Answer, renew),
    OwnTool("release", OfLease, Answer, release),
    OwnTool("get_receipt", OfReceipt, ReceiptShown, get_receipt, reads=True),
)
