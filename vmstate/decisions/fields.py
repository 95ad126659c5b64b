"""The kinds of value that a command is made of, and the form that each must have."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from vmstate import canonical
from vmstate.constitution.loading import FILE_BYTES
from vmstate.forms import line, name
from vmstate.signing import Signed
from vmstate.treasury.budget import MOST_UNITS

FACTS = 16  # and
APPROVALS = 16  # and
ATTESTATIONS = 4  # together fit a receipt of 65,535 bytes
ONCE_KEY_BYTES = 128  # a UUID fits three times
CONTEXT = "tem_context_hash"  # the proof that is the digest of the facts which called for this
# What receipts prove by themselves; an act that could say so would be believed.
OWN_PROOFS = frozenset(("command", "idempotency", "request", CONTEXT))


def spell_fact(value: object) -> object:
    """A fact is text; whole numbers and decimals are spelled out, floats have no exact spelling."""
    if isinstance(value, bool | float):
        raise ValueError(f"{value!r} is not exact: write it as text, such as '0.92'")  # noqa: TRY004
    return canonical.format_decimal(Decimal(value)) if isinstance(value, int | Decimal) else value


def _check_utf8(data: bytes) -> bytes:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the constitution is not UTF-8 text: {error.reason}") from error
    return data


def _check_fact(text: str) -> str:
    if len(text) > canonical.FACT_CHARACTERS:
        most = canonical.FACT_CHARACTERS
        raise ValueError(f"the fact has {len(text)} characters, at most {most} are allowed")
    return text


def _check_proofs(proofs: dict[str, str]) -> dict[str, str]:
    for one in OWN_PROOFS & proofs.keys():
        raise ValueError(f"the proof {one!r} is vmstate's own: give it another name")
    return proofs


Principal = Annotated[str, name("principal")]
Word = Annotated[str, name("name")]
Reason = Annotated[str, line("the reason")]
FactText = Annotated[
    str, BeforeValidator(spell_fact), line("the fact", 4_096), AfterValidator(_check_fact)
]
Facts = Annotated[dict[Word, FactText], Field(max_length=FACTS)]
Approvals = Annotated[tuple[Signed, ...], Field(max_length=APPROVALS)]
Attestations = Annotated[tuple[Signed, ...], Field(max_length=ATTESTATIONS)]
RequestId = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Digest = Annotated[str, Field(pattern=r"^[a-z0-9]{1,16}:[0-9a-f]{32,128}$")]
Arguments = Annotated[dict[Word, FactText], Field(max_length=FACTS)]
Proofs = Annotated[dict[Word, Digest], Field(max_length=FACTS), AfterValidator(_check_proofs)]
OnceKey = Annotated[str, Field(min_length=1), line("the idempotency key", ONCE_KEY_BYTES)]
Units = Annotated[int, Field(ge=1, le=MOST_UNITS)]
Proven = Literal["host", "key", "peer", "token", "none"]
Ttl = Annotated[timedelta, Field(gt=timedelta())]
Toml = Annotated[bytes, Field(max_length=FILE_BYTES), AfterValidator(_check_utf8)]
