"""People who exist in one drill only, and sign there with keys made for it.

Law 13: keys and nonces follow from the drill, the constitution and the origin, so that the same
drill leaves the same receipts. Law 14: they count under that origin only, and guard nothing.
"""

from datetime import datetime, timedelta

from vmstate import canonical
from vmstate.canonical import Json
from vmstate.constitution.law import Constitution
from vmstate.errors import InputError
from vmstate.keys import PrivateKey, PublicKey
from vmstate.ledger.transaction import DrillMark
from vmstate.signing import Request, Signed, approve, attest

APPROVED_FOR = timedelta(minutes=15)


class StandIns:
    """The stand-ins of one drill's ledger. `digest` names the drill; it is no secret."""

    def __init__(self, constitution: Constitution, *, origin: str, digest: str) -> None:
        self._constitution = constitution
        self._origin = origin
        self._digest = digest
        self._nonces = 0

    def mark(self, drill_id: str, marker: str) -> DrillMark:
        """What makes a ledger this drill's; raises InputError without a [drill] table."""
        return DrillMark(drill_id, marker, self._digest, self._public_keys())

    def named(self, group: str) -> tuple[str, ...]:
        """The stand-ins that belong to `group`."""
        table = self._constitution.document.drill
        return () if table is None else table.stand_ins.get(group, ())

    def knows(self, name: str) -> bool:
        """Whether `name` is a stand-in."""
        return name in self._public_keys()

    def key(self, name: str) -> PrivateKey:
        """The throw-away key of `name`, which may also be nobody's."""
        return PrivateKey.derive(self._digest, self._constitution.digest, self._origin, name)

    def nonce(self) -> str:
        """The next nonce; the same ones in the same order each time."""
        self._nonces += 1
        parts: list[Json] = [self._digest, self._origin, self._nonces]
        return canonical.digest(canonical.encode(parts)).removeprefix("sha256:")[:32]

    def approve(self, request: Request, by: str, now: datetime) -> Signed:
        """`by` approves `request` for fifteen minutes."""
        expires_at = now + APPROVED_FOR
        return approve(request, by, self.key(by), expires_at=expires_at, nonce=self.nonce())

    def attest(self, request: Request, by: str, now: datetime) -> Signed:
        """`by` attests the facts of `request` as seen now."""
        return attest(request, by, self.key(by), at=now, nonce=self.nonce())

    def _public_keys(self) -> dict[str, PublicKey]:
        table = self._constitution.document.drill
        if table is None:
            raise InputError("the constitution has no [drill] table: add one to run drills")
        names = sorted({name for group in table.stand_ins.values() for name in group})
        return {name: self.key(name).public for name in names}
