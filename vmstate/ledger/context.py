"""The facts that called for what was done, as receipts tell: their digest, looked up again.

    "proofs":{"tem_context_hash":"sha256:…"}

Every grant has the digest of the facts that its guards saw. An act has that of the topmost grant
in its doer's stack that was made on any fact, so that it can be said of each act what called for
it; where no grant was, it has none.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vmstate import canonical
from vmstate.decisions.fields import CONTEXT
from vmstate.leases.lease import lease_id
from vmstate.ledger.held import Held
from vmstate.ledger.receipt import Receipt


@dataclass
class Contexts:
    """Everybody's topmost open lease."""

    top: dict[str, str] = field(default_factory=dict)

    def begin(self, held: Held, receipt: Receipt) -> Iterator[str]:
        """Take a grant; says whether its digest is not that of its facts."""
        said = receipt.fields
        facts = said["authority"]["facts"]
        digest = canonical.digest(canonical.encode(facts))
        held.context = digest if facts else None
        self.top[held.principal] = lease_id(held.seq)
        if said["proofs"].get(CONTEXT) != digest:
            yield "its context hash is not that of its facts"

    def end(self, held: Held) -> None:
        """Take the end of somebody's topmost lease."""
        if held.parent is None:
            self.top.pop(held.principal, None)
        else:
            self.top[held.principal] = held.parent

    def faults(self, leases: Mapping[str, Held], receipt: Receipt) -> Iterator[str]:
        """Whether an act has another digest than its doer's leases make it."""
        said = receipt.fields
        if said["what"]["act"] is None:
            return
        below = leases.get(self.top.get(said["who"]["principal"], ""))
        while below is not None and below.context is None:
            below = leases.get(below.parent or "")
        wanted = None if below is None else below.context
        if said["proofs"].get(CONTEXT) != wanted:
            yield "its context hash is not that of the facts which its doer's leases rest on"
