"""How people end an open request: deny it, withdraw it, or activate it.

Its climb is decided when it is activated, by the same `climb` as any other, so what passed
meanwhile counts: cool-downs, holds, the age of facts, keys that are gone.
"""

from dataclasses import replace

from vmstate.clock import Moment
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.climb import climb
from vmstate.decisions.command import Activate, CommandBase, DenyRequest, Withdraw
from vmstate.decisions.decision import Entry, Grounds, State
from vmstate.decisions.evidence import hear_approvals
from vmstate.decisions.law import Law, proof_faults, standing_faults
from vmstate.decisions.pending import (
    ACTIVATED,
    DENIED,
    WITHDRAWN,
    Asked,
    ended_detail,
    is_call,
    stages_of,
)
from vmstate.decisions.requested import about, as_climb, first_good, open_faults, refused_about


def deny_request(law: Law, state: State, command: DenyRequest, now: Moment) -> Entry:
    """End it as anybody whom any of its stages admits; one is enough."""
    asked, actor = state.asked, command.asked_by
    unmet = [*proof_faults(law, state, command), *open_faults(asked, command)]
    if asked is None or unmet:
        return refused_about(state, command, unmet, now)
    stages = stages_of(law.document, asked.request, asked.rule)
    groups = tuple(dict.fromkeys(group for need in stages for group in need.of))
    if law.people.person(actor) == law.people.person(asked.principal):
        remedy = "vmstate request withdraw"
        unmet.append(Unmet("requests", "deny_own", "somebody else", actor, remedy))
    elif not law.people.in_any(actor, groups):
        names = ", ".join(groups) or "an approver, and it asks for none"
        path = f"escalations.{asked.rule}.needs.approval"
        if is_call(asked.request):
            path = f"tools.{asked.request.facts['server']}.approvers"
        remedy = "ask somebody who might approve it"
        unmet.append(Unmet(path, "deny_not_admitted", names, actor, remedy))
    if unmet:
        return refused_about(state, command, unmet, now)
    return _ended(asked, DENIED, command, now)


def withdraw(law: Law, state: State, command: Withdraw, now: Moment) -> Entry:
    """End a request of one's own; by another of one's names if that name is proven."""
    asked = _own(law, state, command)
    faults = proof_faults if asked is not None and asked.principal != command.principal else None
    unmet = [*(faults or standing_faults)(law, state, command), *open_faults(asked, command)]
    if asked is None or unmet:
        return refused_about(state, command, unmet, now)
    return _ended(asked, WITHDRAWN, command, now)


def activate(law: Law, state: State, command: Activate, now: Moment) -> tuple[Entry, ...]:
    """The climb that was asked for, decided now; a refusal leaves the request as it is."""
    asked = state.asked
    if asked is not None and asked.principal != command.principal:
        asked = None
    unmet = open_faults(asked, command)
    if asked is not None and is_call(asked.request) and not unmet:
        remedy = "call it again, as it was called"
        called = asked.request.facts["name"]
        unmet = [Unmet("requests", "request_of_call", "a climb", called, remedy)]
    if asked is None or unmet:
        return (
            refused_about(state, command, [*standing_faults(law, state, command), *unmet], now),
        )
    at = law.setting(state, now, asked.principal)
    statements = first_good(asked, hear_approvals(asked.approvals, asked.request, at))
    climbing = as_climb(command, asked.request, statements, renew_parent=command.renew_parent)
    *before, answer = climb(law, state, climbing, now, asked)
    if answer.outcome == "denied":
        return (replace(answer, detail={"request": asked.id, "opened": asked.seq}),)
    return (*before, replace(answer, asks=asked.over(ACTIVATED, now)))


def _own(law: Law, state: State, command: CommandBase) -> Asked | None:
    """The request if it is the caller's own; somebody else's is as unknown as none at all."""
    asked, person = state.asked, law.people.person
    own = asked is not None and person(asked.principal) == person(command.principal)
    return asked if own else None


def _ended(asked: Asked, state: str, command: DenyRequest | Withdraw, now: Moment) -> Entry:
    entry = about(asked, "request", Grounds("requests"), ended_detail(asked, state))
    return replace(
        entry,
        actor=command.asked_by,
        proof=command.proof,
        why=command.reason,
        spends=(asked.id,),
        asks=asked.over(state, now),
    )
