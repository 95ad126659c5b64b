"""How a lease ends: the receipt that every end leaves, and deciding one that is asked for."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from vmstate.canonical import Json
from vmstate.clock import Moment
from vmstate.constitution.document import HOLDER
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import Release
from vmstate.decisions.decision import Entry, Grounds, State
from vmstate.decisions.law import Law, personal_locks
from vmstate.decisions.refusing import denial
from vmstate.leases.lease import PARENT_ENDED, Lease


class Ruling(Protocol):
    """Who brought an end about, how that is known, and why: a receipt to be, or one that was."""

    @property
    def actor(self) -> str | None: ...

    @property
    def proof(self) -> str | None: ...

    @property
    def why(self) -> str: ...


def end_of(
    lease: Lease,
    ending: str,
    ended: Moment,
    *,
    rule: str,
    below: str,
    by: Ruling | None = None,
    due: datetime | None = None,
    ended_via: str | None = None,
    detail: Mapping[str, Json] | None = None,
) -> Entry:
    """The receipt of the end of `lease` at `ended`, as one has it that nobody asked for.

    `rule` is the path in the constitution that says so, `below` the profile that is left, `by` what
    brought it about, where somebody did.
    """
    # Written in one go: a copy of an entry takes as long as all else that is decided of an end.
    return Entry(
        "profile_deescalation",
        "expired" if by is None else "reverted",
        Grounds(rule),
        actor=None if by is None else by.actor,
        principal=lease.principal,
        proof=None if by is None else by.proof,
        why="" if by is None else by.why,
        due=due,
        lease=lease.id,
        parent=lease.parent,
        trigger=lease.trigger,
        ending=ending,
        from_profile=lease.profile,
        to_profile=below,
        expires_at=lease.expires_at,
        ended_via=ended_via,
        detail=detail,
        ends=replace(lease, ended=ended, ending=ending),
    )


def release(law: Law, state: State, command: Release, now: Moment) -> tuple[Entry, ...]:
    """End a lease, and with it what stands above it; or say why not.

    Somebody else's lease gives the same answer as one that does not exist, unless the caller has
    proven to be somebody who may end it; who is proven and may not use the ending is told who may.
    """
    actor, ending = command.asked_by, command.ending
    table = law.document.endings.get(ending)
    unmet: list[Unmet] = []
    if table is None or table.by is None:
        known = ", ".join(n for n, t in law.document.endings.items() if t.by is not None)
        remedy = f"name one of {known}"
        unmet.append(Unmet("endings", "ending_unknown", known, ending, remedy))
    if not law.people.knows(actor):
        unmet.append(law.unknown_principal(actor))
    unmet += command.claims
    lease = next((one for one in state.stack.leases if one.id == command.lease), None)
    by = table.by if table is not None and table.by is not None else ()
    groups = tuple(group for group in by if group != HOLDER)
    own = lease is not None and lease.principal == actor
    locked = [] if own else personal_locks(law, state, actor)
    unmet += locked
    proven = command.is_proven and not locked
    admitted = proven and law.people.in_any(actor, groups)
    # Who may use an ending is told whether there is such a lease or not, and so says nothing of it.
    if by and HOLDER not in by and not admitted and (own or proven):
        remedy = f"have it signed by somebody in {', '.join(groups)}: --as NAME --key FILE"
        unmet.append(Unmet(f"endings.{ending}.by", "ending_not_admitted", ending, actor, remedy))
    elif lease is None or not (own or admitted):
        remedy = "name a live lease of your own; to end another's, vmstate revoke with a key"
        if admitted:
            remedy = "name a live one: vmstate status"
        unmet.append(Unmet("endings", "unknown_lease", "a live lease", command.lease, remedy))
    if command.setup and state.drill is None:
        remedy = "release it as it is"
        unmet.append(Unmet("drill", "not_a_drill", "a drill's ledger", "set-up", remedy))
    if unmet or lease is None or table is None:
        return (denial(state, command, unmet, now, lease=command.lease),)
    first = state.stack.leases[0] if table.to == "baseline" else lease
    lowest = state.stack.leases.index(first)
    entries = []
    for above in reversed(state.stack.leases[lowest:]):
        # A fall to the baseline names its ending on every rung; else what stood above just falls.
        named = above == lease or table.to == "baseline"
        unseated = replace(above, unseated=command.setup)
        below, how = state.stack.below(above), ending if named else PARENT_ENDED
        entry = replace(
            end_of(unseated, how, now, rule=f"endings.{ending}", below=below),
            outcome="reverted",
            actor=command.asked_by,
            proof=command.proof,
            why=command.reason,
            setup=command.setup,
        )
        entries.append(entry)
    return tuple(entries)
