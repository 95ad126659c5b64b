"""Does what a receipt says of who asked, and of how that is known, follow from what it holds?

    "who": {"actor":"carol","principal":"agent:7","proof":"key"}

`key` comes with the actor's own signature in the receipt, `peer` and `token` with an account or a
token that the law of its time gives the actor. `host` is the word of whoever wrote the file: it
counts where the law trusts the host, and for nothing that takes more. What a lock or an amendment
ends is by whoever locked or amended.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vmstate.constitution.law import Constitution
from vmstate.constitution.people import People
from vmstate.ledger.receipt import Receipt

# What nobody does on the host's word.
_RULINGS = frozenset(("lock", "constitution_amended"))
_TAKES_MORE = _RULINGS | {"recovery"}


@dataclass
class Proven:
    """`ruling` is who locked or amended last, and how that is known; `locked` the same by lock."""

    ruling: tuple[str | None, str | None] = (None, None)
    locked: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)

    def faults(
        self, receipt: Receipt, law: Constitution | None, people: People, *, in_drill: bool
    ) -> Iterator[str]:
        """Take what is not refused; says what is wrong with how its actor is known."""
        who = receipt.fields["who"]
        actor, proof = who["actor"], who["proof"]
        if receipt.type in _RULINGS:
            self._take(receipt, (actor, proof))
        if (actor is None) != (proof is None):
            yield "names who asked without a proof, or a proof of nobody"
        if actor is None or proof is None:
            return
        if _follows_a_ruling(receipt):
            lock = receipt.fields["what"]["detail"].get("lock")
            if (actor, proof) != self.locked.get(lock, self.ruling):
                yield "is by another than who locked or amended"
            return
        if (fault := _unborne(receipt, actor, proof, people)) is not None:
            yield f"says that {proof!r} proves {actor!r}, {fault}"
        if proof != "host" or law is None:
            return
        if not (law.document.callers.host or in_drill):
            yield f"takes {actor!r} on the host's word, which [callers] does not trust"
        if _takes_more(receipt):
            yield f"takes {actor!r} on the host's word, and needs a proof"

    def _take(self, receipt: Receipt, ruling: tuple[str | None, str | None]) -> None:
        self.ruling = ruling
        if receipt.type == "lock":
            self.locked.setdefault(receipt.fields["what"]["detail"]["lock"], ruling)


def _unborne(receipt: Receipt, actor: str, proof: str, people: People) -> str | None:
    """Why the proof named is none for this actor."""
    match proof:
        case "host":
            return None
        case "key":
            return None if actor in _signers(receipt) else "and holds no signature of theirs"
        case "peer":
            return None if actor in people.accounts else "who has no account"
        case "token":
            return None if actor in people.tokens else "who has no token"
        case _:
            return "which is no proof"


def _follows_a_ruling(receipt: Receipt) -> bool:
    detail = receipt.fields["what"]["detail"] or {}
    ends = receipt.type in {"profile_deescalation", "lease_clamped", "request"}
    return ends and ("lock" in detail or "amendment" in detail)


def _takes_more(receipt: Receipt) -> bool:
    who = receipt.fields["who"]
    ends_another = receipt.type == "profile_deescalation" and who["actor"] != who["principal"]
    return receipt.type in _TAKES_MORE or ends_another


def _signers(receipt: Receipt) -> set[str]:
    """Who signed that this be done; whoever hands in or pushes a statement does so by having
    signed it.
    """
    authority: dict[str, Any] = receipt.fields["authority"]
    statements = [*authority["approvals"], *authority["attestations"]]
    ahead = receipt.type in {"approval", "attestation"}
    return {one["by"] for one in statements if ahead or one["statement"]["kind"] == "order"}
