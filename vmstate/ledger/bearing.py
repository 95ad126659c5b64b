"""What of a ledger bears on one command, gathered for whoever decides it."""

from dataclasses import replace

from vmstate import canonical
from vmstate.constitution.document import ANCHOR
from vmstate.decisions.command import (
    Act,
    Activate,
    Call,
    Command,
    CreateBudget,
    Debit,
    DenyRequest,
    Escalate,
    HandIn,
    OpenRequest,
    Push,
    Release,
    Renew,
    Withdraw,
)
from vmstate.decisions.decision import Anchor, State
from vmstate.decisions.fields import CONTEXT
from vmstate.decisions.law import Law
from vmstate.decisions.pending import Asked
from vmstate.decisions.statements import budgets_of, statement_ids
from vmstate.errors import InputError, LedgerNotFound
from vmstate.leases.lease import LeaseStack
from vmstate.ledger.checkpoint import Checkpoint
from vmstate.ledger.snapshot import Scope, Snapshot

# What may rest on what a sensor pushed, or on what it said before that.
_RESTING = Escalate | Renew | OpenRequest | HandIn | Activate


def state_for(snapshot: Snapshot, command: Command, law: Law, timed: tuple[str, ...]) -> State:
    """All that bears on `command`; `timed` are the profiles that have a cool-down or a hold cap."""
    principal = command.principal
    if isinstance(command, Release):
        lease = snapshot.leases.named(command.lease)
        principal = lease.principal if lease is not None else principal
    asked = None
    if isinstance(command, HandIn | DenyRequest | Withdraw | Activate):
        asked = snapshot.requests.named(command.request)
        principal = asked.principal if asked is not None else principal
    if isinstance(command, Call) and command.request is not None:
        asked = snapshot.requests.named(command.request.id)
    scope = Scope(law.constitution.baseline, law.people.family(principal), timed)
    pushed = snapshot.pushed.about(principal) if isinstance(command, _RESTING | Push) else ()
    ids, budgets = statement_ids(command, asked), budgets_of(command, law.constitution)
    ids = (*ids, *(one.statement.id for one in pushed))
    state = replace(snapshot.state(principal, scope, ids, budgets, asked), pushed=pushed)
    if isinstance(command, Act | CreateBudget | Debit):
        state = replace(state, contexts=_contexts(snapshot, state.stack))
    if isinstance(command, Act) and command.act == ANCHOR:
        return replace(state, anchor=_anchor(snapshot, law.origin))
    return state


def _contexts(snapshot: Snapshot, stack: LeaseStack) -> dict[int, str]:
    """The digests of the facts that the leases in `stack` were granted on, where there were any."""
    grants = [snapshot.receipt(lease.seq).fields for lease in stack.leases]
    return {said["seq"]: said["proofs"][CONTEXT] for said in grants if said["authority"]["facts"]}


def _anchor(snapshot: Snapshot, origin: str) -> Anchor:
    head = snapshot.head()
    body = Checkpoint.of(origin, head.tree).text().encode()
    roots = {scroll: root for scroll, (_, root) in snapshot.scrolls().items()}
    arguments = {"size": str(head.tree.size), **roots}
    return Anchor(arguments, {"checkpoint": canonical.digest(body)})


def find_request(snapshot: Snapshot, beginning: str) -> Asked:
    """The one request whose id begins so; raises LedgerNotFound or InputError."""
    ids = snapshot.requests.ids(beginning)
    if len(ids) > 1:
        raise InputError(f"{beginning} begins more than one request: give more of its id")
    asked = snapshot.requests.named(ids[0]) if ids else None
    if asked is None:
        raise LedgerNotFound(f"there is no request {beginning}: see vmstate request list")
    return asked
