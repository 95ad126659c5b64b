"""The law in force in a ledger, and what was made of it to decide by."""

from dataclasses import dataclass
from typing import Self

from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import read_constitution
from vmstate.constitution.people import People
from vmstate.decisions.decider import Decider
from vmstate.errors import LedgerMismatch
from vmstate.ledger.snapshot import Snapshot
from vmstate.ledger.store import Ledger


@dataclass(frozen=True, slots=True)
class InForce:
    """`people` are the constitution's, and a drill's stand-ins where the ledger is a drill's.

    `timed` are the profiles that have a cool-down or a hold cap.
    """

    constitution: Constitution
    people: People
    decider: Decider
    timed: tuple[str, ...]

    @classmethod
    def of(cls, constitution: Constitution, ledger: Ledger) -> Self:
        """What `constitution` is in this ledger."""
        people, document = constitution.people, constitution.document
        if ledger.drill is not None and document.drill is not None:
            people = people.with_stand_ins(document.drill.stand_ins, ledger.drill.stand_ins)
        decider = Decider(constitution, origin=ledger.origin, people=people)
        timed = tuple(sorted({*document.cooldown, *document.holds}))
        return cls(constitution, people, decider, timed)

    def now_in(self, snapshot: Snapshot, ledger: Ledger) -> "InForce":
        """The law in force in `snapshot`, which another process may have amended.

        Raises:
            LedgerMismatch: the file keeps another law than it names.
        """
        if snapshot.in_force() == self.constitution.digest:
            return self
        return InForce.of(_read_kept(snapshot, ledger), ledger)


def kept_law(ledger: Ledger) -> Constitution:
    """The law in force as the ledger keeps it, whatever any file says.

    Raises:
        LedgerMismatch: the file keeps another law than it names.
    """
    with ledger.read() as snapshot:
        return _read_kept(snapshot, ledger)


def _read_kept(snapshot: Snapshot, ledger: Ledger) -> Constitution:
    digest = snapshot.in_force()
    law = read_constitution(snapshot.constitution()[2], name=f"the law of {ledger.origin}")
    if law.digest != digest:
        raise LedgerMismatch(
            f"{ledger.path}: the law kept in it has the digest {law.digest}, not "
            f"{digest}: run vmstate audit"
        )
    return law
