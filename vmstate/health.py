"""Is everything in order? Asked of the ledger itself, never of a flag that somebody sets.

Operational means: the ledger can be read, its head is signed by its key over its own tree, it is
under a law that can be followed, the scheduler is looking, no lease is overdue for long, and
whoever is to be told of something was told.
"""

from dataclasses import dataclass

from vmstate.authority import Authority
from vmstate.claims import HEARTBEAT_FOR
from vmstate.door import Door
from vmstate.errors import ConstitutionError, LedgerError
from vmstate.expiry import Expiry, VirtualExpiry
from vmstate.lease_jobs import Health
from vmstate.ledger.checkpoint import Checkpoint, open_checkpoint

OPERATIONAL, DEGRADED = "operational", "degraded"
BEHIND = "giving back is behind: see the oldest overdue lease"
LATE_FOR = 3 * HEARTBEAT_FOR


@dataclass(frozen=True, slots=True)
class SystemHealth:
    """`faults` is empty if all is well; each is a sentence."""

    faults: tuple[str, ...]
    expiry: Health | None

    @property
    def status(self) -> str:
        return DEGRADED if self.faults else OPERATIONAL


def check_health(door: Door, expiry: Expiry | VirtualExpiry | None) -> SystemHealth:
    """Look at everything that has to be in order; reads only.

    Where there is no scheduler of ours, at a socket, the service is judged by what it leaves owed.
    """
    if not isinstance(door, Authority) or expiry is None:
        return _check_service(door)
    authority = door
    try:
        faults = _ledger_faults(authority)
        health = expiry.health()
        behind = authority.backlogs()
    except (ConstitutionError, LedgerError) as error:
        return SystemHealth((str(error),), None)
    if not health.running:
        faults.append("the scheduler is not running: ends are written by the next command")
    elif not health.is_good:
        faults.append(BEHIND)
    faults += [health.fault] if health.fault else []
    faults += [f"the lease of {name} can't be ended" for name in health.stuck]
    faults += [one.message for one in behind if one.is_behind]
    return SystemHealth(tuple(faults), health)


def _check_service(door: Door) -> SystemHealth:
    try:
        due, behind = door.due(limit=1), door.backlogs()
    except (ConstitutionError, LedgerError) as error:
        return SystemHealth((str(error),), None)
    faults = [one.message for one in behind if one.is_behind]
    if any(one.late_for > LATE_FOR for one in due):
        faults.append(BEHIND)
    return SystemHealth(tuple(faults), None)


def _ledger_faults(authority: Authority) -> list[str]:
    ledger = authority.ledger
    with ledger.read() as snapshot:
        head = snapshot.head()
    authority.law_in_force()  # which may have been amended meanwhile: it is followed
    faults = []
    signed = open_checkpoint(head.note, ledger.verifier)
    if signed != Checkpoint.of(ledger.origin, head.tree):
        faults.append("the signed head is not over the ledger's tree")
    return faults
