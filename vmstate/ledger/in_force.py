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
        digest = snapshot.in_force()
        if digest == self.constitution.digest:
            return self
        law = read_constitution(snapshot.constitution()[2], name=f"the law of {ledger.origin}")
        if law.digest != digest:
            raise LedgerMismatch(
                f"{ledger.path}: the law kept in it has the digest {law.digest}, not "
                f"{digest}: run vmstate audit"
            )
        return InForce.of(law, ledger)


def law_to_serve(given: Constitution, ledger: Ledger) -> Constitution:
    """The law in force where `given` is one that the ledger was under before, else `given`.

    An amendment is not undone by a file that nobody has changed since, and a service that starts
    again after it must not stay away.
    """
    with ledger.read() as snapshot:
        digest = snapshot.in_force()
        if given.digest == digest or given.digest not in {one for _, one in snapshot.laws()}:
            return given
        return InForce.of(given, ledger).now_in(snapshot, ledger).constitution
