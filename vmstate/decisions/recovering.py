"""Deciding a recovery: what a clock in the past holds up goes on, if approvals say so (law 11).

After a reboot into the past that is every grant. It is also what was signed before the clock was
set back, within a boot or by a reboot, or by somebody who could not know that it was. The approvals
of a recovery are signatures like any other: they count if they name the receipt of the step back,
as a request prepared since does.
"""

from vmstate.canonical import Json, format_at
from vmstate.clock import Moment
from vmstate.constitution.guards import ApprovalGuard, Case
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import CLOCK_RECOVERY, Recover
from vmstate.decisions.decision import Entry, Grounds, State
from vmstate.decisions.evidence import hear_approvals, nonce_of, used_ids
from vmstate.decisions.law import Law, exception_faults, proof_faults, seated_approvals
from vmstate.decisions.refusing import denial


def recover(law: Law, state: State, command: Recover, now: Moment) -> Entry:
    """Let the clock be right although it reads earlier than the ledger, if approvals say so."""
    unmet = proof_faults(law, state, command)
    until, set_back = state.watermark.refuses_grants(now), state.watermark.set_back(now)
    needed = until is not None or set_back is not None
    if not needed:
        remedy = "nothing to do"
        given = format_at(now.wall)
        unmet.append(Unmet("recovery", "no_regression", "a clock in the past", given, remedy))
    table = law.document.recovery
    at = law.setting(state, now, command.principal)
    heard = hear_approvals(command.approvals, command.request, at)
    if table is None:
        remedy = "set the clock right, or wait"
        unmet.append(Unmet("recovery", "no_recovery", "[recovery]", "no such table", remedy))
    else:
        case = Case(
            command.principal, law.people, approvers=heard.approvers, rejected=heard.rejected
        )
        prepare = "vmstate recover --clock -o FILE"
        guard = ApprovalGuard("recovery.needs.approval", table.needs.approval, prepare)
        unmet += guard(case)
    unmet += exception_faults(command, CLOCK_RECOVERY, {}, at)
    if unmet or not needed or table is None:
        return denial(state, command, unmet, now)
    held: dict[str, Json] = {"held_until": None if until is None else format_at(until)}
    if set_back is not None:
        held["seen"] = format_at(set_back.seen)
    counted = seated_approvals(law, heard, table.needs.approval)
    return Entry(
        "recovery",
        "recorded",
        Grounds(
            "recovery",
            approvals=counted,
            request=command.request.id if command.request is not None else None,
        ),
        actor=command.asked_by,
        principal=command.principal,
        proof=command.proof,
        why=command.reason,
        trigger=CLOCK_RECOVERY,
        detail={"kind": "clock", **held, **nonce_of(command.request)},
        spends=tuple(used_ids(counted, command.request)),
        watermark=state.watermark.after_recovery(now),
    )
