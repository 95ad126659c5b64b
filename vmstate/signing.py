"""The statements that people sign, and what is handed in.

Law 9: approvals and attestations are signatures. A statement is canonical JSON, and what is signed
is exactly its bytes, so `openssl pkeyutl -sign -rawin` and `ssh-keygen -Y sign -n vmstate` make one
as well as we do.

    request      {v, principal, to, trigger, facts, reason, ttl_us, origin, constitution, nonce}
    approval     {v, kind, by, origin, request, constitution, nonce, expires_at}
    attestation  {v, kind, by, origin, constitution, principal, facts, at, nonce}
    order        {v, kind, by, origin, constitution, verb, arguments, reason, expires_at, nonce}

A request is not signed: its id is the digest of its bytes, and an approval names that id. `after`
stands in any of them where the ledger's clock was set back: the id of the receipt that says so,
which proves that it was written down after that one (`leases/watermark.py`). An order
is a command that proves by its signature who asks: it ends a lease, locks, recovers. `origin`
is the ledger's and `constitution` the digest of its law, so nothing signed for one ledger, drill
or version of the law counts in another.
"""

import base64
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vmstate import canonical
from vmstate.canonical import Json
from vmstate.errors import InputError
from vmstate.forms import checked, line, name
from vmstate.keys import PublicKey, Signer, from_base64
from vmstate.misfit import say_misfit

STATEMENT_BYTES = 32_768  # a receipt (65,535 bytes at most) holds every statement that counted


def new_nonce() -> str:
    """128 random bits in hexadecimal: what makes two like statements different."""
    return secrets.token_hex(16)


def _check_instant(text: str) -> str:
    if canonical.format_at(canonical.parse_at(text)) != text:
        raise ValueError(f"{text!r} is not a time with six decimals")
    return text


_Name = Annotated[str, name()]
_Line = Annotated[str, line()]
_Instant = Annotated[str, checked(_check_instant)]
_Nonce = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Statement(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    v: Literal[1] = 1
    origin: _Line
    constitution: _Digest
    nonce: _Nonce
    after: _Digest | None = None

    def body(self) -> dict[str, Json]:
        return {k: v for k, v in self.model_dump().items() if k != "after" or v is not None}

    def bytes(self) -> bytes:
        """What is signed."""
        return canonical.encode(self.body())

    @property
    def id(self) -> str:
        """The digest of the bytes."""
        return canonical.digest(self.bytes())


class Request(_Statement):
    """What somebody wants to hold, written down so that others can approve exactly that.

    `to` is a profile, or None where `trigger` names an exceptional request (`clock_recovery`).
    `ttl_us` is the time asked for in microseconds, or None for the rule's own.
    """

    principal: _Name
    to: _Line | None
    trigger: _Line
    facts: dict[_Line, _Line]
    reason: _Line
    ttl_us: Annotated[int, Field(gt=0, lt=canonical.SAFE_INTEGER)] | None


class Approval(_Statement):
    """`by` approves the request with this id, until `expires_at`."""

    kind: Literal["approval"] = "approval"
    by: _Name
    request: _Digest
    expires_at: _Instant


class Attestation(_Statement):
    """`by` states `facts` about `principal`, as seen `at`."""

    kind: Literal["attestation"] = "attestation"
    by: _Name
    principal: _Name
    facts: dict[_Line, _Line]
    at: _Instant


class Order(_Statement):
    """`by` asks for exactly what `verb` and `arguments` say, for `reason`; good until `expires_at`.

    `arguments` are the command's fields as text, those that were left out missing.
    """

    kind: Literal["order"] = "order"
    by: _Name
    verb: Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]
    arguments: dict[_Line, _Line]
    reason: _Line
    expires_at: _Instant


Statement = Approval | Attestation | Order


class Signed(BaseModel):
    """A statement with its signature: what is handed in, and what a receipt keeps.

    Shape: `{"by": …, "key": "ed25519:…", "signature": "<base64>", "statement": {…}}`. `by` and
    `key` repeat what the statement and the constitution say; neither is believed (`verifies`). The
    signature is base64 of what the key made: 64 bytes, or the inside of an SSH signature's armour.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    by: _Name
    key: str
    signature: str
    statement: Annotated[Statement, Field(discriminator="kind")]

    def verifies(self, key: PublicKey) -> bool:
        """Whether `key`, which the caller knows to be the signer's, signed this statement."""
        signature = from_base64(self.signature)
        return (
            signature is not None
            and self.by == self.statement.by
            and self.key == str(key)
            and key.verifies(signature, self.statement.bytes())
        )

    def body(self) -> dict[str, Json]:
        """The JSON object that a file or receipt holds."""
        return {**self.model_dump(), "statement": self.statement.body()}


def sign(statement: Statement, key: Signer) -> Signed:
    """Return `statement` signed by `key`."""
    return _signed(statement, key.public, key.sign(statement.bytes()))


def assemble(statement: Statement, key: PublicKey, signature: bytes) -> Signed:
    """Return `statement` with a signature that was made elsewhere.

    Raises:
        InputError: it is not `key`'s signature over exactly the statement's bytes.
    """
    signed = _signed(statement, key, signature)
    if not signed.verifies(key):
        raise InputError(
            f"this is not a signature over the statement by the key of {statement.by}, needs one "
            f"by {key.fingerprint} ({key.kind}) over exactly its bytes"
        )
    return signed


def _signed(statement: Statement, key: PublicKey, signature: bytes) -> Signed:
    text = base64.b64encode(signature).decode()
    return Signed(by=statement.by, key=str(key), signature=text, statement=statement)


def read_request(data: bytes) -> Request:
    """Read a prepared request, however it is spaced; raises InputError."""
    return _read(Request.model_validate, data, "a prepared request (vmstate request new)")


def read_signed(data: bytes) -> Signed:
    """Read a signed statement, however it is spaced; raises InputError."""
    return _read(Signed.model_validate, data, "a signed statement (vmstate sign)")


def read_statement(data: bytes) -> Statement:
    """Read the bytes that were signed. They have one spelling, and it is asked for.

    Raises:
        InputError: no statement, or another spelling of one.
    """
    what = "a statement (vmstate sign --statement-only)"
    statement = _read(_STATEMENT.validate_python, data, what)
    if statement.bytes() != data:
        raise InputError(
            f"this is not {what}: keys in their order, no space and no line's end; "
            "a signature is over exactly these bytes"
        )
    return statement


_STATEMENT: TypeAdapter[Statement] = TypeAdapter(Annotated[Statement, Field(discriminator="kind")])
_Read = TypeVar("_Read")


def _read(validate: Callable[[Json], _Read], data: bytes, what: str) -> _Read:
    if len(data) > STATEMENT_BYTES:
        raise InputError(f"{len(data):,} bytes is too long for {what}: {STATEMENT_BYTES:,} at most")
    value = canonical.parse(data)
    try:
        return validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        unknown = first["type"].startswith("union_tag")
        said = "its kind is none that is signed" if unknown else say_misfit(first)
        raise InputError(f"this is not {what}: {where}: {said}") from error


def approve(
    request: Request,
    by: str,
    key: Signer,
    *,
    expires_at: datetime,
    nonce: str | None = None,
    after: str | None = None,
) -> Signed:
    """`by` approves `request` until `expires_at`; takes nothing but the request and the key."""
    return sign(approval(request, by, expires_at=expires_at, nonce=nonce, after=after), key)


def approval(
    request: Request,
    by: str,
    *,
    expires_at: datetime,
    nonce: str | None = None,
    after: str | None = None,
) -> Approval:
    """What `by` signs to approve `request` until `expires_at`; what comes after the request comes
    after the receipt that the request names.
    """
    return Approval(
        by=by,
        origin=request.origin,
        request=request.id,
        constitution=request.constitution,
        nonce=nonce or new_nonce(),
        expires_at=canonical.format_at(expires_at),
        after=after or request.after,
    )


def attest(
    request: Request,
    by: str,
    key: Signer,
    *,
    at: datetime,
    nonce: str | None = None,
    after: str | None = None,
) -> Signed:
    """`by` states, as seen `at`, the facts that `request` holds about its principal."""
    return sign(attestation(request, by, at=at, nonce=nonce, after=after), key)


def attestation(
    request: Request,
    by: str,
    *,
    at: datetime,
    nonce: str | None = None,
    after: str | None = None,
) -> Attestation:
    """What `by` signs to state, as seen `at`, the facts of `request`; `after` as in `approval`."""
    return Attestation(
        by=by,
        origin=request.origin,
        constitution=request.constitution,
        principal=request.principal,
        facts=request.facts,
        at=canonical.format_at(at),
        nonce=nonce or new_nonce(),
        after=after or request.after,
    )
