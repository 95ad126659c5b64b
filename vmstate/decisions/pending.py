"""A request that was left open: what it waits for, and how it ends.

    pending ── complete ── activated
        └──────────┴─────── denied  withdrawn  locked
                            expired  lapsed  amended  clock_regression  drill_ended

It is pending until its approvals and attestations are there, then complete until its principal
activates it. Each has a deadline of its own on both hands of the clock, decided when read like a
lease's: `waits` long for what is missing (`expired`), `usable_for` long once it is there
(`lapsed`). A state on the right never changes again, and a request under a law that is no longer
in force is over (`amended`).

What is asked for is a climb, or one call of a tool, which is activated by making it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from vmstate.canonical import Json
from vmstate.clock import Moment, duration_us
from vmstate.constitution.document import ApprovalNeed, Document
from vmstate.decisions.command import TOOL_CALL
from vmstate.leases.lease import CLOCK_REGRESSION, DRILL_ENDED, LeaseStack
from vmstate.leases.watermark import passed
from vmstate.signing import Approval, Request, Signed

PENDING, COMPLETE = "pending", "complete"
ACTIVATED, DENIED, WITHDRAWN = "activated", "denied", "withdrawn"
EXPIRED, LAPSED, AMENDED = "expired", "lapsed", "amended"
# What ends a request without anybody asking.
OVERDUE = frozenset((EXPIRED, LAPSED, AMENDED, CLOCK_REGRESSION, DRILL_ENDED))


@dataclass(frozen=True, slots=True)
class Asked:
    """An open request as far as it came, or one that is over.

    `seq` is the receipt that opened it, `rule` the escalation that it waits for, or the path of the
    rule that lists the tool. `deadline` is the one in force: `waits_until` while pending,
    `usable_until` once complete. `statements` are those that were taken, in their order: of one
    person the last approval, and the last attestation.
    """

    seq: int
    request: Request
    rule: str
    opened: Moment
    waits_until: datetime
    deadline: Moment
    usable_until: datetime | None = None
    state: str = PENDING
    statements: tuple[Signed, ...] = ()
    ended: Moment | None = None

    @property
    def id(self) -> str:
        return self.request.id

    @property
    def principal(self) -> str:
        return self.request.principal

    @property
    def is_open(self) -> bool:
        """Whether no end of it is recorded; `ending_of` says whether it is over all the same."""
        return self.ended is None

    @property
    def approvals(self) -> tuple[Signed, ...]:
        return tuple(one for one in self.statements if isinstance(one.statement, Approval))

    @property
    def attestations(self) -> tuple[Signed, ...]:
        return tuple(one for one in self.statements if not isinstance(one.statement, Approval))

    def over(self, state: str, now: Moment) -> "Asked":
        """The request once it has ended so."""
        return replace(self, state=state, ended=now)

    def taking(self, signed: Signed, replaced: Iterable[Signed]) -> "Asked":
        """The request with one more statement, which takes the place of those `replaced`."""
        gone = tuple(replaced)
        kept = tuple(one for one in self.statements if one not in gone)
        return replace(self, statements=(*kept, signed))


@dataclass(frozen=True, slots=True)
class Lapse:
    """A request that is over and not yet recorded as ended."""

    asked: Asked
    state: str
    due: datetime
    late_for: timedelta

    def detail(self) -> dict[str, Json]:
        """What the receipt of its end holds."""
        return {**ended_detail(self.asked, self.state), "late_us": duration_us(self.late_for)}


def is_call(request: Request) -> bool:
    """Whether it is for one call of a tool."""
    return request.to is None and request.trigger == TOOL_CALL


def stages_of(document: Document, request: Request, rule: str) -> tuple[ApprovalNeed, ...]:
    """The approvals that `request` waits for, by the law in `document`."""
    if is_call(request):
        server = document.tools.get(request.facts.get("server", ""))
        groups = None if server is None else server.approvers
        return () if groups is None else (ApprovalNeed(count=1, of=groups),)
    table = document.escalations.get(rule)
    return () if table is None else table.needs.approval


def ended_detail(asked: Asked, state: str) -> dict[str, Json]:
    """What the receipt of an end says of the request; the opening one has its body."""
    return {"request": asked.id, "opened": asked.seq, "state": state}


def lapse_of(asked: Asked, stack: LeaseStack, constitution: str, now: Moment) -> Lapse | None:
    """How `asked` has ended by `now` without a receipt; None if it has not.

    `stack` lends what its ledger knows of time, `constitution` is the digest of the law in force.
    """
    if not asked.is_open:
        return None
    mark, closes = stack.watermark, stack.closes
    due, late_for = asked.deadline.wall, -mark.left(asked.deadline, now)
    if closes is not None and passed(closes, now) and closes.wall < due:
        return Lapse(asked, DRILL_ENDED, closes.wall, max(now.wall - closes.wall, timedelta()))
    if late_for >= timedelta():
        state = LAPSED if asked.state == COMPLETE else EXPIRED
    elif mark.voids(asked.seq, asked.opened.boot_id, now):
        # Nobody can tell how long it has waited since a clock that is in the past.
        state = CLOCK_REGRESSION
    elif asked.request.constitution != constitution:
        state = AMENDED
    else:
        return None
    return Lapse(asked, state, due, max(late_for, timedelta()))
