"""Leaving a request open, where nothing but signatures is missing.

Anything else is refused at once, with all of it. What was left open under another law is asked
anew, and waits no longer for it.
"""

from dataclasses import replace
from datetime import timedelta

from vmstate.canonical import Json, format_at
from vmstate.clock import Moment
from vmstate.constitution.facts import read_facts
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.climb import climb
from vmstate.decisions.command import Escalate, OpenRequest
from vmstate.decisions.decision import Entry, Grounds, State
from vmstate.decisions.evidence import nonce_of
from vmstate.decisions.hearing import Hearing, hear
from vmstate.decisions.law import Law
from vmstate.decisions.pending import Asked, is_call, lapse_of
from vmstate.decisions.refusing import denial
from vmstate.decisions.requested import as_climb
from vmstate.leases.watermark import later
from vmstate.signing import Request

SIGNATURES = frozenset(("approval_missing", "fact_unattested"))  # what others may still bring


def open_request(law: Law, state: State, command: OpenRequest, now: Moment) -> tuple[Entry, ...]:
    """The grant if nothing is missing, the open request if only signatures are, or the refusal."""
    request = command.request
    if request.to is None or command.principal != request.principal:
        return (denial(state, command, _misfits(command), now),)
    asked = as_climb(command, request, ())
    answer = climb(law, state, asked, now)
    if answer[-1].outcome != "denied":
        return answer
    if granted := _granted_on_pushed(law, state, asked, answer[-1], now):
        return granted
    hearing = hear(law, state, asked, now)
    found = None if hearing.unmet else _waits_for(law, state, asked, hearing, now)
    faults = no_room(law, state, now)
    refused = answer[-1]
    if found is None or faults:
        unmet = (*(refused.grounds.unmet if found is None else ()), *faults)
        return (replace(refused, grounds=replace(refused.grounds, unmet=unmet)),)
    rule, missing = found
    return (opened(law, state, request, rule, missing, refused, now),)


def _granted_on_pushed(
    law: Law, state: State, asked: Escalate, refused: Entry, now: Moment
) -> tuple[Entry, ...]:
    """The grant of a request that lacked nothing but facts, on those that a sensor pushed.

    Nobody signed the request, so nothing binds the climb to what it says of facts: none.
    """
    request = asked.request
    if request is None or {one.code for one in refused.grounds.unmet} != {"fact_missing"}:
        return ()
    answer = climb(law, state, asked.model_copy(update={"request": None}), now)[-1]
    if answer.outcome == "denied":
        return ()
    return (replace(answer, detail={**(answer.detail or {}), "request": request.id}),)


def _misfits(command: OpenRequest) -> list[Unmet]:
    request, unmet = command.request, list(command.claims)
    if request.to is None:
        remedy = "hand its approvals in with the command itself"
        if is_call(request):
            remedy = "call it: the gate leaves it open"
        given = request.trigger
        unmet.append(Unmet("requests", "request_exceptional", "a profile", given, remedy))
    if command.principal != request.principal:
        words = f"principal = {request.principal}", f"principal = {command.principal}"
        remedy = "prepare one of your own: vmstate request new"
        unmet.append(Unmet("requests", "request_differs", *words, remedy))
    return unmet


def no_room(law: Law, state: State, now: Moment) -> list[Unmet]:
    """Whether one more may be left open; what is over takes no room, whoever wrote what of it."""
    table = law.document.requests
    if table is None:
        remedy = "have the approvals ready, and hand them in with the command"
        return [Unmet("requests", "requests_absent", "[requests]", "no such table", remedy)]
    digest = law.constitution.digest
    waiting = [one for one in state.waiting if lapse_of(one, state.stack, digest, now) is None]
    if len(waiting) < table.open_at_most:
        return []
    remedy = "activate or withdraw one, or wait: vmstate request list"
    most, given = str(table.open_at_most), str(len(waiting))
    return [Unmet("requests.open_at_most", "requests_full", most, given, remedy)]


def _waits_for(
    law: Law, state: State, command: Escalate, hearing: Hearing, now: Moment
) -> tuple[str, tuple[Unmet, ...]] | None:
    """The rule that lacks nothing but signatures, the one that lacks fewest, and what it lacks.

    Each is asked a second time as if the facts were attested: one that they would not meet lacks
    more than a signature.
    """
    declared, held = law.document.facts, state.stack.profile(now)
    values, _ = read_facts(declared, command.facts)
    faults = tuple(one for one in hearing.case.faults if one.code not in SIGNATURES)
    found: list[tuple[int, timedelta, str, tuple[Unmet, ...]]] = []
    for rule, table in law.document.escalations.items():
        if (table.from_, table.to, table.trigger) != (held, command.to, command.trigger):
            continue
        case = replace(hearing.case, rule=rule)
        sure = replace(case, facts=values, faults=faults)
        unmet = [
            law.machine.attempt(held, command.to, command.trigger, one).unmet
            for one in (case, sure)
        ]
        if all(one.code in SIGNATURES for missing in unmet for one in missing):
            found.append((len(unmet[0]), table.ttl, rule, unmet[0]))
    return min(found, key=lambda one: one[:3])[2:] if found else None


def opened(
    law: Law,
    state: State,
    request: Request,
    rule: str,
    missing: tuple[Unmet, ...],
    refused: Entry,
    now: Moment,
) -> Entry:
    """The receipt holds all of the request, so that it can be written down again from it."""
    table = law.document.requests
    assert table is not None
    deadline = later(now, table.waits)
    asked = Asked(state.next_seq, request, rule, now, deadline.wall, deadline)
    detail: dict[str, Json] = {
        "request": asked.id,
        **nonce_of(request),
        "state": asked.state,
        "waits_until": format_at(asked.waits_until),
    }
    grounds = Grounds(rule, facts=request.facts, unmet=missing)
    return replace(
        refused,
        type="request",
        outcome="recorded",
        grounds=grounds,
        cost=(),
        detail=detail,
        asks=asked,
    )


def reopened(law: Law, state: State, asked: Asked, now: Moment) -> Entry | None:
    """The same request under a new law, if that leaves it open; it waits no longer than it would.

    One that the new law refuses, or would grant at once, is its principal's to ask for again.
    """
    request = asked.request.model_copy(update={"constitution": law.constitution.digest})
    command = OpenRequest(principal=asked.principal, request=request)
    answer = open_request(law, state, command, now)[-1]
    if answer.asks is None or answer.type != "request":
        return None
    left = asked.waits_until - asked.deadline.wall  # none, unless it was complete
    waits = later(asked.deadline, left)
    deadline = min(waits, answer.asks.deadline, key=lambda one: one.wall)
    if state.watermark.left(deadline, now) <= timedelta():
        return None
    detail = {**(answer.detail or {}), "waits_until": format_at(deadline.wall)}
    return replace(
        answer,
        actor=None,
        proof=None,
        detail={**detail, "reopens": asked.id},
        asks=replace(answer.asks, waits_until=deadline.wall, deadline=deadline),
    )
