"""What may be asked of the authority.

A command is checked for its form when it is made: names, lengths, characters. What it asks for is
judged later, and a refusal is a receipt; a command that has no form leaves none, because nobody
could say what it asked for.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vmstate import canonical
from vmstate.constitution.people import Caller
from vmstate.constitution.tools import Kind
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.fields import (
    Approvals,
    Arguments,
    Attestations,
    Digest,
    Facts,
    OnceKey,
    Principal,
    Proofs,
    Proven,
    Reason,
    RequestId,
    Toml,
    Ttl,
    Units,
    Word,
)
from vmstate.errors import InputError
from vmstate.forms import line
from vmstate.leases.lock import Scope
from vmstate.misfit import first_misfit
from vmstate.signing import Request, Signed

TOOL_CALL = "tool_call"  # the trigger of a request for one call of a tool
AMENDMENT = "constitution_amendment"  # the trigger of a request for another law
NEW_LAW = "constitution.new"  # and its fact: the digest of that law
CLOCK_RECOVERY = "clock_recovery"  # the trigger of a request that no profile answers


class CommandBase(BaseModel):
    """What every command has.

    `proven` is found when it is decided, and nothing that was said before counts: `host` is whoever
    could open the ledger's file, `key` who signed what is handed in, `none` somebody whose name
    nothing proves. `caller` is who
    stands at the door, an account or a token: the law in force says whom they may ask as. An
    `order` is the asker's own signature over the command, and says more.
    `claims` are requirements that an interface found not to be met, in what only it was told; they
    are reported with the others. Under an `idempotency_key` it is answered once, see `once.py`.
    """

    # Of all commands a process makes few, and each is built when the first of its kind is made.
    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        defer_build=True,
    )
    verb: ClassVar[str]

    principal: Principal
    actor: Principal | None = None
    reason: Reason = ""
    proven: Proven = "host"
    caller: Caller | None = None
    order: Signed | None = None
    claims: tuple[Unmet, ...] = ()
    idempotency_key: OnceKey | None = None

    @property
    def asked_by(self) -> str:
        """Who asks: the principal, unless somebody else is named."""
        return self.actor or self.principal

    @property
    def proof(self) -> str:
        """How it is known who asks, as a receipt says it."""
        return "key" if self.order is not None else self.proven

    @property
    def is_proven(self) -> bool:
        """Whether more than the host's word says who asks."""
        return self.proof not in {"host", "none"}


class _Backed(CommandBase):
    """A command that evidence may stand behind. `setup` is for a drill's ledger alone."""

    facts: Facts = {}
    ttl: Ttl | None = None
    request: Request | None = None
    approvals: Approvals = ()
    attestations: Attestations = ()
    setup: bool = False


class Escalate(_Backed):
    """Climb to the profile `to`, for `ttl` at most."""

    verb: ClassVar[str] = "escalate"

    to: Word
    trigger: Word
    renew_parent: bool = False


class Renew(_Backed):
    """Have the rule of `lease` decided again, for a later deadline."""

    verb: ClassVar[str] = "renew"

    lease: Word


class Release(CommandBase):
    """End `lease` by the ending named; another's takes a proven actor."""

    verb: ClassVar[str] = "release"

    setup: bool = False
    lease: Word
    ending: Word = "operator_release"


class OpenRequest(CommandBase):
    """Climb by `request` if nothing is missing; leave it open if only signatures are."""

    verb: ClassVar[str] = "open_request"

    request: Request


class _AboutRequest(CommandBase):
    """Something about the open request with the id `request`."""

    request: RequestId


class HandIn(_AboutRequest):
    """Hand in an approval or attestation; its signer is who asks, and the signature the proof."""

    verb: ClassVar[str] = "hand_in"

    statement: Signed


class Push(CommandBase):
    """Push an attestation ahead of any request; its signer is who asks, and the signature the
    proof. `principal` is whom it is about.
    """

    verb: ClassVar[str] = "push"

    statement: Signed


class DenyRequest(_AboutRequest):
    """End a request as somebody who might have approved it; takes a proven actor."""

    verb: ClassVar[str] = "deny_request"


class Withdraw(_AboutRequest):
    """End a request of one's own."""

    verb: ClassVar[str] = "withdraw"


class Activate(_AboutRequest):
    """Climb by a request of one's own, with the statements that were handed in for it."""

    verb: ClassVar[str] = "activate"

    renew_parent: bool = False


class Recover(CommandBase):
    """Say on the record that the clock is right, although it reads earlier than the ledger."""

    verb: ClassVar[str] = "recover"

    request: Request | None = None
    approvals: Approvals = ()


class _Fenced(CommandBase):
    """Something done under a lease; `fence` is its grant's number, where it has to be that one."""

    fence: Annotated[int, Field(ge=1, lt=canonical.SAFE_INTEGER)] | None = None


class Act(_Fenced):
    """Do what `[acts]` names; `arguments` go into its receipt as they are.

    `proofs` are digests of evidence kept elsewhere, `algorithm:hex` each.
    """

    verb: ClassVar[str] = "act"

    act: Word
    arguments: Arguments = {}
    proofs: Proofs = {}


class _OfServer(CommandBase):
    """Something about a server behind a gate; `name` is the tool's, resource's or prompt's."""

    server: Word
    kind: Kind = "tool"
    name: Annotated[str, line("the name", canonical.NAME_BYTES)]
    arguments: Digest


class Call(_OfServer):
    """Call what stands under `[tools]`; `arguments` is their salted digest, never they themselves.

    Where each call needs its own approval, `request` is for this one, and `shown` is what its
    approvers read in place of the digest. It is left open until it is approved; asked again with
    the same request, the call uses it.
    """

    verb: ClassVar[str] = "call"

    shown: Reason = ""
    request: Request | None = None


class Tally(_OfServer):
    """Calls that were decided one by one, and go on record together: `count` of them since `since`.

    `arguments` is a digest over their digests, each over the one before and its own. Allowed calls
    may be told so where everybody may make them; `refused` ones repeat what a receipt has said.
    """

    verb: ClassVar[str] = "tally"

    count: Annotated[int, Field(ge=1, lt=canonical.SAFE_INTEGER)]
    since: Annotated[str, line("the time", canonical.NAME_BYTES)]
    refused: bool = False


class Amend(CommandBase):
    """Put the law in `toml` in force, with the approvals that the present one asks for."""

    verb: ClassVar[str] = "amend"

    toml: Toml
    request: Request | None = None
    approvals: Approvals = ()


class SetLock(CommandBase):
    """End at once what `scope` covers, and refuse more, for `ttl` or until it is lifted.

    `name` is the principal or the profile to lock; empty where `scope` is everybody.
    """

    verb: ClassVar[str] = "lock"

    scope: Scope
    name: Word | Literal[""] = ""
    ttl: Ttl | None = None


class LiftLock(CommandBase):
    """Let what `lock` covers be asked for again; it restores nothing."""

    verb: ClassVar[str] = "unlock"

    lock: Word


class CreateBudget(_Fenced):
    """Allocate a budget under an id that is free."""

    verb: ClassVar[str] = "create_budget"

    budget: Word
    name: Reason
    allocated: Units
    unit: Word


class Debit(_Fenced):
    """Spend from a budget; `reason` says on what."""

    verb: ClassVar[str] = "debit"

    budget: Word
    amount: Units


class DrillMode(CommandBase):
    """Switch a drill ledger's mode: on for a time, or off, which ends everything in it.

    `principal` is the drill's; `set_by` says what switched it.
    """

    verb: ClassVar[str] = "drill_mode"

    on: bool
    set_by: Reason


Command = (
    Escalate
    | Renew
    | Release
    | OpenRequest
    | HandIn
    | Push
    | DenyRequest
    | Withdraw
    | Activate
    | Recover
    | Amend
    | SetLock
    | LiftLock
    | Act
    | Call
    | Tally
    | CreateBudget
    | Debit
    | DrillMode
)
_Any = TypeVar("_Any", bound=CommandBase)


def make_command(kind: type[_Any], fields: Mapping[str, Any]) -> _Any:
    """Return a command of `kind`.

    Raises:
        InputError: a field is missing, of the wrong form, too long or too many.
    """
    try:
        return kind.model_validate(dict(fields))
    except ValidationError as error:
        raise InputError(first_misfit(error)) from error
